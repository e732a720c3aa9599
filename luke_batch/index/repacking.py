"""Packs of many nights into few: a merge opens every pack, and rows of dead fragments are dead weight.

Rows are copied as they are, so sums stay the same.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from luke_batch.index.manifest import Held
from luke_batch.index.packs import PackFacts, Rows, open_pack, plain_columns, vectors_in, write_rows

_SMALL_BYTES = 16 * 2**20
"""Live vectors below which a pack is small."""
_SMALL_PACKS = 16
"""Small packs that an index may have."""
_WASTE = 2
"""A pack is written anew once it has so many times the rows that are live."""
_PACK_BYTES = 64 * 2**20


@dataclass(frozen=True, slots=True)
class Repacking:
    """Live rows of some packs -> one pack."""

    packs: Path

    def __call__(self, held: Sequence[Held]) -> str:
        """Copy the rows of some fragments, all their packs' live ones; the name of the new pack."""
        by_pack: defaultdict[str, list[Held]] = defaultdict(list)
        for each in held:
            by_pack[each.pack].append(each)
        place = {each.fragment.key: number for number, each in enumerate(held)}
        parts: list[Rows] = []
        policy = ""
        for name, members in by_pack.items():
            facts = open_pack(self.packs / name).facts
            policy = facts.policy
            numbers = np.full(len(facts.fragments), -1, np.int32)
            for each in members:
                numbers[each.number] = place[each.fragment.key]
            parts += self._live(name, numbers)
        facts = PackFacts(
            policy=policy,
            dimension=held[0].fragment.dimension,
            fragments=tuple(each.fragment.key for each in held),
            mentions=tuple(each.mentions for each in held),
            skipped=tuple(dict(each.skipped) for each in held),
            rows=tuple(each.rows for each in held),
        )
        rows = Rows(
            pa.concat_tables([part.table for part in parts]).combine_chunks(),
            np.concatenate([part.singles for part in parts]),
            np.concatenate([part.sums for part in parts]),
        )
        return write_rows(self.packs, facts, rows)

    def _live(self, name: str, numbers: np.ndarray[tuple[int], np.dtype[np.int32]]) -> list[Rows]:
        pack = open_pack(self.packs / name)
        found: list[Rows] = []
        for batch in range(len(pack.facts.firsts)):
            content = pack.read(batch)
            own = numbers[content.column("fragment").to_numpy()]
            table = plain_columns(content).filter(pa.array(own >= 0))
            column = table.schema.get_field_index("fragment")
            table = table.set_column(column, "fragment", pa.array(own[own >= 0]))
            found.append(Rows(table, *vectors_in(content, own >= 0, pack.facts.dimension)))
        return found


def wanted(packs: Path, held: Sequence[Held]) -> list[list[Held]]:
    """Fragments whose packs should be one."""
    by_pack: defaultdict[str, list[Held]] = defaultdict(list)
    for each in held:
        by_pack[each.pack].append(each)
    sizes = {name: sum(map(_bytes, members)) for name, members in by_pack.items()}
    small = {name for name, size in sizes.items() if size < _SMALL_BYTES}
    chosen = small if len(small) > _SMALL_PACKS else set[str]()
    chosen |= {name for name, members in by_pack.items() if _is_waste(packs / name, members)}
    groups: list[list[Held]] = []
    size = 0
    for name in sorted(name for name in chosen if sizes[name]):
        if not groups or size + sizes[name] > _PACK_BYTES:
            groups.append([])
            size = 0
        groups[-1] += by_pack[name]
        size += sizes[name]
    return groups


def _bytes(held: Held) -> int:
    return held.rows * held.fragment.dimension * 4


def _is_waste(path: Path, members: Sequence[Held]) -> bool:
    return sum(open_pack(path).facts.rows) > _WASTE * sum(each.rows for each in members)
