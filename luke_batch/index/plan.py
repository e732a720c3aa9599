"""What a build has to do: which fragments came and went since the last version, and how entities lie."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from luke_batch.base.errors import ConfigError, OutputError
from luke_batch.corpus.output_file import Key
from luke_batch.index.keys import ID_BITS
from luke_batch.index.manifest import Held, Version
from luke_batch.index.merge import PackUse
from luke_batch.index.packs import PackFacts, open_pack
from luke_batch.index.settings import IndexConfig
from luke_batch.index.sources import Fragment, Sources, check_alike
from luke_batch.index.versions import IndexFolder

_PACK_BYTES = 64 * 2**20
"""Annotated bytes whose partial aggregates share a pack."""
_PACK_FRAGMENTS = 1024
_READ_SHARE = 32
"""A night's work on what is there, beside that of a build from nothing, as a divisor."""
_BUCKET_BYTES = 96 * 2**20
"""Bytes of vectors in the partial aggregates of one bucket."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What there is to do."""

    number: int
    """Of the version that is built."""
    base: Version | None
    """The version before; None where there is none."""
    kept: tuple[Held, ...]
    """Live fragments whose partial aggregates exist."""
    packs: tuple[tuple[Fragment, ...], ...]
    """Fragments to aggregate, those of one pack together."""
    gone: tuple[Held, ...]
    """Fragments of the base that are not live."""

    @property
    def nothing_to_do(self) -> bool:
        """The base holds exactly the live fragments."""
        if self.base is None or self.packs or self.gone:
            return False
        return len(self.kept) == len(self.base.held())

    @property
    def bytes(self) -> int:
        """Bytes of vectors to work on: those that are new, and a share of those that are there, which a night
        reads in part.
        """
        fresh = sum(fragment.bytes for pack in self.packs for fragment in pack)
        there = sum(each.rows * each.fragment.dimension * 4 for each in self.kept)
        return fresh + (there if self.base is None else there // _READ_SHARE)

    def changes(self) -> dict[str, int]:
        """Fragments by what becomes of them. Replaced: other content for rows of the same source file."""
        base = set() if self.base is None else {each.fragment.key for each in self.base.held()}
        live = [*(each.fragment for each in self.kept), *(one for pack in self.packs for one in pack)]
        fresh = [fragment for fragment in live if fragment.key not in base]
        gone = {_origin(each.fragment) for each in self.gone}
        replaced = sum(_origin(fragment) in gone for fragment in fresh)
        successors = {_origin(fragment) for fragment in fresh}
        removed = sum(_origin(each.fragment) not in successors for each in self.gone)
        kept = len(live) - len(fresh)
        return {"new": len(fresh) - replaced, "replaced": replaced, "removed": removed, "kept": kept}


def make_plan(folder: IndexFolder, sources: Sources, config: IndexConfig) -> Plan:
    """Compare the sources with the index. Raises a UsageError where one of them cannot be used."""
    current = folder.current()
    if current is not None and current.config.policy != config.policy:
        raise ConfigError(_other_policy(folder, current, config))
    held = {} if current is None else {each.fragment.key: each for each in current.held()}
    known = {(each.fragment.source, each.fragment.path): each.fragment for each in held.values()}
    live = [one for member in sources.members for one in member.fragments(known, config.policy)]
    check_alike(live)
    adopted = _left_over(folder, config, {each.pack for each in held.values()})
    kept: list[Held] = []
    fresh: list[Fragment] = []
    for fragment in sorted(live, key=lambda each: each.key):
        have = held.get(fragment.key) or adopted.get(fragment.key)
        if have is None:
            fresh.append(fragment)
        else:
            kept.append(replace(have, fragment=fragment))
    keys = {fragment.key for fragment in live}
    gone = tuple(each for key, each in held.items() if key not in keys)
    return Plan(folder.next_number(), current, tuple(kept), _packed(fresh), gone)


def bucket_bits(rows: int, dimension: int, before: int | None) -> int:
    """How many first bits of an id choose its bucket. It stays as it was while buckets are of a fair size."""
    ideal = max(0, (rows * dimension * 4 // _BUCKET_BYTES).bit_length())
    return before if before is not None and ideal - 1 <= before <= ideal + 2 else ideal


def bucket_range(bucket: int, bits: int) -> tuple[int, int]:
    """Ids [first, end) of a bucket."""
    return bucket << (ID_BITS - bits), (bucket + 1) << (ID_BITS - bits)


def pack_uses(packs: Path, live: Sequence[Held], plan: Plan, base: Version | None) -> tuple[PackUse, ...]:
    """What a merge takes from each pack of the folder `packs`; against `base`, or everything where it is
    None.
    """
    before = set() if base is None else {each.fragment.key for each in base.held()}
    gone = plan.gone if base is not None else ()
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
        if path.name in used:
            continue
        facts = _facts(path)
        if facts is None or facts.policy != config.policy.fingerprint:
            continue
        for number, key in enumerate(facts.fragments):
            nowhere = Fragment(key, "", "", 0, "")
            held = Held(nowhere, path.name, number, facts.mentions[number], facts.rows[number], facts.skipped[number])
            found.setdefault(key, held)
    return found


def _facts(path: Path) -> PackFacts | None:
    try:
        return open_pack(path).facts
    except OutputError:
        return None


def _packed(fragments: Sequence[Fragment]) -> tuple[tuple[Fragment, ...], ...]:
    packs: list[list[Fragment]] = []
    size = 0
    for fragment in fragments:
        if not packs or size + fragment.bytes > _PACK_BYTES or len(packs[-1]) == _PACK_FRAGMENTS:
            packs.append([])
            size = 0
        packs[-1].append(fragment)
        size += fragment.bytes
    return tuple(map(tuple, packs))


def _origin(fragment: Fragment) -> tuple[str, str]:
    key = Key.parse(fragment.path)
    return fragment.source, fragment.path if key is None else key.path


def _other_policy(folder: IndexFolder, current: Version, config: IndexConfig) -> str:
    ours, theirs = config.policy.model_dump(), current.config.policy.model_dump()
    names = [name for name in ours if ours[name] != theirs[name]]
    what = ", ".join(f"{name} {theirs[name]!r}, not {ours[name]!r}" for name in names)
    return f"INDEX {folder.path} was built with {what}; leave these options out, or name another folder"
