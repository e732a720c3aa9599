"""Annotated documents -> their mentions that have a key and a vector -> partial aggregates: one row for each entity of
one fragment.

A row has the sum of the entity's vectors in this fragment, in float64 and in the order of the documents, and
counts of everything that an entity is said to have. It depends on the fragment and the policy alone, so a
fragment that stays is never read again.
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from luke_batch.base.arrays import FloatArray
from luke_batch.base.errors import InputError
from luke_batch.index.groups import Counts, Ints, group_starts, places, segment_sums
from luke_batch.index.keys import entity_keys, ids_of, member
from luke_batch.index.settings import Policy

_CONTEXT = pa.struct([("document", pa.string()), ("text", pa.string()), ("start", pa.int32()), ("end", pa.int32())])
"""Part of a document around a mention; start and end are code points of `text`."""


@dataclass(frozen=True, slots=True)
class KeyedMentions:
    """Mentions of documents that have a key and a vector, in their order."""

    rows: NDArray[np.int64]
    """Row of the table, (n,)."""
    keys: pa.StringArray
    structs: pa.StructArray
    """As annotated."""
    vectors: FloatArray
    """(n, dimension)."""
    skipped: Counter[str]
    """Mentions that were left out, by reason."""


def columns_of(policy: Policy, schema: pa.Schema) -> list[str]:
    """Columns of a fragment that the policy reads."""
    wanted = ("mentions", policy.column, policy.id_column, policy.text_column, policy.lang_column)
    return [name for name in wanted if name is not None and name in schema.names]


def vector_type(schema: pa.Schema, policy: Policy, where: str) -> pa.FixedSizeListType:
    """The type of one mention's vector; InputError where `where` has no such column."""
    for name in ("mentions", policy.column):
        if name not in schema.names:
            raise InputError(
                f"{where} has no column {name}; annotate with `ner` (or given mentions) and"
                f" `embeddings` heads, or choose another --column"
            )
    kind = schema.field(policy.column).type
    inner = kind.value_type if pa.types.is_list(kind) or pa.types.is_large_list(kind) else kind
    if not pa.types.is_fixed_size_list(inner) or not pa.types.is_floating(inner.value_type):
        raise InputError(f"{where}: column {policy.column} is {kind}, not list<fixed_size_list<float>>")
    mentions = schema.field("mentions").type
    if not pa.types.is_list(mentions) or not pa.types.is_struct(mentions.value_type):
        raise InputError(f"{where}: column mentions is {mentions}, not a list of structs")
    return inner


def read_mentions(table: pa.Table, policy: Policy, where: str) -> KeyedMentions:
    """Flatten `table`; InputError, which begins with `where`, if mentions and vectors do not go together."""
    dimension = vector_type(table.schema, policy, where).list_size
    lists, embedded = _whole(table["mentions"]), _whole(table[policy.column])
    present = np.flatnonzero(embedded.is_valid().to_numpy(zero_copy_only=False))
    bare = len(lists.flatten())
    if len(present) < len(embedded):  # documents whose mentions nobody embedded
        lists, embedded = lists.take(pa.array(present)), embedded.take(pa.array(present))
    lengths = lists.value_lengths().fill_null(0).to_numpy()
    _check_parallel(present, lengths, embedded.value_lengths().to_numpy(), policy, where)
    structs, vectors = lists.flatten(), embedded.flatten()
    bare -= len(structs)
    rows = np.repeat(present, lengths)
    keys = entity_keys(structs, policy)
    has_vector = vectors.is_valid().to_numpy(zero_copy_only=False)
    has_key = keys.is_valid().to_numpy(zero_copy_only=False)
    matrix = _matrix(vectors.drop_null() if vectors.null_count else vectors, dimension)
    usable = np.isfinite(matrix).all(axis=1) & matrix.any(axis=1)
    kept = has_vector & has_key
    kept[has_vector] &= usable
    skipped = Counter(
        {
            "without a vector": bare + int((~has_vector).sum()),
            "without a key": int((has_vector & ~has_key).sum()),
            "with a vector that is zero or not finite": int((~usable).sum()),
        }
    )
    if not kept.all():
        mask = pa.array(kept)
        rows, keys, structs = rows[kept], keys.filter(mask), structs.filter(mask)
        matrix = matrix[kept[has_vector]]
    if policy.normalise:
        norms = np.linalg.norm(matrix, axis=1, keepdims=True)
        matrix = matrix / np.maximum(norms, np.finfo(np.float32).tiny)
    return KeyedMentions(rows, keys, structs, matrix, +skipped)


def _whole(column: pa.ChunkedArray) -> pa.ListArray:
    """One list array, offsets of 32 bits."""
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):  # of several chunks that did not fit one array
        raise InputError("a fragment holds more than 2**31 values; annotate with smaller output.max_bytes")
    return pc.cast(array, pa.list_(array.type.value_type)) if pa.types.is_large_list(array.type) else array


def _matrix(vectors: pa.FixedSizeListArray, dimension: int) -> FloatArray:
    """(n, dimension) float32, which holds float16 exactly."""
    values = vectors.flatten()
    if values.null_count:
        values = values.fill_null(float("nan"))
    return values.to_numpy(zero_copy_only=False).reshape(-1, dimension).astype(np.float32, copy=False)


def _check_parallel(
    rows: NDArray[np.int64], mentions: NDArray[np.int64], vectors: NDArray[np.int64], policy: Policy, where: str
) -> None:
    wrong = np.flatnonzero(mentions != vectors)
    if len(wrong):
        first = int(wrong[0])
        raise InputError(
            f"{where}: row {rows[first]} has {mentions[first]} mentions and {vectors[first]} vectors in"
            f" {policy.column}; annotate that file again"
        )


@dataclass(frozen=True, slots=True)
class Partials:
    """Entities of one or more fragments, one row for each entity and fragment."""

    table: pa.Table
    """id, key, count, documents, aliases, titles, labels, languages, contexts."""
    singles: FloatArray
    """Vectors of the rows with count 1, in their order: float32 holds them exactly."""
    sums: NDArray[np.float64]
    """Sums of the other rows, in their order."""
    skipped: Counter[str]


def aggregate(table: pa.Table, policy: Policy, name: str, where: str) -> Partials:
    """Partial aggregates of one fragment, by key.

    Args:
        table: its documents. policy: of the index. name: of the fragment, for documents without ids. where:
        for messages.
    """
    mentions = read_mentions(table, policy, where)
    encoded = mentions.keys.dictionary_encode()
    keys = encoded.dictionary
    groups = encoded.indices.to_numpy().astype(np.int64)
    order = np.argsort(groups, kind="stable")
    ordered = groups[order]
    starts = group_starts(ordered)
    count = len(starts)
    counts = np.diff(np.append(starts, len(ordered)))
    languages = _language(table, mentions.rows, policy)
    structs = mentions.structs
    columns = {
        "id": pa.array(ids_of(keys.to_pylist())),
        "key": keys,
        "count": pa.array(counts, pa.int64()),
        "documents": pa.array(_documents(mentions.rows[order], ordered, count)),
        "aliases": Counts.of(groups, member(structs, "text")).lists(count, "text"),
        "titles": Counts.of(groups, member(structs, "title")).lists(count, "title"),
        "labels": Counts.of(groups, member(structs, "label")).lists(count, "label"),
        "languages": Counts.of(groups, languages).lists(count, "language"),
        "contexts": _contexts(table, mentions, order, ordered, count, policy, name),
    }
    several = counts > 1
    inner = np.cumsum(counts[several]) - counts[several]
    sums = segment_sums(mentions.vectors, order[_spread(starts[several], counts[several])], inner)
    singles = mentions.vectors[order[starts[~several]]]
    return Partials(pa.table(columns), singles, sums, mentions.skipped)


def _spread(starts: Ints, lengths: Ints) -> Ints:
    """The numbers of [start, start + length) for each pair, one after another."""
    total = int(lengths.sum())
    if not total:
        return np.empty(0, np.int64)
    before = np.cumsum(lengths) - lengths
    return np.arange(total) + np.repeat(starts - before, lengths)


def _documents(rows: Ints, ordered: Ints, count: int) -> Ints:
    """Distinct documents of each group; mentions of a group are in the order of their documents."""
    return np.bincount(ordered[_fresh(rows, ordered)], minlength=count).astype(np.int64)


def _fresh(rows: Ints, ordered: Ints) -> NDArray[np.bool_]:
    """Which mentions are the first of their group in a document."""
    fresh = np.ones(len(rows), bool)
    fresh[1:] = (rows[1:] != rows[:-1]) | (ordered[1:] != ordered[:-1])
    return fresh


def _language(table: pa.Table, rows: Ints, policy: Policy) -> pa.Array:
    if policy.lang_column is None or policy.lang_column not in table.column_names:
        return pa.nulls(len(rows), pa.string())
    return _strings(table[policy.lang_column]).take(pa.array(rows))


def _contexts(
    table: pa.Table, mentions: KeyedMentions, order: Ints, ordered: Ints, count: int, policy: Policy, name: str
) -> pa.ListArray:
    """list<_CONTEXT>: the first mention of each group in each of its first documents."""
    first = _fresh(mentions.rows[order], ordered)
    groups, chosen = ordered[first], order[first]
    near = places(groups) < policy.contexts
    groups, chosen = groups[near], chosen[near]
    at = mentions.rows[chosen]
    offsets = np.searchsorted(groups, np.arange(count + 1)).astype(np.int32)
    members = [_document_ids(table, at, policy, name), *_cut(table, mentions, chosen, policy)]
    return pa.ListArray.from_arrays(pa.array(offsets), pa.StructArray.from_arrays(members, fields=list(_CONTEXT)))


def _cut(table: pa.Table, mentions: KeyedMentions, chosen: Ints, policy: Policy) -> tuple[pa.Array, pa.Array, pa.Array]:
    """Contexts of the `chosen` mentions: their texts, and where the mention starts and ends in them."""
    structs = mentions.structs.take(pa.array(chosen))
    surfaces = pc.fill_null(member(structs, "text"), "").to_pylist()
    if not {"start", "end"}.issubset(structs.type.names) or policy.text_column not in table.column_names:
        lengths = pa.array([len(surface) for surface in surfaces], pa.int32())
        return pa.array(surfaces, pa.string()), pa.array(np.zeros(len(chosen), np.int32)), lengths
    starts, ends = (pc.fill_null(member(structs, side, pa.int64()), 0).to_numpy() for side in ("start", "end"))
    rows, which = np.unique(mentions.rows[chosen], return_inverse=True)
    documents = pc.fill_null(_strings(table[policy.text_column]).take(pa.array(rows)), "").to_pylist()
    begins, stops = np.maximum(0, starts - policy.context_characters), ends + policy.context_characters
    bounds = zip(which.tolist(), begins.tolist(), stops.tolist(), strict=True)
    texts = pa.array([documents[number][begin:stop] for number, begin, stop in bounds], pa.string())
    return texts, pa.array(starts - begins, pa.int32()), pa.array(ends - begins, pa.int32())


def _document_ids(table: pa.Table, rows: Ints, policy: Policy, name: str) -> pa.Array:
    numbered = pa.array([f"{name}#{row}" for row in rows.tolist()], pa.string())
    if policy.id_column not in table.column_names:
        return numbered
    return pc.call_function("coalesce", [_strings(table[policy.id_column]).take(pa.array(rows)), numbered])


def _strings(column: pa.ChunkedArray) -> pa.Array:
    """A column as one string array."""
    array = column.combine_chunks()
    return array.cast(pa.string()) if not pa.types.is_string(array.type) else array
