"""Live partial aggregates of some entities -> their rows of the entity table.

Partial sums of an entity are added one after another in the order of its fragments' keys, in float64. So its
row depends on the live fragments alone, bit for bit, however many nights they came in.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from luke_batch.base.arrays import FloatArray
from luke_batch.base.contracts import load_contract
from luke_batch.index.groups import Counts, Ints, among, group_starts, places, segment_sums
from luke_batch.index.keys import name_ids
from luke_batch.index.packs import PackRows, in_order, open_pack, plain_columns, vectors_in
from luke_batch.index.settings import Policy


@dataclass(frozen=True, slots=True)
class PackUse:
    """What a build takes from a pack."""

    name: str
    ranks: NDArray[np.int64]
    """For each fragment of the pack its place among all live fragments; -1 where it is not live."""
    changed: NDArray[np.bool_]
    """For each fragment whether the last version did not have it, or had it where it is not live any more."""


def affected_ids(folder: Path, packs: Sequence[PackUse], first: int, end: int) -> Ints:
    """Ids of [first, end) of which a fragment came or went, ascending."""
    found = [np.empty(0, np.int64)]
    for use in packs:
        if not use.changed.any():
            continue
        pack = open_pack(folder / use.name)
        for number in pack.batches(first, end):
            ids, fragments = pack.light(number)
            found.append(ids[use.changed[fragments] & (ids >= first) & (ids < end)])
    return np.unique(np.concatenate(found))


def live_rows(folder: Path, packs: Sequence[PackUse], first: int, end: int, ids: Ints | None) -> PackRows | None:
    """Live rows of [first, end), of the entities `ids` alone unless it is None; column `fragment` holds the
    rank of the fragment. None where there is no row.
    """
    parts: list[pa.Table] = []
    masks: list[NDArray[np.bool_]] = []
    order: list[Ints] = []
    vectors: list[tuple[FloatArray, NDArray[np.float64]]] = []
    for use in packs:
        if (use.ranks < 0).all():
            continue
        pack = open_pack(folder / use.name)
        for number in pack.batches(first, end):
            found, fragments = pack.light(number)
            ranks = use.ranks[fragments]
            kept = (ranks >= 0) & (found >= first) & (found < end)
            if ids is not None:
                kept &= among(found, ids)
            if kept.any():
                batch = pack.read(number)
                parts.append(plain_columns(batch))
                masks.append(kept)
                order.append(ranks[kept])
                vectors.append(vectors_in(batch, kept, pack.facts.dimension))
    if not parts:
        return None
    # Filtered at once: nested columns of many small batches cost most of a night.
    table = pa.concat_tables(parts).filter(pa.array(np.concatenate(masks))).combine_chunks()
    place = table.schema.get_field_index("fragment")
    return PackRows.joined([table.set_column(place, "fragment", pa.array(np.concatenate(order)))], vectors)


def merge_rows(rows: PackRows, policy: Policy, aliases: int) -> pa.Table:
    """Rows of the entity table (`entities.v1`) from partial aggregates, by id and key."""
    order = in_order(rows.table)
    table = rows.table.take(order).combine_chunks()
    keys = table["key"].combine_chunks().dictionary_encode().indices.to_numpy()
    starts = group_starts(keys.astype(np.int64))  # equal keys lie together
    count = len(starts)
    groups = np.repeat(np.arange(count), np.diff(np.append(starts, len(keys))))
    mentions = np.add.reduceat(table["count"].to_numpy(), starts)
    vectors = _sums(rows, order.to_numpy(), starts) / mentions[:, None]
    names, titles, labels, languages = (
        Counts.of_lists(groups, table[name].combine_chunks()) for name in ("aliases", "titles", "labels", "languages")
    )
    dimension = vectors.shape[1]
    vector = pa.FixedSizeListArray.from_arrays(pa.array(vectors.astype(np.float32).ravel()), dimension)
    key = table["key"].combine_chunks().take(pa.array(starts))
    columns = {
        "id": table["id"].combine_chunks().take(pa.array(starts)),
        "key": key,
        "qid": _items(key),
        "title": titles.first(count),
        "name": pc.call_function("coalesce", [names.first(count), titles.first(count), key]),
        "label": labels.first(count),
        "count": pa.array(mentions),
        "documents": pa.array(np.add.reduceat(table["documents"].to_numpy(), starts)),
        "aliases": names.lists(count, "text", aliases),
        "labels": labels.lists(count, "label"),
        "languages": languages.lists(count, "language"),
        "contexts": _contexts(table["contexts"].combine_chunks(), groups, count, policy.contexts),
        "vector": vector,
    }
    schema = entity_schema(dimension)
    return pa.table([columns[name].cast(schema.field(name).type) for name in schema.names], schema=schema)


def entity_schema(dimension: int) -> pa.Schema:
    """Arrow schema of the entity table."""
    return load_contract("entities").schema(vector=pa.list_(pa.float32(), dimension))


def gone_rows(ids: Ints, dimension: int) -> pa.Table:
    """Rows of the entity table that say that these entities are gone."""
    schema = entity_schema(dimension)
    known = {"id": pa.array(ids), "count": pa.array(np.zeros(len(ids), np.int64))}
    columns = [known.get(field.name, pa.nulls(len(ids), field.type)) for field in schema]
    return pa.table(columns, schema=schema)


def names_of(entities: pa.Table) -> pa.Table:
    """Under which names entities are found: name_id, id, count; by name_id, then count, most first."""
    lists = entities["aliases"].combine_chunks()
    aliases, counts = lists.flatten().flatten()
    owners = np.repeat(entities["id"].to_numpy(), lists.value_lengths().to_numpy())
    titled = entities.filter(entities["title"].is_valid())
    texts = aliases.to_pylist() + titled["title"].to_pylist()
    ids = np.concatenate([owners, titled["id"].to_numpy()])
    weights = np.concatenate([counts.to_numpy(), titled["count"].to_numpy()])
    table = pa.table({"name_id": name_ids(texts), "id": ids, "count": weights})
    table = table.group_by(["name_id", "id"], use_threads=False).aggregate([("count", "max")])
    return in_name_order(table.rename_columns(["name_id", "id", "count"]))


def in_name_order(names: pa.Table) -> pa.Table:
    """Such a table by name_id, then count, most first."""
    return names.sort_by([("name_id", "ascending"), ("count", "descending"), ("id", "ascending")])


def _items(keys: pa.StringArray) -> pa.StringArray:
    """Wikidata items that are keys; null for other keys."""
    found = [key[4:] if key.startswith("qid:") else None for key in keys.to_pylist()]
    return pa.array(found, pa.string())


def _sums(rows: PackRows, order: Ints, starts: Ints) -> NDArray[np.float64]:
    """Sums of the vectors of each entity, (entities, dimension)."""
    single = rows.table["count"].to_numpy() == 1
    if single.all():
        return segment_sums(rows.singles, order, starts)
    every = np.empty((len(single), rows.singles.shape[1]), np.float64)
    every[single], every[~single] = rows.singles, rows.sums
    return segment_sums(every, order, starts)


def _contexts(lists: pa.ListArray, groups: Ints, count: int, most: int) -> pa.ListArray:
    """The first contexts of each entity, in the order of its fragments."""
    owners = np.repeat(groups, lists.value_lengths().to_numpy())
    near = places(owners) < most
    offsets = np.searchsorted(owners[near], np.arange(count + 1)).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), lists.flatten().filter(pa.array(near)))
