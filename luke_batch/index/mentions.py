"""A table of annotated documents -> its mentions that have an entity key and a vector."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from luke_batch.base.arrays import FloatArray
from luke_batch.base.errors import InputError
from luke_batch.index.keys import entity_keys
from luke_batch.index.settings import Policy

NO_VECTOR, NO_KEY, NO_DIRECTION = (
    "without a vector",
    "without a key",
    "with a vector that is zero or not finite",
)


@dataclass(frozen=True, slots=True)
class Mentions:
    """Mentions of documents, in their order."""

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


def read_mentions(table: pa.Table, policy: Policy, where: str) -> Mentions:
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
            NO_VECTOR: bare + int((~has_vector).sum()),
            NO_KEY: int((has_vector & ~has_key).sum()),
            NO_DIRECTION: int((~usable).sum()),
        }
    )
    if not kept.all():
        mask = pa.array(kept)
        rows, keys, structs = rows[kept], keys.filter(mask), structs.filter(mask)
        matrix = matrix[kept[has_vector]]
    if policy.normalise:
        norms = np.linalg.norm(matrix, axis=1, keepdims=True)
        matrix = matrix / np.maximum(norms, np.finfo(np.float32).tiny)
    return Mentions(rows, keys, structs, matrix, +skipped)


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
    rows: NDArray[np.int64],
    mentions: NDArray[np.int64],
    vectors: NDArray[np.int64],
    policy: Policy,
    where: str,
) -> None:
    wrong = np.flatnonzero(mentions != vectors)
    if len(wrong):
        first = int(wrong[0])
        raise InputError(
            f"{where}: row {rows[first]} has {mentions[first]} mentions and {vectors[first]} vectors in"
            f" {policy.column}; annotate that file again"
        )
