"""The folder of an index.

    INDEX/index.json                  marks the folder as an index
    INDEX/current -> versions/000002  the version that is searched: a link, replaced as a whole
    INDEX/versions/000002/            manifest.json, fragments.parquet, entities/*.parquet, names/*.parquet
                                      and the vector index, such as entities.lance/
    INDEX/packs/*.arrow               partial aggregates of fragments, see `packs`
    INDEX/building/                   what a build has made so far

A version never changes. A build makes the next one beside it, out of links to files that stay and of new
files, and then swaps the link; so searches see the old version until that moment, and a build that is killed
leaves it as it was. The version before the current one is kept for searches that are under way.
"""

import fcntl
import json
import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from luke_batch.base.errors import IncompleteError, LeaseError, OutputError, UsageError
from luke_batch.index.settings import NO_FAISS, IndexConfig
from luke_batch.index.sources import AnnotatedFragment

SCHEMA = "entities.v1"
_MARK = {"format": "luke-batch index", "schema": SCHEMA}
_KEPT = 2
"""Versions that are kept, the current one included."""


@dataclass(frozen=True, slots=True)
class Held:
    """A fragment that an index holds, and where its partial aggregates are."""

    fragment: AnnotatedFragment
    pack: str
    number: int
    """In the pack."""
    mentions: int
    rows: int
    skipped: dict[str, int]


@dataclass(frozen=True, slots=True)
class IndexManifest:
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
    manifest: IndexManifest

    @property
    def config(self) -> IndexConfig:
        """Settings of the index."""
        return IndexConfig.model_validate(self.manifest.config)

    @classmethod
    def open(cls, folder: Path) -> Self:
        """The version in `folder`. OutputError where it is damaged, or of another kind."""
        try:
            manifest = IndexManifest(**json.loads((folder / "manifest.json").read_bytes()))
        except (OSError, ValueError, TypeError) as error:
            raise OutputError(
                f"INDEX {folder.parent.parent}: version {folder.name} cannot be read ({error}); build it"
                " again into an empty folder"
            ) from error
        if manifest.config["search"]["kind"] == "faiss":
            raise OutputError(
                f"INDEX {folder.parent.parent} is of kind faiss: {NO_FAISS}; build the index again into an empty folder"
            )
        return cls(folder, manifest)

    def held(self) -> list[Held]:
        """Its fragments."""
        found: list[Held] = []
        for row in pq.read_table(self.folder / "fragments.parquet").to_pylist():
            fragment = AnnotatedFragment(**{each.name: row.pop(each.name) for each in fields(AnnotatedFragment)})
            found.append(Held(fragment, **{**row, "skipped": json.loads(row["skipped"])}))
        return found


def _write_fragments(path: Path, held: list[Held]) -> None:
    """Write what `Version.held` reads."""
    rows = [asdict(each) for each in held]
    table = [{**row.pop("fragment"), **row, "skipped": json.dumps(row["skipped"])} for row in rows]
    pq.write_table(pa.Table.from_pylist(table), path)


class IndexFolder:
    """An index on a local disk, or one that all nodes have mounted."""

    def __init__(self, path: str) -> None:
        if "://" in path:
            raise OutputError(
                f"INDEX {path}: an index is a local folder, as its files are linked; build it on a disk and"
                " copy the folder of its current version to the store"
            )
        self.path = Path(path).expanduser().absolute()

    @property
    def packs(self) -> Path:
        """Folder of the packs."""
        return self.path / "packs"

    @property
    def building(self) -> Path:
        """Folder of the version that is being built."""
        return self.path / "building"

    def current(self) -> Version | None:
        """The version that is searched; None in an index without a finished version, or without a folder.

        Raises OutputError where the folder is no index, or one of another schema.
        """
        if not self.path.exists():
            return None
        self._check_mark()
        link = self.path / "current"
        return Version.open(link.resolve()) if link.is_symlink() else None

    def searchable(self) -> Version:
        """The version that is searched; UsageError where there is none."""
        found = self.current()
        if found is None:
            what = "has no finished version" if self.path.exists() else "does not exist"
            raise UsageError(f"INDEX {self.path} {what}; run `luke-batch index build ANNOTATED {self.path}`")
        return found

    @contextmanager
    def locked(self) -> Generator[None]:
        """The only build in this folder, which is made where it is missing.

        Raises LeaseError where another build is at work, OutputError where the folder cannot be used.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if not any(self.path.iterdir()):
                write_whole(self.path / "index.json", json.dumps(_MARK).encode())
            self._check_mark()
            handle = os.open(self.path / "lock", os.O_CREAT | os.O_RDWR)
        except OSError as error:
            raise OutputError(f"INDEX {self.path} cannot be written: {error.strerror or error}") from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the kernel frees it, however the process ends
        except OSError as error:
            os.close(handle)
            raise LeaseError(f"INDEX {self.path}: another build is at work there; wait for it") from error
        try:
            yield
        except OSError as error:
            raise IncompleteError(f"INDEX {self.path}: {error}; the same command goes on") from error
        finally:
            os.close(handle)

    def publish(self, manifest: IndexManifest, held: list[Held]) -> Version:
        """Make what lies in `building/version` the current version, and remove what nobody needs."""
        made = self.building / "version"
        _write_fragments(made / "fragments.parquet", held)
        write_whole(made / "manifest.json", json.dumps(asdict(manifest), indent=2, ensure_ascii=False).encode())
        target = self.path / "versions" / f"{manifest.number:06d}"
        target.parent.mkdir(exist_ok=True)
        _flush(made, self.path / "current")
        made.replace(target)
        link = self.path / "current.next"
        link.unlink(missing_ok=True)
        link.symlink_to(target.relative_to(self.path))
        link.replace(self.path / "current")
        self.tidy(manifest.number, {each.pack for each in held})
        return Version(target, manifest)

    def next_number(self) -> int:
        """Number of the version that a build makes; a folder of that number was never published, and goes."""
        current = self.current()
        number = 1 if current is None else current.manifest.number + 1
        shutil.rmtree(self.path / "versions" / f"{number:06d}", ignore_errors=True)
        return number

    def drop_unfinished(self) -> None:
        """Remove what a build has left which did not finish, so that nothing of it is taken over."""
        shutil.rmtree(self.building, ignore_errors=True)

    def tidy(self, number: int, packs: set[str], *, kept: int = _KEPT) -> None:
        """Remove what version `number`, the current one, and its `packs` leave over. `kept`: versions that stay."""
        for folder in (self.path / "versions").iterdir():
            if folder.name <= f"{number - kept:06d}":
                shutil.rmtree(folder, ignore_errors=True)
        for pack in self.packs.glob("*"):
            if pack.name not in packs:
                pack.unlink(missing_ok=True)
        shutil.rmtree(self.building, ignore_errors=True)

    def _check_mark(self) -> None:
        try:
            mark = json.loads((self.path / "index.json").read_bytes())
            found = mark.get("schema") if mark.get("format") == _MARK["format"] else None
        except (OSError, ValueError, AttributeError):
            found = None
        if found is None:
            raise OutputError(f"INDEX {self.path} is a folder of something else; name an empty or a new folder")
        if found != SCHEMA:
            raise OutputError(
                f"INDEX {self.path} holds {found} and this version of luke-batch knows {SCHEMA}; build into"
                " an empty folder"
            )


def is_marked(folder: Path) -> bool:
    """Whether a folder is an index."""
    try:
        return bool(json.loads((folder / "index.json").read_bytes()).get("format") == _MARK["format"])
    except (OSError, ValueError, AttributeError):
        return False


def write_whole(path: Path, data: bytes) -> None:
    """Create or replace `path` as a whole."""
    temporary = path.with_name(path.name + ".part")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _flush(folder: Path, before: Path) -> None:
    """The files of a version reach the disk before the link to it does; those of `before` are there."""
    known = {path.stat().st_ino for path in before.resolve().rglob("*")}
    for path in folder.rglob("*"):
        if path.is_file() and path.stat().st_ino not in known:
            with path.open("rb") as file:
                os.fsync(file.fileno())


def link_tree(source: Path, target: Path) -> None:
    """The same files below `target`: links where the file system has them, else copies."""
    shutil.copytree(source, target, copy_function=link_file)


def link_file(source: str | Path, target: str | Path) -> None:
    """One such file."""
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:
        shutil.copy2(source, target)
