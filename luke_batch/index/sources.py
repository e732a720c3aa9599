"""Annotated outputs as an index sees them: their fragments, and the model that made their vectors.

A fragment is one output file. Its key is the file's name with the hash of the output that it lies in: keys of
one output sort by name alone, so that sums do not depend on where a corpus lies. A file may be rewritten
under its name (`luke-batch replay`), so its content counts as well.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol, Self, cast

import pyarrow as pa
import pyarrow.parquet as pq

from luke_batch.base.errors import FragmentError, InputError
from luke_batch.corpus.committed import list_data, shown
from luke_batch.corpus.footers import Footer, inspect_all
from luke_batch.corpus.manifest import without_secrets
from luke_batch.corpus.storage import RUNS, Storage, StoredFile, base_name, join
from luke_batch.index.partials import columns_of, vector_type
from luke_batch.index.settings import Policy

_MODELS, _RUN = b"luke_batch.models", b"luke_batch.run"
UNKNOWN = "unknown"
"""Model of files that do not name one."""


@dataclass(frozen=True, slots=True)
class AnnotatedFragment:
    """One unit of partial aggregates."""

    key: str
    """Names the fragment and its content."""
    source: str
    """The annotated output, as it is recorded."""
    path: str
    """Relative to the output."""
    bytes: int
    version: str
    """Changes when the file is rewritten; the same one is not looked into."""
    dimension: int = 0
    """Of its vectors; 0 until the file was looked into, like all that follows."""
    model: str = UNKNOWN
    """`Model.identity`."""

    @property
    def where(self) -> str:
        """For messages."""
        return join(self.source, self.path)


@dataclass(frozen=True, slots=True)
class Model:
    """What made the vectors, as the run manifest tells it; enough to embed a query alike."""

    path: str
    weights: str | None = None
    revision: str | None = None
    precision: str = "float32"
    add_prefix_space: bool | None = None
    context: str | None = None
    joint: bool = True

    @property
    def identity(self) -> str:
        """Equal for models whose vectors may be compared; where the checkpoint lies does not matter."""
        facts = {name: value for name, value in asdict(self).items() if name != "path" or not self.weights}
        return hashlib.blake2b(json.dumps(facts, sort_keys=True).encode(), digest_size=8).hexdigest()


class Source(Protocol):
    """Where fragments come from. Pickles."""

    @property
    def name(self) -> str:
        """As it is recorded."""
        ...

    def fragments(self, known: dict[tuple[str, str], AnnotatedFragment], policy: Policy) -> Iterable[AnnotatedFragment]:
        """All fragments; those that `known` (by source and path) has with the same version as they are
        there. InputError where there is none or one cannot be used.
        """
        ...

    def model(self, identity: str) -> Model | None:
        """The model of that identity, where `fragments` has met it."""
        ...

    def read(self, fragment: AnnotatedFragment, policy: Policy) -> pa.Table:
        """Its documents, with the columns that the policy reads. InputError where it cannot be read."""
        ...


class AnnotatedSource:
    """The OUTPUT of `luke-batch annotate`, local or `s3://`."""

    def __init__(self, url: str) -> None:
        self._storage = Storage.at(url)
        self._models: dict[str, Model] = {}
        self._of_run: dict[tuple[str, str], Model | None] = {}

    @property
    def name(self) -> str:
        """Its URL, without secrets."""
        return without_secrets(self._storage.url)

    def fragments(self, known: dict[tuple[str, str], AnnotatedFragment], policy: Policy) -> list[AnnotatedFragment]:
        """See `Source`."""
        found: list[AnnotatedFragment] = []
        fresh: list[StoredFile] = []
        for file in self._shown():
            held = known.get((self.name, file.path))
            if held is not None and (held.version, held.bytes) == (file.version, file.size):
                found.append(held)
            else:
                fresh.append(file)
        for file, footer in zip(fresh, inspect_all(self._storage, fresh), strict=True):
            if isinstance(footer, FragmentError):
                raise self._damaged(footer) from footer
            found.append(self._fragment(file, footer, policy))
        return found

    def model(self, identity: str) -> Model | None:
        """See `Source`."""
        return self._models.get(identity)

    def read(self, fragment: AnnotatedFragment, policy: Policy) -> pa.Table:
        """See `Source`."""
        try:
            with self._storage.open(fragment.path) as file:
                parquet = pq.ParquetFile(file, page_checksum_verification=True)
                return parquet.read(columns_of(policy, parquet.schema_arrow), use_threads=False)
        except (OSError, pa.ArrowException) as error:
            raise self._damaged(error) from error

    def _shown(self) -> list[StoredFile]:
        try:
            data = list_data(self._storage)
            if data.torn:
                raise FragmentError(f"{data.torn[0].path} is no complete Parquet file")
            files = [each.file for found in data.committed.values() for each in shown(self._storage, found)]
        except FragmentError as error:
            raise self._damaged(error) from error
        except OSError as error:
            raise InputError(f"ANNOTATED {self.name} cannot be listed: {error}") from error
        if not files:
            raise InputError(
                f"ANNOTATED {self.name} holds no committed file; run `luke-batch annotate INPUT {self.name}` first"
            )
        return files

    def _fragment(self, file: StoredFile, footer: Footer, policy: Policy) -> AnnotatedFragment:
        where = join(self.name, file.path)
        try:
            schema = footer.schema
        except FragmentError as error:
            raise self._damaged(error) from error
        place = hashlib.blake2b(self.name.encode(), digest_size=4).hexdigest()
        model = self._model_of(schema)
        self._models[model.identity] = model
        name = base_name(file.path).removesuffix(".parquet")
        return AnnotatedFragment(
            key=f"{name}/{footer.content_id}/{place}",
            source=self.name,
            path=file.path,
            bytes=file.size,
            version=file.version,
            dimension=vector_type(schema, policy, where).list_size,
            model=model.identity,
        )

    def _model_of(self, schema: pa.Schema) -> Model:
        metadata = cast("dict[bytes, bytes]", schema.metadata or {})
        models, run = metadata.get(_MODELS, b"{}").decode(), metadata.get(_RUN, b"").decode().split(",")[-1]
        if (models, run) not in self._of_run:
            self._of_run[models, run] = self._look_up(json.loads(models), run)
        return self._of_run[models, run] or Model(UNKNOWN)

    def _look_up(self, models: dict[str, dict[str, str | None]], run: str) -> Model | None:
        """From the manifest of the run; without one from the checkpoints that the file names."""
        try:
            manifest = json.loads(self._storage.read_bytes(join(RUNS, f"{run}.json")))
            heads = [head for head in manifest["config"]["heads"] if head["head"] == "embeddings"]
            settings, head = manifest["config"]["models"], heads[0]
        except (OSError, ValueError, KeyError, IndexError):
            if not models:
                return None
            path, facts = sorted(models.items())[0] if len(models) == 1 else (json.dumps(models), {})
            return replace(Model(path), **facts)
        return _model(head, settings.get(head["model"], {"path": head["model"]}), models)

    def _damaged(self, error: Exception) -> InputError:
        cause = " ".join(str(error).split())
        return InputError(f"ANNOTATED {self.name}: {cause}; remove that file and annotate again")


def _model(head: dict[str, Any], settings: dict[str, Any], models: dict[str, dict[str, str | None]]) -> Model:
    facts = models.get(settings["path"], {})
    return Model(
        path=settings["path"],
        weights=facts.get("weights"),
        revision=facts.get("revision"),
        precision=settings.get("precision", "float32"),
        add_prefix_space=settings.get("add_prefix_space"),
        context=head.get("context"),
        joint=head.get("joint", True),
    )


@dataclass(frozen=True, slots=True)
class AnnotatedSources:
    """Several sources as one."""

    members: tuple[Source, ...]

    @classmethod
    def at(cls, urls: Sequence[str]) -> Self:
        """Annotated outputs; InputError where one is named twice."""
        members = tuple(AnnotatedSource(url) for url in urls)
        names = [member.name for member in members]
        double = next((name for name in names if names.count(name) > 1), None)
        if double is not None:
            raise InputError(f"ANNOTATED {double} is named twice")
        return cls(members)

    def read(self, fragment: AnnotatedFragment, policy: Policy) -> pa.Table:
        """The documents of a fragment."""
        return next(each for each in self.members if each.name == fragment.source).read(fragment, policy)

    def model(self, identity: str) -> Model | None:
        """The model of that identity."""
        return next((found for each in self.members if (found := each.model(identity))), None)


def alike(fragments: Sequence[AnnotatedFragment]) -> list[AnnotatedFragment]:
    """Those whose vectors are of one model, its settings and dimension, as others cannot be compared with them: of the
    model that most bytes of annotation are of. After an upgrade that is the new one, whatever old files stay.
    """
    weights: Counter[tuple[str, int]] = Counter()
    for each in fragments:
        weights[each.model, each.dimension] += each.bytes
    chosen = max(weights, key=lambda kind: (weights[kind], kind))
    return [each for each in fragments if (each.model, each.dimension) == chosen]
