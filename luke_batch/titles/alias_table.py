"""Links counted into an alias table (schemas/aliases.v1.json).

A name is counted in the form in which names are compared (`text.names.name_forms`), a title once its redirects are
followed. Beside the links, every title gives a name, and so does every redirect: of count 1 where no link has them.
Links are added up while they are read, so that a corpus may have more of them than memory holds.
"""

import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from luke_batch.base.contracts import load_contract
from luke_batch.base.errors import InputError, OutputError, UsageError
from luke_batch.corpus.storage import Storage
from luke_batch.evaluation.tables import as_type, batches, struct_member
from luke_batch.text.names.name_forms import normalise
from luke_batch.titles.links import TEXT, linked, named, refuse_nulls, require
from luke_batch.titles.redirects import Redirects, own_names, written

_LINKS = pa.schema([("name", TEXT), ("title", TEXT), ("qid", TEXT), ("count", pa.int64())])
"""A link, or several equal ones."""
_PENDING = 4_000_000
"""Rows that are collected before equal ones are added up."""


@dataclass(frozen=True, slots=True)
class BuiltAliases:
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
) -> BuiltAliases:
    """Read all inputs (files, folders, globs, OUTPUTs; local or URLs) and write the table to `out`.

    `mentions` are documents with linked mentions; `anchors` rows of name, title and, where they are there, count
    (else 1) and qid; `redirects` rows of source and target, both titles; `qids` rows of title and qid, which go before
    the Wikidata ids of mentions and anchors. Pairs of name and title with fewer than `min_count` links are left out,
    unless the title itself or a redirect gives the name. The file depends on the content of the inputs alone.

    Raises UsageError without an input, InputError for one that cannot be used or where nothing is left, OutputError
    where `out` cannot be written.
    """
    if not (mentions or anchors or redirects):
        raise UsageError("nothing to build from; give --mentions, --anchors or --redirects")
    skipped: Counter[str] = Counter()
    of_mentions = (table for path in mentions for table in _mentions(path, text_column, skipped))
    of_anchors = (table for path in anchors for table in _anchors(path))
    links = _collected(chain(of_mentions, of_anchors), skipped)
    leading = _redirects(redirects, skipped)
    table = _counted(links, leading, min_count)
    if qids:
        given = _pairs(qids, "title", "qid")
        table = _with_ids(table, given.set_column(0, "title", written(given["title"])), leading, skipped)
    if not table.num_rows:
        raise InputError("no link, title or redirect was found in any input; is `title` null everywhere?")
    _write(table.select(["name", "title", "count", "qid"]), out)
    return BuiltAliases(
        names=len(table["name"].unique()),
        titles=len(table["title"].unique()),
        rows=table.num_rows,
        links=int(table["links"].to_numpy().sum()),
        skipped={reason: count for reason, count in sorted(skipped.items()) if count},
    )


def _mentions(location: str, text_column: str, skipped: Counter[str]) -> Iterator[pa.Table]:
    """The linked mentions of documents as tables of _LINKS, each of count 1. Mentions without title are no links."""
    for path, batch in batches(location, {text_column, "links", "mentions"}, named):
        found = linked(path, batch, text_column)
        has_title = ~found.mentions.lacks("title")
        skipped["offset outside of the text"] += int((has_title & ~found.surfaces.inside).sum())
        kept = pa.array(has_title & found.surfaces.inside)
        values = found.mentions.values.filter(kept)
        titles, qids = (struct_member(values, member) for member in ("title", "qid"))
        ones = pa.array(np.ones(len(values), np.int64))
        yield pa.table([found.surfaces.strings().filter(kept), titles, qids, ones], schema=_LINKS)


def _anchors(location: str) -> Iterator[pa.Table]:
    """As tables of _LINKS."""
    for path, batch in batches(location, set(_LINKS.names), named):
        with named(path):
            require(path, batch, "name", "title")
            table = {"qid": pa.nulls(len(batch), TEXT), "count": pa.array(np.ones(len(batch), np.int64))}
            given = [name for name in _LINKS.names if name in batch.schema.names]
            table |= {name: as_type(batch[name], _LINKS.field(name).type) for name in given}
            refuse_nulls(path, table, "name", "title", "count")
            if len(table["count"]) and table["count"].to_numpy().min() < 0:
                raise InputError(f"{path}: column 'count' has negative values; mend or remove them")
        yield pa.table([table[name] for name in _LINKS.names], schema=_LINKS)


def _pairs(locations: Sequence[str], *columns: str) -> pa.Table:
    """Two columns of text of all files, without nulls."""
    tables = [pa.schema([(name, TEXT) for name in columns]).empty_table()]
    for path, batch in chain.from_iterable(batches(location, set(columns), named) for location in locations):
        with named(path):
            require(path, batch, *columns)
            table = {name: as_type(batch[name], TEXT) for name in columns}
            refuse_nulls(path, table, *columns)
        tables.append(pa.table(table))
    return pa.concat_tables(tables)


def _redirects(locations: Sequence[str], skipped: Counter[str]) -> Redirects:
    table = _pairs(locations, "source", "target")
    found = Redirects.of(pa.table({name: written(table[name]) for name in table.column_names}))
    skipped["circular redirect"] += found.circular
    skipped["second redirect of a title"] += found.ambiguous
    return found


def _collected(tables: Iterable[pa.Table], skipped: Counter[str]) -> pa.Table:
    """Links with equal ones added up, names and titles in their forms, without those whose name or title is blank."""
    done, pending, rows = [_LINKS.empty_table()], list[pa.Table](), 0
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
    columns = [_normalised(links["name"]), written(links["title"]), links["qid"], links["count"]]
    return _added_up(pa.table(columns, schema=_LINKS))


def _added_up(links: pa.Table) -> pa.Table:
    summed = links.group_by(["name", "title", "qid"]).aggregate([("count", "sum")])
    return pa.table([summed[name] for name in ("name", "title", "qid", "count_sum")], schema=_LINKS)


def _normalised(names: pa.ChunkedArray) -> pa.Array:
    """`names` as they are compared."""
    distinct = names.combine_chunks().dictionary_encode()
    forms = pa.array([normalise(name) for name in distinct.dictionary.to_pylist()], TEXT)
    return forms.take(distinct.indices)


def _counted(links: pa.Table, redirects: Redirects, min_count: int) -> pa.Table:
    """name, title, count, qid and links, sorted; a pair's count is at least 1."""
    titles = redirects.resolved(links["title"])
    linked = pa.table({"name": links["name"], "title": titles, "count": links["count"], "given": _numbers(links, 0)})
    every = pa.concat_arrays([*titles.chunks, redirects.targets]).unique()
    names = [(own_names(every), every), (own_names(redirects.sources), redirects.targets)]
    given = [pa.table({"name": _normalised(pa.chunked_array([name])), "title": title}) for name, title in names]
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


def _numbers(table: pa.Table, value: int) -> pa.Array:
    return pa.array(np.full(table.num_rows, value, np.int64))


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


def _write(table: pa.Table, out: str) -> None:
    """Create or replace `out` (a local path or a URL), whole or not at all."""
    sink = pa.BufferOutputStream()
    pq.write_table(table.cast(load_contract("aliases").schema()), sink, compression="zstd")
    try:
        _replace(out, sink.getvalue())
    except OSError as error:
        raise OutputError(f"{out} cannot be written: {error}; choose another path or free space") from error


def _replace(out: str, content: pa.Buffer) -> None:
    folder, _, name = out.rpartition("/")
    if "://" in out and not out.startswith("file://"):
        Storage.at(folder).write_atomic(name, content)
        return
    target = Path(out.removeprefix("file://")).expanduser()
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}.part")
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        temporary.write_bytes(memoryview(content))
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
