"""What a build has to do: which fragments came and went since the last version, and how entities lie."""

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from luke_batch.base.errors import ConfigError, OutputError
from luke_batch.corpus.output_file import Key
from luke_batch.index.keys import ID_BITS
from luke_batch.index.merge import PackUse
from luke_batch.index.packs import held_in, open_pack
from luke_batch.index.settings import IndexConfig
from luke_batch.index.sources import AnnotatedFragment, AnnotatedSources, alike
from luke_batch.index.versions import Held, IndexFolder, Version

_PACK_BYTES = 64 * 2**20
"""Annotated bytes whose partial aggregates share a pack."""
_PACK_FRAGMENTS = 1024
_READ_SHARE = 32
"""A night's work on what is there, beside that of a build from nothing, as a divisor."""
_BUCKET_BYTES = 96 * 2**20
"""Bytes of vectors in the partial aggregates of one bucket."""


@dataclass(frozen=True, slots=True)
class IndexPlan:
    """What there is to do."""

    number: int
    """Of the version that is built."""
    base: Version | None
    """The version before; None where there is none."""
    before: Mapping[str, Held]
    """What the base holds, by the keys of its fragments."""
    kept: tuple[Held, ...]
    """Live fragments whose partial aggregates exist."""
    packs: tuple[tuple[AnnotatedFragment, ...], ...]
    """Fragments to aggregate, those of one pack together."""
    gone: tuple[Held, ...]
    """Fragments of the base that are not live."""
    left_out: int = 0
    """Fragments whose vectors are of another model than most."""

    @property
    def nothing_to_do(self) -> bool:
        """The base holds exactly the live fragments."""
        return self.base is not None and not self.packs and not self.gone and len(self.kept) == len(self.before)

    @property
    def bytes(self) -> int:
        """Bytes of vectors to work on: those that are new, and a share of those that are there, which a night reads in
        part.
        """
        fresh = sum(fragment.bytes for pack in self.packs for fragment in pack)
        there = sum(each.rows * each.fragment.dimension * 4 for each in self.kept)
        return fresh + (there if self.base is None else there // _READ_SHARE)

    def changes(self) -> dict[str, int]:
        """Fragments by what becomes of them. Replaced: other content for rows of the same source file."""
        live = [*(each.fragment for each in self.kept), *(one for pack in self.packs for one in pack)]
        fresh = [_origin(fragment) for fragment in live if fragment.key not in self.before]
        gone = [_origin(each.fragment) for each in self.gone]
        sources, successors = set(gone), set(fresh)
        replaced = sum(origin in sources for origin in fresh)
        removed = sum(origin not in successors for origin in gone)
        return {
            "new": len(fresh) - replaced,
            "replaced": replaced,
            "removed": removed,
            "kept": len(live) - len(fresh),
            "of_another_model": self.left_out,
        }


def make_plan(
    folder: IndexFolder, sources: AnnotatedSources, config: IndexConfig, *, afresh: bool = False
) -> IndexPlan:
    """Compare the sources with the index; `afresh`: take nothing of what it has. Raises a UsageError where one of them
    cannot be used.
    """
    base = None if afresh else folder.current()
    if base is not None and base.config.policy != config.policy:
        raise ConfigError(_other_policy(folder, base, config))
    before = {} if base is None else {each.fragment.key: each for each in base.held()}
    known = {(each.fragment.source, each.fragment.path): each.fragment for each in before.values()}
    every = [one for member in sources.members for one in member.fragments(known, config.policy)]
    live = {one.key: one for one in alike(every)}
    there = {} if afresh else _left_over(folder, config, {each.pack for each in before.values()}) | before
    fresh = [live[key] for key in sorted(live.keys() - there.keys())]
    kept = [replace(there[key], fragment=live[key]) for key in sorted(live.keys() & there.keys())]
    gone = [each for key, each in before.items() if key not in live]
    left_out = len(every) - len(live)
    return IndexPlan(folder.next_number(), base, before, tuple(kept), _packed(fresh), tuple(gone), left_out)


def bucket_bits(rows: int, dimension: int, before: int | None) -> int:
    """How many first bits of an id choose its bucket. It stays as it was while buckets are of a fair size."""
    ideal = max(0, (rows * dimension * 4 // _BUCKET_BYTES).bit_length())
    return before if before is not None and ideal - 1 <= before <= ideal + 2 else ideal


def bucket_range(bucket: int, bits: int) -> tuple[int, int]:
    """Ids [first, end) of a bucket."""
    return bucket << (ID_BITS - bits), (bucket + 1) << (ID_BITS - bits)


def pack_uses(packs: Path, live: Sequence[Held], plan: IndexPlan, base: Version | None) -> tuple[PackUse, ...]:
    """What a merge takes from each pack of the folder `packs`; against `base`, or everything where it is None."""
    before, gone = ({}, ()) if base is None else (plan.before, plan.gone)
    uses: dict[str, PackUse] = {}
    for each in (*live, *gone):
        if each.pack not in uses:
            size = len(open_pack(packs / each.pack).facts.fragments)
            uses[each.pack] = PackUse(each.pack, np.full(size, -1), np.zeros(size, bool))
    for rank, each in enumerate(sorted(live, key=lambda each: each.fragment.key)):
        uses[each.pack].ranks[each.number] = rank
        uses[each.pack].changed[each.number] = each.fragment.key not in before
    for each in gone:
        uses[each.pack].changed[each.number] = True
    return tuple(uses[name] for name in sorted(uses))


def digest_of(live: Sequence[Held], config: IndexConfig, bits: int, base: Version | None) -> str:
    """Names merged buckets: what they are made of."""
    parts = [config.policy.fingerprint, str(config.search.aliases), str(bits)]
    parts.append("" if base is None else str(base.manifest.number))
    parts += sorted(each.fragment.key for each in live)
    return hashlib.blake2b("\n".join(parts).encode(), digest_size=6).hexdigest()


def _left_over(folder: IndexFolder, config: IndexConfig, used: set[str]) -> dict[str, Held]:
    """Fragments in packs that a build has left which did not finish."""
    found: dict[str, Held] = {}
    for path in sorted(folder.packs.glob("*.arrow")):
        with suppress(OutputError):
            if path.name not in used and open_pack(path).facts.policy == config.policy.fingerprint:
                found = {each.fragment.key: each for each in held_in(path, {})} | found
    return found


def _packed(fragments: Sequence[AnnotatedFragment]) -> tuple[tuple[AnnotatedFragment, ...], ...]:
    packs: list[list[AnnotatedFragment]] = []
    size = 0
    for fragment in fragments:
        if not packs or size + fragment.bytes > _PACK_BYTES or len(packs[-1]) == _PACK_FRAGMENTS:
            packs.append([])
            size = 0
        packs[-1].append(fragment)
        size += fragment.bytes
    return tuple(map(tuple, packs))


def _origin(fragment: AnnotatedFragment) -> tuple[str, str]:
    key = Key.parse(fragment.path)
    return fragment.source, fragment.path if key is None else key.path


def _other_policy(folder: IndexFolder, current: Version, config: IndexConfig) -> str:
    ours, theirs = config.policy.model_dump(), current.config.policy.model_dump()
    names = [name for name in ours if ours[name] != theirs[name]]
    what = ", ".join(f"{name} {theirs[name]!r}, not {ours[name]!r}" for name in names)
    return f"INDEX {folder.path} was built with {what}; leave these options out, or name another folder"
