"""The columns of a table of documents: those of the contract, and those that travel between stages and never reach a
committed file, whose names begin with `_luke_batch_`.
"""

from collections.abc import Callable, Collection, Sequence
from functools import partial

import numpy as np
import pyarrow as pa

from luke_batch.base.arrays import IntArray
from luke_batch.base.contracts import load_contract
from luke_batch.document.codecs import (
    ERROR_TYPE,
    Codec,
    CoverageColumn,
    ErrorColumn,
    GivenTexts,
    MentionsColumn,
    PairLists,
    RelationsColumn,
    Rows,
    TextVector,
    VectorLists,
)
from luke_batch.document.source import source_column
from luke_batch.document.state import Document, no_spans
from luke_batch.document.texts import source_values, texts_of

INTERNAL = "_luke_batch_"
FRAGMENT = INTERNAL + "fragment"
"""int32: index of the row's fragment in its work item; -1 for a carrier row, which stands for no document."""
ROW = INTERNAL + "row"
"""int64: row in the source file, from 0; -1 for a carrier row."""
ERROR = INTERNAL + "error"
"""struct<stage, error_class, message: string>: why the document failed; null where it did not."""
_FOUND = INTERNAL + "found_"
"""Before the name of a proposer: the spans that it found."""

_PAIRS = pa.list_(pa.struct([("start", pa.int32()), ("end", pa.int32())]))
_TEXTS = pa.list_(pa.string())


def _attribute(name: str, attribute: str, members: tuple[str, str] = ("start", "end")) -> PairLists:
    def get(document: Document) -> IntArray:
        return getattr(document, attribute)

    return PairLists(name, get, lambda document, pairs: setattr(document, attribute, pairs), members)


_OF_CONTRACT: dict[str, Codec] = {
    codec.name: codec
    for codec in (
        _attribute("sentences", "sentences"),
        MentionsColumn("mentions"),
        RelationsColumn("relations"),
        VectorLists("mention_embeddings", "mention_vectors"),
        VectorLists("entity_embeddings", "entity_vectors"),
        TextVector("text_embedding"),
        VectorLists("word_embeddings", "word_vectors"),
        CoverageColumn("coverage"),
    )
}
_BETWEEN_STAGES: tuple[tuple[Codec, pa.DataType], ...] = (
    (ErrorColumn(ERROR), ERROR_TYPE),
    (_attribute(INTERNAL + "words", "words"), _PAIRS),
    (_attribute(INTERNAL + "given", "given"), _PAIRS),
    (_attribute(INTERNAL + "pairs", "given_pairs", ("head", "tail")), _PAIRS),
    (GivenTexts(INTERNAL + "given_labels", "given_labels"), _TEXTS),
    (GivenTexts(INTERNAL + "given_titles", "given_titles"), _TEXTS),
    (GivenTexts(INTERNAL + "given_candidates", "given_candidates"), pa.list_(_TEXTS)),
)


def codec_of(name: str) -> Codec:
    """The codec of a column of the contract: rows, unless another one is known."""
    return _OF_CONTRACT.get(name) or Rows(name)


def add_codec(codec: Codec) -> None:
    """Make the codec of a further column known."""
    _OF_CONTRACT[codec.name] = codec


def write_documents(
    table: pa.Table, documents: Sequence[Document], columns: Collection[str], vector: pa.DataType | None
) -> pa.Table:
    """`table` with the annotation `columns` (names of annotations.v1) and the internal ones set from
    `documents`.

    Args:
        table: source columns; annotation columns that exist are replaced in place.
        documents: one for each row; a failed one gets nulls.
        columns: annotation columns to write.
        vector: fixed_size_list type of the embedding columns; None where none is written.
    """
    contract = load_contract("annotations")
    failed = np.array([document.failure is not None for document in documents], bool)
    for name in contract.types:
        if name in columns:
            kind = contract.field(name, vector).type
            table = set_column(table, name, codec_of(name).write(documents, failed, kind))
    proposers = dict.fromkeys(name for document in documents for name in document.found)
    found = [(_found(name), _PAIRS) for name in proposers]
    for codec, kind in (*_BETWEEN_STAGES, *found):
        table = set_column(table, codec.name, codec.write(documents, failed, kind))
    return table


def read_documents(
    table: pa.Table, text_column: str, columns: Collection[str], source_columns: Collection[str] = ()
) -> list[Document]:
    """Documents of a table that has passed `write_documents`, one for each row, failed ones without annotations.

    Args:
        table: what an earlier stage wrote.
        text_column: where the text is.
        columns: the annotation columns that the job writes; others with such names are the source's.
        source_columns: columns of the source, text or lists of texts, that heads read.
    """
    texts = texts_of(source_column(table, text_column))
    documents = [Document(text=text or "", sentences=no_spans()) for text in texts]
    known = {"sentences", *columns} & set(load_contract("annotations").types)
    found = (name.removeprefix(_FOUND) for name in table.column_names if name.startswith(_FOUND))
    codecs = [*map(codec_of, sorted(known)), *(codec for codec, _ in _BETWEEN_STAGES), *map(_found, found)]
    for codec in codecs:
        if codec.name in table.column_names:
            codec.read(table[codec.name], documents)
    for name in source_columns:
        for document, value in zip(documents, source_values(table, name), strict=True):
            document.source[name] = value
    return documents


def _found(proposer: str) -> Codec:
    def get(document: Document) -> IntArray:
        return document.found.get(proposer, no_spans())

    put: Callable[[Document, IntArray], None] = partial(_put_found, proposer)
    return PairLists(_FOUND + proposer, get, put)


def _put_found(proposer: str, document: Document, spans: IntArray) -> None:
    document.found[proposer] = spans


def set_column(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    """Replace column `name`, or append it."""
    index = table.schema.get_field_index(name)
    field = pa.field(name, values.type)
    return table.append_column(field, values) if index < 0 else table.set_column(index, field, values)


def drop_internal(table: pa.Table) -> pa.Table:
    """`table` without internal columns."""
    return table.drop_columns([name for name in table.column_names if name.startswith(INTERNAL)])
