"""What `benchmarks.index` is compared with: the same index from one process, in plain NumPy, pyarrow and
Lance.

It does the same work: partial aggregates of every fragment stay on the disk (here one file for each bucket of
entities, which a later night could go on from), the entity table goes to Parquet with the same columns, its
vectors to a Lance table with the same indexes, and recall@10 is measured on as many entities. It knows no
plan, no versions, no resumption and no odd input.
"""

import hashlib
import time
from pathlib import Path
from typing import Any

import lance
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.index_corpus import SyntheticSource

BUCKETS = 128
_CONTEXT_CHARACTERS = 60
_CONTEXTS = 3
_SAMPLE = 100


def build(source: SyntheticSource, folder: Path, cells: int, probes: int) -> dict[str, Any]:
    """Build it; seconds of the steps and recall@10."""
    folder.mkdir(parents=True)
    clock = [time.monotonic()]
    _aggregate(source, folder)
    clock.append(time.monotonic())
    files = [_merge(folder, bucket, source.dimension) for bucket in range(BUCKETS)]
    files = [file for file in files if file is not None]
    clock.append(time.monotonic())
    table = _index(files, folder / "entities.lance", cells)
    clock.append(time.monotonic())
    recall = _recall(files, table, source.entities, probes)
    clock.append(time.monotonic())
    steps = dict(zip(("aggregate", "merge", "index", "recall"), np.diff(clock).tolist(), strict=True))
    return {"seconds": clock[-1] - clock[0], "steps": steps, "recall": recall}


def _aggregate(source: SyntheticSource, folder: Path) -> None:
    writers: dict[int, Any] = {}
    for number in range(source.fragments_count):
        rows = _partials(source.table(number), number)
        buckets = rows["id"].to_numpy() >> (63 - BUCKETS.bit_length() + 1)
        order = np.argsort(buckets, kind="stable")
        rows, buckets = rows.take(pa.array(order)), buckets[order]
        edges = np.searchsorted(buckets, np.arange(BUCKETS + 1)).tolist()
        for bucket in range(BUCKETS):
            if bucket not in writers:
                writers[bucket] = pa.ipc.new_file(str(folder / f"{bucket}.arrow"), rows.schema)
            part = rows.slice(edges[bucket], edges[bucket + 1] - edges[bucket])
            writers[bucket].write_table(part)
    for writer in writers.values():
        writer.close()


def _partials(table: pa.Table, number: int) -> pa.Table:
    """One row for each entity of a fragment."""
    lists = table["mentions"].combine_chunks()
    dimension = table["mention_embeddings"].type.value_type.list_size
    vectors = table["mention_embeddings"].combine_chunks().values.flatten().to_numpy().reshape(-1, dimension)
    rows = np.repeat(np.arange(len(table)), np.diff(lists.offsets.to_numpy()))
    starts, ends, names, labels, _, qids = lists.values.flatten()
    texts, documents = table["text"].to_pylist(), table["id"].to_pylist()
    mentions = pa.table(
        {
            "text": names,
            "label": labels,
            "language": table["lang"].combine_chunks().take(pa.array(rows)),
            "row": rows,
            "start": starts,
            "end": ends,
        }
    )
    keys = pa.array([f"qid:{qid}" for qid in qids.to_pylist()]).dictionary_encode()
    groups = keys.indices.to_numpy()
    order = np.argsort(groups, kind="stable")
    first = np.flatnonzero(np.diff(groups[order], prepend=-1))
    sums = np.add.reduceat(vectors[order], first, axis=0, dtype=np.float64)
    counts = np.diff(np.append(first, len(order)))
    columns: dict[str, Any] = {
        "id": _ids(keys.dictionary.to_pylist()),
        "key": keys.dictionary,
        "fragment": np.full(len(first), number),
        "count": counts,
        # A sum of one float32 vector is that vector: half the bytes.
        "vector": _vectors(sums.astype(np.float32) if counts.max() == 1 else sums),
        "documents": [len(set(part)) for part in np.split(rows[order], first[1:])],
    }
    for field in ("text", "label", "language"):
        columns[field] = _counted(mentions, field, groups, len(first))
    begin, end = starts.to_pylist(), ends.to_pylist()
    columns["contexts"] = [
        [
            {
                "document": documents[rows[mention]],
                "text": texts[rows[mention]][
                    max(0, begin[mention] - _CONTEXT_CHARACTERS) : end[mention] + _CONTEXT_CHARACTERS
                ],
                "start": min(begin[mention], _CONTEXT_CHARACTERS),
                "end": min(begin[mention], _CONTEXT_CHARACTERS) + end[mention] - begin[mention],
            }
            for mention in part[:_CONTEXTS].tolist()
        ]
        for part in np.split(order, first[1:])
    ]
    return pa.table(columns)


def _counted(mentions: pa.Table, field: str, groups: Any, count: int) -> pa.Array:
    """list<struct<value, count>> for each group."""
    pairs = pa.table({"group": groups, field: mentions[field]})
    sums = pairs.group_by(["group", field]).aggregate([(field, "count")])
    return _as_lists(sums.rename_columns(["group", field, "count"]), field, count)


def _as_lists(sums: pa.Table, field: str, count: int) -> pa.Array:
    sums = sums.sort_by([("group", "ascending"), ("count", "descending"), (field, "ascending")]).combine_chunks()
    offsets = np.searchsorted(sums["group"].to_numpy(), np.arange(count + 1))
    pairs = [sums[field].combine_chunks(), sums["count"].combine_chunks()]
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.StructArray.from_arrays(pairs, [field, "count"]))


def _merge(folder: Path, bucket: int, dimension: int) -> Path | None:
    with pa.OSFile(str(folder / f"{bucket}.arrow")) as file:
        rows = pa.ipc.open_file(file).read_all()
    if not len(rows):
        return None
    rows = rows.sort_by([("id", "ascending"), ("fragment", "ascending")]).combine_chunks()
    ids = rows["id"].to_numpy()
    first = np.flatnonzero(np.diff(ids, prepend=-1))
    groups = np.repeat(np.arange(len(first)), np.diff(np.append(first, len(ids))))
    vectors = rows["vector"].combine_chunks().flatten().to_numpy().reshape(-1, dimension)
    sums = np.add.reduceat(vectors, first, axis=0, dtype=np.float64)
    counts = np.add.reduceat(rows["count"].to_numpy(), first)
    lists = {
        field: _merged(rows[field].combine_chunks(), field, groups, len(first))
        for field in ("text", "label", "language")
    }
    contexts = rows["contexts"].combine_chunks()
    owners = np.repeat(groups, np.diff(contexts.offsets.to_numpy()))
    near = np.arange(len(owners)) - np.searchsorted(owners, owners) < _CONTEXTS
    offsets = np.searchsorted(owners[near], np.arange(len(first) + 1))
    table = pa.table(
        {
            "id": ids[first],
            "key": rows["key"].take(pa.array(first)),
            "name": [entry[0]["text"] for entry in lists["text"].to_pylist()],
            "label": [entry[0]["label"] for entry in lists["label"].to_pylist()],
            "count": counts,
            "documents": np.add.reduceat(rows["documents"].to_numpy(), first),
            "aliases": lists["text"],
            "labels": lists["label"],
            "languages": lists["language"],
            "contexts": pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), contexts.values.filter(pa.array(near))),
            "vector": _vectors((sums / counts[:, None]).astype(np.float32)),
        }
    )
    path = folder / f"{bucket:04d}.parquet"
    pq.write_table(table, path, row_group_size=1024, compression="zstd", use_dictionary=False)
    _names(table, folder / f"{bucket:04d}.names.parquet")
    return path


def _merged(lists: pa.ListArray, field: str, groups: Any, count: int) -> pa.Array:
    owners = np.repeat(groups, np.diff(lists.offsets.to_numpy()))
    values, counts = lists.flatten().flatten()
    sums = (
        pa.table({"group": owners, field: values, "count": counts})
        .group_by(["group", field])
        .aggregate([("count", "sum")])
    )
    return _as_lists(sums.rename_columns(["group", field, "count"]), field, count)


def _names(table: pa.Table, path: Path) -> None:
    """For searches by name: hashes of all aliases, with the ids."""
    aliases = table["aliases"].combine_chunks()
    owners = np.repeat(table["id"].to_numpy(), np.diff(aliases.offsets.to_numpy()))
    names = _ids([alias["text"].casefold() for alias in aliases.flatten().to_pylist()])
    order = np.argsort(names)
    pq.write_table(pa.table({"name_id": names[order], "id": owners[order]}), path)


def _index(files: list[Path], path: Path, cells: int) -> Any:
    def batches() -> Any:
        for file in files:
            part = pq.read_table(file, columns=["id", "key", "name", "label", "languages", "count", "vector"])
            lists = part["languages"].combine_chunks()
            names = pa.ListArray.from_arrays(lists.offsets, lists.values.field(0))
            yield from part.set_column(4, "languages", names).combine_chunks().to_batches()

    schema = next(batches()).schema
    table = lance.write_dataset(pa.RecordBatchReader.from_batches(schema, batches()), str(path))
    table.create_index("vector", "IVF_FLAT", metric="cosine", num_partitions=cells, sample_rate=64)
    table.create_scalar_index("id", "BTREE")
    table.create_scalar_index("label", "BITMAP")
    table.create_scalar_index("languages", "LABEL_LIST")
    table.create_scalar_index("count", "BTREE")
    return lance.dataset(str(path))


def _recall(files: list[Path], table: Any, entities: int, probes: int) -> float:
    """Share of the ten nearest by exact search that the index finds."""
    step = entities // _SAMPLE
    seen = 0
    own: list[int] = []
    queries: list[Any] = []
    for file in files:
        ids, unit = _unit(file)
        here = np.arange(-seen % step, len(ids), step)
        own += ids[here].tolist()
        queries.append(unit[here])
        seen += len(ids)
    asked = np.concatenate(queries)
    best = np.full((len(asked), 10), -np.inf, np.float32)
    best_ids = np.zeros((len(asked), 10), np.int64)
    for file in files:
        ids, unit = _unit(file)
        cosines = asked @ unit.T
        cosines[np.array(own)[:, None] == ids] = -np.inf
        cosines = np.concatenate([best, cosines], axis=1)
        every = np.concatenate([best_ids, np.broadcast_to(ids, (len(asked), len(ids)))], axis=1)
        top = np.argpartition(-cosines, 9, axis=1)[:, :10]
        best, best_ids = np.take_along_axis(cosines, top, 1), np.take_along_axis(every, top, 1)
    hits = 0
    for query, mine, nearest in zip(asked, own, best_ids, strict=True):
        search = {"column": "vector", "q": query, "k": 11, "nprobes": probes, "metric": "cosine"}
        found = table.to_table(columns=["id", "_distance"], nearest=search)["id"].to_pylist()
        hits += len({each for each in found if each != mine} & set(nearest.tolist()))
    return hits / (10 * len(asked))


def _unit(file: Path) -> tuple[Any, Any]:
    table = pq.read_table(file, columns=["id", "vector"])
    vectors = table["vector"].combine_chunks()
    matrix = vectors.flatten().to_numpy().reshape(-1, vectors.type.list_size)
    return table["id"].to_numpy(), matrix / np.linalg.norm(matrix, axis=1, keepdims=True)


def _ids(keys: list[str]) -> Any:
    digests = b"".join(hashlib.blake2b(key.encode(), digest_size=8).digest() for key in keys)
    return (np.frombuffer(digests, np.uint64) >> np.uint64(1)).astype(np.int64)


def _vectors(matrix: Any) -> pa.FixedSizeListArray:
    return pa.FixedSizeListArray.from_arrays(pa.array(matrix.ravel()), matrix.shape[1])
