"""What a version of an index says of itself: manifest.json and fragments.parquet."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self, cast

import pyarrow as pa
import pyarrow.parquet as pq

from luke_batch.base.errors import OutputError
from luke_batch.index.settings import NO_FAISS, IndexConfig
from luke_batch.index.sources import Fragment

SCHEMA = "entities.v1"


@dataclass(frozen=True, slots=True)
class Held:
    """A fragment that an index holds, and where its partial aggregates are."""

    fragment: Fragment
    pack: str
    number: int
    """In the pack."""
    mentions: int
    rows: int
    skipped: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a version says of itself."""

    schema: str
    number: int
    created: str
    """ISO 8601 in UTC."""
    luke_batch: str
    """Version of the package that built it."""
    config: dict[str, Any]
    """`IndexConfig`."""
    bits: int
    """Entities lie in 2**bits files, by the first bits of their ids."""
    dimension: int
    model_id: str
    """`Model.identity`."""
    model: dict[str, Any] | None
    """`Model` that made the vectors; None where the annotated files do not name it."""
    sources: list[str]
    entities: int
    mentions: int
    skipped: dict[str, int]
    """Mentions that were left out, by reason."""
    changes: dict[str, int]
    """Fragments new, replaced, removed and kept; entities changed and removed."""
    vectors: dict[str, Any]
    """What the vector index says of itself."""
    recall: dict[str, Any] | None = None
    """recall@10: value, sample, floor. None where it was not measured."""
    seconds: dict[str, float] = field(default_factory=lambda: dict[str, float]())
    """Durations of the steps of the build."""


@dataclass(frozen=True, slots=True)
class Version:
    """A finished version."""

    folder: Path
    manifest: Manifest

    @property
    def config(self) -> IndexConfig:
        """Settings of the index."""
        return IndexConfig.model_validate(self.manifest.config)

    @classmethod
    def open(cls, folder: Path) -> Self:
        """The version in `folder`. OutputError where it has another schema or kind, or is damaged."""
        try:
            values = cast("dict[str, Any]", json.loads((folder / "manifest.json").read_bytes()))
            found = values.get("schema")
        except (OSError, ValueError, AttributeError) as error:
            raise OutputError(
                f"INDEX {folder.parent.parent}: version {folder.name} cannot be read ({error}); build it"
                " again into an empty folder"
            ) from error
        if found != SCHEMA:
            raise OutputError(
                f"INDEX {folder.parent.parent} holds {found} and this version of luke-batch reads {SCHEMA};"
                " build the index again into an empty folder"
            )
        manifest = Manifest(**values)
        if manifest.config["search"]["kind"] == "faiss":
            raise OutputError(
                f"INDEX {folder.parent.parent} is of kind faiss: {NO_FAISS}; build the index again into an empty folder"
            )
        return cls(folder, manifest)

    def held(self) -> list[Held]:
        """Its fragments."""
        rows = pq.read_table(self.folder / "fragments.parquet").to_pylist()
        names = ("key", "source", "path", "bytes", "version", "dimension", "model")
        return [
            Held(
                fragment=Fragment(**{name: row[name] for name in names}),
                skipped=json.loads(row["skipped"]),
                **{name: row[name] for name in ("pack", "number", "mentions", "rows")},
            )
            for row in rows
        ]


def write_fragments(path: Path, held: list[Held]) -> None:
    """Write what `Version.held` reads."""
    rows = [
        {
            **asdict(each.fragment),
            "pack": each.pack,
            "number": each.number,
            "mentions": each.mentions,
            "rows": each.rows,
            "skipped": json.dumps(dict(each.skipped)),
        }
        for each in held
    ]
    pq.write_table(pa.Table.from_pylist(rows), path)
