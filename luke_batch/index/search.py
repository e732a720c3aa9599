"""Search in an entity index: the Python API.

index = EntityIndex.open("people.index")
index.search(["Marie Curie", "She met [[him]] in Paris."], k=5, labels=["PER"])
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
import pyarrow as pa

from luke_batch.base.arrays import FloatArray
from luke_batch.base.errors import UsageError
from luke_batch.index.entities import EntityTable, unit, vectors_of
from luke_batch.index.vectors import VectorIndex, condition
from luke_batch.index.versions import IndexFolder, IndexManifest, Version

OPEN, CLOSE = "[[", "]]"


@dataclass(frozen=True, slots=True)
class MarkedText:
    """A text with one mention."""

    text: str
    """Without the marks."""
    start: int
    """Code points, like `end`."""
    end: int

    @classmethod
    def parse(cls, query: str) -> Self | None:
        """None for a query without marks; UsageError where they are not those of one mention."""
        if OPEN not in query and CLOSE not in query:
            return None
        before, opened, rest = query.partition(OPEN)
        mention, closed, after = rest.partition(CLOSE)
        if not opened or not closed or any(mark in mention + after for mark in (OPEN, CLOSE)):
            raise UsageError(f"query {query!r}: mark one mention, as in 'She met {OPEN}Marie Curie{CLOSE} in Paris.'")
        # Blanks inside the marks are no part of the name.
        lead = len(mention) - len(mention.lstrip())
        if not mention.strip():
            raise UsageError(f"query {query!r}: there is nothing between {OPEN} and {CLOSE}")
        start = len(before) + lead
        return cls(before + mention + after, start, start + len(mention.strip()))


class Embedder:
    """Embeds marked mentions with the model that made the vectors of an index, in this process."""

    def __init__(self, model: dict[str, Any]) -> None:
        # Here, not above: who searches by name needs no torch.
        from luke_batch.annotate.annotator import Annotator
        from luke_batch.config import JobConfig

        revision = f"@{model['revision']}" if model["revision"] else ""
        path = str(model["path"])
        settings = {
            "input": {"id_column": None, "mentions_column": "given"},
            "models": {
                "main": {
                    "path": path if "@" in path else path + revision,
                    "precision": model["precision"],
                    "add_prefix_space": model["add_prefix_space"],
                    "weights_hash": model["weights"],
                }
            },
            "heads": [
                {
                    "head": "embeddings",
                    "spans": "given",
                    "of": "mentions",
                    "context": model["context"],
                    "joint": model["joint"],
                }
            ],
        }
        self._annotator = Annotator.from_config(JobConfig.model_validate(settings))

    def embed(self, queries: Sequence[MarkedText]) -> FloatArray:
        """(queries, dimension). UsageError where a mention gets no vector."""
        spans = pa.list_(pa.struct([("start", pa.int32()), ("end", pa.int32())]))
        given = [[{"start": query.start, "end": query.end}] for query in queries]
        table = pa.table({"text": [query.text for query in queries], "given": pa.array(given, spans)})
        annotated = self._annotator.annotate(table)
        for query, error, vectors in zip(
            queries, annotated["error"].to_pylist(), annotated["mention_embeddings"], strict=True
        ):
            if error is not None or not vectors.is_valid or not vectors.values[0].is_valid:
                cause = "its mention has no words that the model knows" if error is None else error["message"]
                raise UsageError(f"query {query.text!r} cannot be embedded: {cause}")
        return vectors_of(annotated["mention_embeddings"].combine_chunks().flatten())


class EntityIndex:
    """One version of an index, open for searches. Later builds do not change what it finds."""

    def __init__(self, version: Version) -> None:
        self._version = version
        self._table = EntityTable.of(version)
        self._vector_index = VectorIndex(version.folder, version.manifest.vectors)

    @classmethod
    def open(cls, path: str) -> Self:
        """The current version of the index in the folder `path`.

        Raises:
            UsageError: there is no index, none that is finished, or one of another schema.
        """
        return cls(IndexFolder(path).searchable())

    @property
    def _where(self) -> str:
        """For messages."""
        return f"INDEX {self._version.folder.parent.parent}"

    @property
    def manifest(self) -> IndexManifest:
        """What the version says of itself: model, policy, counts, recall."""
        return self._version.manifest

    def entities(self, columns: Sequence[str] | None = None) -> pa.RecordBatchReader:
        """The entity table (`schemas/entities.v1.json`), some hundred rows at a time, in no order of its own.

        columns: in this order; None: all.
        """
        return self._table.reader(columns)

    def search(
        self,
        queries: Sequence[str],
        k: int = 10,
        *,
        labels: Sequence[str] = (),
        languages: Sequence[str] = (),
        least: int = 1,
    ) -> pa.Table:
        """The `k` nearest entities of each query, by query, nearest first.

        A query is the name, key or Wikidata item of an entity, which is then left out of what is found, or a
        text in which a mention is marked with double brackets. A name that several entities share is that of
        the one with most mentions under it.

        Args:
            queries: as above. k: how many for each. labels, languages: of entities that may be found, any of
            these. least: number of mentions that they must have.

        Returns:
            Columns query (int32, index into `queries`), id, score (cosine, float32), key, name, label,
            languages, count.

        Raises:
            UsageError: no entity has that name, or a text cannot be embedded.
        """
        self._check(k)
        own = self.resolve(queries)
        vectors = self._vectors(queries, own)
        found = self.nearest(vectors, k + 1, labels=labels, languages=languages, least=least)
        return _first(found, own, k)

    def nearest(
        self,
        vectors: FloatArray,
        k: int = 10,
        *,
        labels: Sequence[str] = (),
        languages: Sequence[str] = (),
        least: int = 1,
    ) -> pa.Table:
        """The `k` nearest entities of each of `vectors`, (n, dimension); as `search`."""
        self._check(k)
        if vectors.ndim != 2 or vectors.shape[1] != self._table.dimension:
            raise UsageError(
                f"vectors of shape {vectors.shape}: the index has {self._table.dimension} dimensions; pass"
                f" (n, {self._table.dimension})"
            )
        return self._vector_index.nearest(unit(vectors), k, condition(labels, languages, least))

    def resolve(self, queries: Sequence[str]) -> list[int | None]:
        """Id of the entity that each query names; None for a marked text. UsageError as in `search`."""
        texts = [MarkedText.parse(query) for query in queries]
        names = [query for query, text in zip(queries, texts, strict=True) if text is None]
        found = dict(zip(names, self._table.named(names), strict=True))
        for name, ids in found.items():
            if not ids:
                raise UsageError(
                    f"no entity of {self._where} is named {name!r}; search with a text instead, its mention"
                    f" marked: '… {OPEN}{name}{CLOSE} …'"
                )
        return [found[query][0] if text is None else None for query, text in zip(queries, texts, strict=True)]

    def named(self, name: str) -> pa.Table:
        """Entities of that name, key or Wikidata item (columns of the entity table without the vector), those
        with most mentions under it first.
        """
        (ids,) = self._table.named([name])
        columns = [each for each in self.entities().schema.names if each != "vector"]
        rows = self._table.rows(ids, columns)
        place = {id: number for number, id in enumerate(rows["id"].to_pylist())}
        return rows.take(pa.array([place[id] for id in ids], pa.int64()))

    def _vectors(self, queries: Sequence[str], own: Sequence[int | None]) -> FloatArray:
        rows = self._table.rows([id for id in own if id is not None], ["vector"])
        known = dict(zip(rows["id"].to_pylist(), vectors_of(rows["vector"].combine_chunks()), strict=True))
        marked = [text for query in queries if (text := MarkedText.parse(query)) is not None]
        embedded = iter(self._embedder.embed(marked)) if marked else iter(())
        vectors = [next(embedded) if id is None else known[id] for id in own]
        return np.array(vectors, np.float32).reshape(-1, self._table.dimension)

    @cached_property
    def _embedder(self) -> Embedder:
        manifest = self._version.manifest
        if self._version.config.policy.column != "mention_embeddings":
            raise UsageError(
                f"{self._where} holds {self._version.config.policy.column}, and a text gets a mention's"
                " vector; search by name"
            )
        if manifest.model is None:
            raise UsageError(f"{self._where}: its annotated files do not name the model that made them; search by name")
        return Embedder(manifest.model)

    def _check(self, k: int) -> None:
        if k < 1:
            raise UsageError(f"k is {k}; ask for at least one entity")


def _first(found: pa.Table, own: Sequence[int | None], k: int) -> pa.Table:
    """The first `k` of each query, without the entity that it names."""
    queries, ids = found["query"].to_numpy(), found["id"].to_numpy()
    mine = np.array([-1 if id is None else id for id in own], np.int64)
    other = ids != mine[queries] if len(queries) else np.zeros(0, bool)
    found, queries = found.filter(pa.array(other)), queries[other]
    starts = np.searchsorted(queries, queries)
    return found.filter(pa.array(np.arange(len(queries)) - starts < k))
