"""Packs: files with the partial aggregates of some fragments, sorted by entity.

Rows are sorted by id, key and fragment, and cut into batches of neighbouring ids, so that what belongs to a
range of ids is read alone. The format is Arrow IPC, uncompressed: an update reads few rows of many batches,
and vectors neither compress nor repeat (see docs/architecture.md for what Parquet costs here).

The metadata of a pack names its fragments and its policy. A pack is written under another name and renamed,
and never changes: so one that a killed build has left is taken over by the next.
"""

import json
import threading
import uuid
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any, Self, cast
from zlib import crc32

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from luke_batch.base.arrays import FloatArray
from luke_batch.base.errors import OutputError
from luke_batch.index.groups import Ints, group_starts
from luke_batch.index.keys import ID_BITS
from luke_batch.index.partials import Partials
from luke_batch.index.sources import AnnotatedFragment
from luke_batch.index.versions import Held

_BATCH_ROWS = 256
"""Least rows of a batch on average: those of a few buckets, and hundreds of kilobytes of vectors."""
_MOST_BATCHES = 4096
_META = b"luke_batch.pack"
_SMALL_BYTES = 16 * 2**20
"""Live vectors below which a pack is small."""
_SMALL_PACKS = 16
"""Small packs that an index may have."""
_WASTE = 2
"""A pack is written anew once it has so many times the rows that are live."""
_TURNS = 8
"""Versions in one of which a pack with any dead fragment is written anew."""
_PACK_BYTES = 64 * 2**20


@dataclass(frozen=True, slots=True)
class PackFacts:
    """What a pack says of itself."""

    policy: str
    """Fingerprint of the policy."""
    dimension: int
    fragments: tuple[str, ...]
    """Keys of its fragments: column `fragment` counts into them."""
    mentions: tuple[int, ...]
    """Mentions of each fragment that have a key and a vector."""
    skipped: tuple[dict[str, int], ...]
    """Mentions of each fragment that were left out, by reason."""
    rows: tuple[int, ...]
    """Partial aggregates of each fragment."""
    firsts: tuple[int, ...] = ()
    """First id of each batch."""
    bits: int = 0
    """A batch holds ids that begin with the same so many bits."""

    @classmethod
    def of(cls, policy: str, dimension: int, fragments: Iterable[tuple[str, int, Mapping[str, int], int]]) -> Self:
        """Of key, mentions, skipped and rows of each fragment."""
        keys, mentions, skipped, rows = zip(*fragments, strict=True)
        return cls(policy, dimension, keys, mentions, tuple(map(dict, skipped)), rows)

    @classmethod
    def parse(cls, text: bytes) -> Self:
        """From the metadata of a pack."""
        values = cast("dict[str, Any]", json.loads(text))
        lists: dict[str, Any] = {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
        return cls(**(values | lists))

    def dump(self) -> bytes:
        """For the metadata of a pack."""
        return json.dumps(asdict(self)).encode()


def in_order(table: pa.Table) -> pa.Array:
    """Places of the rows by id, key and fragment."""
    keys = [(name, "ascending") for name in ("id", "key", "fragment")]
    return pc.call_function("sort_indices", [table], pc.SortOptions(sort_keys=keys))


@dataclass(frozen=True, slots=True)
class PackRows:
    """Rows of packs with their vectors, in float32 where one mention made the row, else in float64."""

    table: pa.Table
    """As in `Partials`, with `fragment`."""
    singles: FloatArray
    sums: NDArray[np.float64]

    @classmethod
    def joined(cls, tables: Sequence[pa.Table], vectors: Sequence[tuple[FloatArray, NDArray[np.float64]]]) -> Self:
        """Of several parts."""
        singles, sums = zip(*vectors, strict=True)
        return cls(pa.concat_tables(tables).combine_chunks(), np.concatenate(singles), np.concatenate(sums))


def write_pack(folder: Path, policy: str, parts: Sequence[tuple[str, Partials]]) -> str:
    """Write the partial aggregates of some fragments; the name of the file in `folder`.

    Args:
        folder: of the packs. policy: fingerprint. parts: key and partial aggregates of each fragment.
    """
    tables = [
        part.table.append_column("fragment", pa.array(np.full(len(part.table), number, np.int32)))
        for number, (_, part) in enumerate(parts)
    ]
    told = ((key, int(part.table["count"].to_numpy().sum()), part.skipped, len(part.table)) for key, part in parts)
    facts = PackFacts.of(policy, parts[0][1].singles.shape[1], told)
    return _write(folder, facts, PackRows.joined(tables, [(part.singles, part.sums) for _, part in parts]))


def _write(folder: Path, facts: PackFacts, rows: PackRows) -> str:
    """Write `rows` as the pack that `facts` describe; the name of the file in `folder`."""
    table = rows.table
    order = in_order(table)
    place = order.to_numpy()
    table = table.take(order)
    single = rows.table["count"].to_numpy() == 1
    within = np.where(single, np.cumsum(single) - 1, np.cumsum(~single) - 1)[place]
    single = single[place]
    ids = table["id"].to_numpy()
    bits = max(0, min(len(ids) // _BATCH_ROWS, _MOST_BATCHES).bit_length() - 1)
    starts = group_starts(ids >> (ID_BITS - bits))
    schema = table.schema.append(pa.field("single", pa.binary())).append(pa.field("sum", pa.binary()))
    facts = replace(facts, firsts=tuple(ids[starts].tolist()), bits=bits)
    schema = schema.with_metadata({_META: facts.dump()})
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{uuid.uuid4().hex}.arrow"
    temporary = folder / f"{name}.part"
    with pa.OSFile(str(temporary), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        for start, end in pairwise([*starts.tolist(), len(ids)]):
            alone, at = single[start:end], within[start:end]
            vectors = [_binary(rows.singles, alone, at), _binary(rows.sums, ~alone, at)]
            part = table.slice(start, end - start)
            columns = [column.combine_chunks() for column in part.columns]
            writer.write_batch(pa.record_batch([*columns, *vectors], schema=schema))
    temporary.replace(folder / name)
    return name


class Pack:
    """A pack that is open for reading; OutputError where it is missing or damaged."""

    def __init__(self, path: Path) -> None:
        try:
            # Not mapped: mapped pages of many gigabytes would count as memory of this process.
            source = pa.OSFile(str(path), "rb")
            self._whole = pa.ipc.open_file(source)
            schema = self._whole.schema
            wanted = sorted(schema.get_field_index(name) for name in ("id", "fragment"))
            self._light = pa.ipc.open_file(source, options=pa.ipc.IpcReadOptions(included_fields=wanted))
            self.facts = PackFacts.parse(schema.metadata[_META])
        except (OSError, pa.ArrowException, KeyError, ValueError) as error:
            cause = " ".join(str(error).split())
            raise OutputError(
                f"partial aggregates {path} cannot be read: {cause}; build the index into an empty folder"
            ) from error
        self._firsts = np.array(self.facts.firsts, np.int64)

    def batches(self, first: int, end: int) -> range:
        """Numbers of the batches that may hold ids of [first, end)."""
        shift = ID_BITS - self.facts.bits
        begin, stop = np.searchsorted(self._firsts, [first >> shift << shift, end]).tolist()
        return range(begin, stop)

    def light(self, batch: int) -> tuple[Ints, NDArray[np.int32]]:
        """Ids and fragments of the rows of a batch, which tell whether they are concerned."""
        found = self._light.get_batch(batch)
        return found.column("id").to_numpy(), found.column("fragment").to_numpy()

    def read(self, batch: int) -> pa.RecordBatch:
        """A batch with all its columns."""
        return self._whole.get_batch(batch)


def open_pack(path: Path) -> Pack:
    """The pack at `path`, which a thread opens once: its tasks read the same packs again and again."""
    return _opened(path, threading.get_ident())


@lru_cache(maxsize=256)
def _opened(path: Path, _thread: int) -> Pack:
    return Pack(path)


def held_in(path: Path, fragments: Mapping[str, AnnotatedFragment]) -> list[Held]:
    """What the pack at `path` holds, of `fragments` by their keys; of others nothing but the key is known."""
    facts = open_pack(path).facts
    return [
        Held(
            fragments.get(key, AnnotatedFragment(key, "", "", 0, "")),
            path.name,
            number,
            facts.mentions[number],
            facts.rows[number],
            facts.skipped[number],
        )
        for number, key in enumerate(facts.fragments)
    ]


def plain_columns(batch: pa.RecordBatch) -> pa.Table:
    """A batch of a pack without its vectors."""
    return pa.Table.from_batches([batch.drop_columns(["single", "sum"])])


def vectors_in(
    batch: pa.RecordBatch, kept: NDArray[np.bool_], dimension: int
) -> tuple[FloatArray, NDArray[np.float64]]:
    """Vectors of the `kept` rows of a batch: those of one mention, and the sums of the others."""
    single = batch.column("count").to_numpy() == 1
    singles = _vectors(batch.column("single"), np.float32, dimension)
    sums = _vectors(batch.column("sum"), np.float64, dimension)
    return singles[kept[single]], sums[kept[~single]]


def _binary(matrix: NDArray[Any], here: NDArray[np.bool_], at: Ints) -> pa.BinaryArray:
    """The little-endian bytes of row `at` of `matrix` where `here`, null elsewhere."""
    content = matrix[at[here]]
    width = matrix.shape[1] * matrix.itemsize
    offsets = np.concatenate(([0], np.cumsum(here))).astype(np.int32) * width
    validity = pa.array(here).buffers()[1]
    return pa.BinaryArray.from_buffers(pa.binary(), len(here), [validity, pa.py_buffer(offsets), pa.py_buffer(content)])


def _vectors(column: pa.BinaryArray, kind: Any, dimension: int) -> NDArray[Any]:
    """(number of values that are not null, dimension), a view of the column."""
    data = column.buffers()[2]
    if data is None:
        return np.empty((0, dimension), kind)
    offsets = np.frombuffer(column.buffers()[1], np.int32)[column.offset : column.offset + len(column) + 1]
    return np.frombuffer(data, np.uint8)[offsets[0] : offsets[-1]].view(kind).reshape(-1, dimension)


@dataclass(frozen=True, slots=True)
class Repacking:
    """Live rows of some packs -> one pack. Rows are copied as they are, so sums stay the same."""

    packs: Path

    def __call__(self, held: Sequence[Held]) -> str:
        """Copy the rows of some fragments, all their packs' live ones; the name of the new pack."""
        place = {each.fragment.key: number for number, each in enumerate(held)}
        tables: list[pa.Table] = []
        vectors: list[tuple[FloatArray, NDArray[np.float64]]] = []
        policy = ""
        for name, members in _by_pack(held).items():
            pack = open_pack(self.packs / name)
            policy = pack.facts.policy
            numbers = np.full(len(pack.facts.fragments), -1, np.int32)
            for each in members:
                numbers[each.number] = place[each.fragment.key]
            for batch in map(pack.read, range(len(pack.facts.firsts))):
                own = numbers[batch.column("fragment").to_numpy()]
                table = plain_columns(batch).filter(pa.array(own >= 0))
                column = table.schema.get_field_index("fragment")
                tables.append(table.set_column(column, "fragment", pa.array(own[own >= 0])))
                vectors.append(vectors_in(batch, own >= 0, pack.facts.dimension))
        told = ((each.fragment.key, each.mentions, each.skipped, each.rows) for each in held)
        facts = PackFacts.of(policy, held[0].fragment.dimension, told)
        return _write(self.packs, facts, PackRows.joined(tables, vectors))


def to_repack(packs: Path, held: Sequence[Held], version: int) -> list[list[Held]]:
    """Fragments whose packs should be one: a merge opens every pack, and rows of dead fragments are dead weight.

    However few these are, they are gone after `_TURNS` versions.
    """
    by_pack = _by_pack(held)
    sizes = {name: sum(map(_bytes, members)) for name, members in by_pack.items()}
    small = {name for name, size in sizes.items() if size < _SMALL_BYTES}
    chosen = small if len(small) > _SMALL_PACKS else set[str]()
    chosen |= {name for name, members in by_pack.items() if _is_waste(packs / name, members, version)}
    groups: list[list[Held]] = []
    size = 0
    for name in sorted(name for name in chosen if sizes[name]):
        if not groups or size + sizes[name] > _PACK_BYTES:
            groups.append([])
            size = 0
        groups[-1] += by_pack[name]
        size += sizes[name]
    return groups


def _by_pack(held: Sequence[Held]) -> dict[str, list[Held]]:
    found: defaultdict[str, list[Held]] = defaultdict(list)
    for each in held:
        found[each.pack].append(each)
    return found


def _bytes(held: Held) -> int:
    return held.rows * held.fragment.dimension * 4


def _is_waste(path: Path, members: Sequence[Held], version: int) -> bool:
    facts = open_pack(path).facts
    is_its_turn = (version + crc32(path.name.encode())) % _TURNS == 0
    if is_its_turn and len(members) < len(facts.fragments):
        return True
    return sum(facts.rows) > _WASTE * sum(each.rows for each in members)
