"""Links added up while they are read, so that a corpus may have more of them than memory holds."""

from collections import Counter
from collections.abc import Iterable

import pyarrow as pa
import pyarrow.compute as pc

from luke_batch.text.names.name_forms import normalise
from luke_batch.titles.aliases_inputs import LINKS
from luke_batch.titles.aliases_reading import TEXT
from luke_batch.titles.redirects import written

_PENDING = 4_000_000
"""Rows that are collected before equal ones are added up."""


def collect(tables: Iterable[pa.Table], skipped: Counter[str]) -> pa.Table:
    """The links of `tables` (of LINKS) with equal ones added up, names and titles in their forms.

    Those whose name or title is blank are left out and counted in `skipped`.
    """
    done, pending, rows = [LINKS.empty_table()], list[pa.Table](), 0
    for table in tables:
        pending.append(_added_up(table))
        rows += pending[-1].num_rows
        if rows >= _PENDING:
            done, pending, rows = [_formed([*done, *pending])], [], 0
    links = _formed([*done, *pending])
    full = [pc.call_function("not_equal", [links[name], ""]).to_numpy() for name in ("name", "title")]
    usable = full[0] & full[1]
    skipped["blank name or title"] += int(links["count"].to_numpy()[~usable].sum())
    return links.filter(pa.array(usable))


def _formed(tables: list[pa.Table]) -> pa.Table:
    links = pa.concat_tables(tables)
    return _added_up(
        pa.table([normalised(links["name"]), written(links["title"]), links["qid"], links["count"]], schema=LINKS)
    )


def _added_up(links: pa.Table) -> pa.Table:
    summed = links.group_by(["name", "title", "qid"]).aggregate([("count", "sum")])
    return pa.table([summed[name] for name in ("name", "title", "qid", "count_sum")], schema=LINKS)


def normalised(names: pa.ChunkedArray) -> pa.Array:
    """`names` as they are compared."""
    distinct = names.combine_chunks().dictionary_encode()
    forms = pa.array([normalise(name) for name in distinct.dictionary.to_pylist()], TEXT)
    return forms.take(distinct.indices)
