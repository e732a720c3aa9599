"""Links counted into an alias table (schemas/aliases.v1.json).

A name is counted in the form in which names are compared (`text.name_forms`), a title once its redirects are
followed. Beside the links, every title gives a name, and so does every redirect: of count 1 where no link has
them.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from luke_batch.base.errors import InputError, UsageError
from luke_batch.titles import aliases_inputs as inputs
from luke_batch.titles.aliases_collect import collect, normalised
from luke_batch.titles.aliases_reading import TEXT
from luke_batch.titles.aliases_write import write_table
from luke_batch.titles.redirects import Redirects, own_names, written


@dataclass(frozen=True, slots=True)
class Built:
    """What was written."""

    names: int
    titles: int
    rows: int
    links: int
    """Links behind the rows: what `min_count` left out is not in it, nor are names that nothing links."""
    skipped: dict[str, int]
    """Reason -> what was left out: mentions, anchors, redirects, Wikidata ids."""


def build_aliases(
    out: str,
    mentions: Sequence[str],
    anchors: Sequence[str],
    redirects: Sequence[str],
    *,
    qids: Sequence[str] = (),
    min_count: int = 1,
    text_column: str = "text",
) -> Built:
    """Read all inputs (files, folders, globs, OUTPUTs; local or URLs) and write the table to `out`.

    Pairs of name and title with fewer than `min_count` links are left out, unless the title itself or a
    redirect gives the name. The Wikidata ids of `qids` go before those of mentions and anchors. The file
    depends on the content of the inputs alone.

    Raises UsageError without an input, InputError for one that cannot be used or where nothing is left,
    OutputError where `out` cannot be written.
    """
    if not (mentions or anchors or redirects):
        raise UsageError("nothing to build from; give --mentions, --anchors or --redirects")
    skipped: Counter[str] = Counter()
    linked = (table for path in mentions for table in inputs.mentions(path, text_column, skipped))
    anchored = (table for path in anchors for table in inputs.anchors(path))
    links = collect(chain(linked, anchored), skipped)
    leading = _redirects(redirects, skipped)
    table = _counted(links, leading, min_count)
    if qids:
        table = _with_ids(table, _given_ids(qids), leading, skipped)
    if not table.num_rows:
        raise InputError("no link, title or redirect was found in any input; is `title` null everywhere?")
    write_table(table.select(["name", "title", "count", "qid"]), out)
    return Built(
        names=len(table["name"].unique()),
        titles=len(table["title"].unique()),
        rows=table.num_rows,
        links=int(table["links"].to_numpy().sum()),
        skipped={reason: count for reason, count in sorted(skipped.items()) if count},
    )


def _redirects(locations: Sequence[str], skipped: Counter[str]) -> Redirects:
    empty = pa.table({"source": pa.array([], TEXT), "target": pa.array([], TEXT)})
    table = pa.concat_tables([empty, *(table for path in locations for table in inputs.redirects(path))])
    found = Redirects.of(pa.table({name: written(table[name]) for name in table.column_names}))
    skipped["circular redirect"] += found.circular
    skipped["second redirect of a title"] += found.ambiguous
    return found


def _counted(links: pa.Table, redirects: Redirects, min_count: int) -> pa.Table:
    """name, title, count, qid and links, sorted; a pair's count is at least 1."""
    titles = redirects.resolved(links["title"])
    linked = pa.table({"name": links["name"], "title": titles, "count": links["count"], "given": _numbers(links, 0)})
    every = pa.concat_arrays([*titles.chunks, redirects.targets]).unique()
    names = [(own_names(every), every), (own_names(redirects.sources), redirects.targets)]
    given = [pa.table({"name": normalised(pa.chunked_array([name])), "title": title}) for name, title in names]
    rows = [linked]
    for table in given:
        numbered = table.append_column("count", _numbers(table, 0)).append_column("given", _numbers(table, 1))
        rows.append(numbered.filter(pc.call_function("not_equal", [table["name"], ""])))
    pairs = pa.concat_tables(rows).group_by(["name", "title"]).aggregate([("count", "sum"), ("given", "max")])
    counts, kept = pairs["count_sum"].to_numpy(), pairs["given_max"].to_numpy() > 0
    table = pa.table(
        {
            "name": pairs["name"],
            "title": pairs["title"],
            "count": np.maximum(counts, 1),
            "qid": _ids(links, titles, pairs["title"]),
            "links": counts,
        }
    ).filter(pa.array(kept | (counts >= max(min_count, 1))))
    return table.sort_by([("name", "ascending"), ("count", "descending"), ("title", "ascending")])


def _given_ids(locations: Sequence[str]) -> pa.Table:
    empty = pa.table({"title": pa.array([], TEXT), "qid": pa.array([], TEXT)})
    table = pa.concat_tables([empty, *(table for path in locations for table in inputs.qids(path))])
    return pa.table({"title": written(table["title"]), "qid": table["qid"]})


def _with_ids(table: pa.Table, given: pa.Table, redirects: Redirects, skipped: Counter[str]) -> pa.Table:
    """The table with the ids of `given` where it has one; others that they replace are counted, each once."""
    ids = _ids(given, redirects.resolved(given["title"]), table["title"])
    other = pc.call_function("not_equal", [ids, table["qid"]]).fill_null(False)
    skipped["Wikidata id other than the map's"] += len(table["title"].filter(other).unique())
    place = table.schema.get_field_index("qid")
    return table.set_column(place, "qid", pc.call_function("coalesce", [ids, table["qid"]]))


def _ids(known: pa.Table, resolved: pa.ChunkedArray, wanted: pa.ChunkedArray) -> pa.ChunkedArray:
    """The Wikidata id of each title: its own before one of a redirect to it; of several the smallest.

    `known` has title and qid, `resolved` its titles with redirects followed.
    """
    values = pa.nulls(len(wanted), TEXT)
    for titles in (known["title"], resolved):
        least = pa.table({"title": titles, "qid": known["qid"]}).group_by("title").aggregate([("qid", "min")])
        found, ids = least["title"].combine_chunks(), least["qid_min"].combine_chunks()
        places = pc.call_function("index_in", [wanted], pc.SetLookupOptions(found)).combine_chunks()
        values = pc.call_function("coalesce", [values, ids.take(places)])
    return values


def _numbers(table: pa.Table, value: int) -> pa.Array:
    return pa.array(np.full(table.num_rows, value, np.int64))
