"""What the builder reads: linked mentions, anchors, redirects and Wikidata ids, as Arrow tables of a few
thousand rows.
"""

from collections import Counter
from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from luke_batch.base.errors import InputError
from luke_batch.evaluation.tables import as_type, struct_member
from luke_batch.titles.aliases_reading import TEXT, batches, linked, named, refuse_nulls, require

LINKS = pa.schema([("name", TEXT), ("title", TEXT), ("qid", TEXT), ("count", pa.int64())])
"""A link or several equal ones: what `mentions` and `anchors` give."""


def mentions(location: str, text_column: str, skipped: Counter[str]) -> Iterator[pa.Table]:
    """The linked mentions of documents as tables of LINKS, each of count 1.

    They are in the column `links`, or, where a file has none, in `mentions` with a member `title`, as in the
    OUTPUT of an annotation. Mentions without title are no links. Those that cannot be used are counted in
    `skipped` by reason. Raises InputError for what cannot be read.
    """
    for path, batch in batches(location, {text_column, "links", "mentions"}):
        found = linked(path, batch, text_column)
        has_title = ~found.mentions.lacks("title")
        skipped["offset outside of the text"] += int((has_title & ~found.pieces.inside).sum())
        kept = pa.array(has_title & found.pieces.inside)
        values = found.mentions.values.filter(kept)
        qids = struct_member(values, "qid") if found.has_qid else pa.nulls(len(values), TEXT)
        names = found.pieces.strings().filter(kept)
        ones = pa.array(np.ones(len(values), np.int64))
        yield pa.table([names, struct_member(values, "title"), qids, ones], schema=LINKS)


def anchors(location: str) -> Iterator[pa.Table]:
    """Rows of name, title and, where they are there, count (else 1) and qid, as tables of LINKS.

    Raises InputError for what cannot be read, a null and a negative count.
    """
    for path, batch in batches(location, set(LINKS.names)):
        with named(path):
            require(path, batch, "name", "title")
            table = {"qid": pa.nulls(len(batch), TEXT), "count": pa.array(np.ones(len(batch), np.int64))}
            given = [name for name in LINKS.names if name in batch.schema.names]
            table |= {name: as_type(batch[name], LINKS.field(name).type) for name in given}
            refuse_nulls(path, table, "name", "title", "count")
            if len(table["count"]) and table["count"].to_numpy().min() < 0:
                raise InputError(f"{path}: column 'count' has negative values; mend or remove them")
        yield pa.table([table[name] for name in LINKS.names], schema=LINKS)


def redirects(location: str) -> Iterator[pa.Table]:
    """Rows of source and target, both titles. Raises InputError for what cannot be read and for nulls."""
    return _pairs(location, "source", "target")


def qids(location: str) -> Iterator[pa.Table]:
    """Rows of title and qid. Raises InputError for what cannot be read and for nulls."""
    return _pairs(location, "title", "qid")


def _pairs(location: str, first: str, second: str) -> Iterator[pa.Table]:
    for path, batch in batches(location, {first, second}):
        with named(path):
            require(path, batch, first, second)
            table = {name: as_type(batch[name], TEXT) for name in (first, second)}
            refuse_nulls(path, table, first, second)
        yield pa.table(table)
