"""Mentions that say which entity they are: what teaches mention vectors to place one entity's together.

Vectors are compared inside a batch, so a batch holds a few documents with several sentences of each: there
are the other mentions of an entity, and entities of the same topic to tell it from.

Annotation comes in two kinds. Of *linked* rows each mention has its entity (a title, a Wikidata id, a
cluster), and all others are different ones. Of plain NER rows nothing is told: inside a document, mentions of
one label that share a word's beginning ("Hrvatska", "Hrvatskoj"; "Ana Novak", "Novak") count as one entity,
and across documents such pairs say nothing.
"""

from __future__ import annotations

import unicodedata
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from luke_batch.base.arrays import IntArray
from luke_batch.model.inputs.windows import InputBuilder
from luke_batch.training.batches import Batches, Example
from luke_batch.training.corpus import GoldEntity, Row
from luke_batch.training.examples import NO_CONTEXT, TOO_LONG

_KEYS = 4
"""Word beginnings of a mention that are compared; few names have more words."""
_BEGINNING = 4
"""Letters of a word that survive most inflections."""
TARGETS = 3 + _KEYS
"""Columns of an example's targets: the entity, the surface, its place among the names, and the beginnings
of its words (0: none).
"""
_SENTENCES_OF_A_DOCUMENT = 10


@dataclass(frozen=True, slots=True)
class NamedMentions:
    """A sentence and the targets of its mentions."""

    text: str
    spans: IntArray
    targets: IntArray


Names = dict[str, int]
"""All surfaces, as written, with their places; filled while groups are made."""

Group = list[NamedMentions]
"""Sentences of one document, or of one entity."""


def linked(rows: Iterable[tuple[str, Row]], names: Names) -> list[Group]:
    """Groups of rows whose entities' labels name the entity itself; `rows` come with their group's name."""
    groups: dict[str, Group] = defaultdict(list)
    for group, row in rows:
        known = [item for item in row.entities if item.label is not None]
        if known:
            identities = [_number(item.label or "") for item in known]
            groups[group].append(_mentions(row, known, identities, names, keys=False))
    return [group for group in groups.values() if _repeats(group)]


def guessed(rows: Iterable[tuple[str, Row]], names: Names) -> list[Group]:
    """Groups of plain NER rows, the entities guessed by label and word beginnings inside each group."""
    documents: dict[str, list[Row]] = defaultdict(list)
    for group, row in rows:
        if any(item.label is not None for item in row.entities):
            documents[group].append(row)
    return [group for name, members in documents.items() for group in _guessed(name, members, names)]


def _guessed(name: str, rows: Sequence[Row], names: Names) -> Iterator[Group]:
    for start in range(0, len(rows), _SENTENCES_OF_A_DOCUMENT):
        part = rows[start : start + _SENTENCES_OF_A_DOCUMENT]
        entity_of: dict[str, str] = {}
        group: Group = []
        for row in part:
            known = [item for item in row.entities if item.label is not None]
            identities: list[int] = []
            for item in known:
                keys = [f"{item.label} {key}" for key in _beginnings(row.text[item.start : item.end])]
                found = next((entity_of[key] for key in keys if key in entity_of), None)
                entity = found or f"{name}#{start} {' '.join(keys)}"
                entity_of.update(dict.fromkeys(keys, entity))
                identities.append(_number(entity))
            if known:
                group.append(_mentions(row, known, identities, names, keys=True))
        if _repeats(group):
            yield group


def _repeats(group: Group) -> bool:
    """Whether some entity is mentioned twice."""
    identities = np.concatenate([item.targets[:, 0] for item in group])
    return len(np.unique(identities)) < len(identities)


def _mentions(
    row: Row, entities: Sequence[GoldEntity], identities: Sequence[int], names: Names, *, keys: bool
) -> NamedMentions:
    spans = np.array([(item.start, item.end) for item in entities], np.int32)
    targets = np.zeros((len(entities), TARGETS), np.int32)
    for place, (item, identity) in enumerate(zip(entities, identities, strict=True)):
        name = row.text[item.start : item.end]
        surface = name.casefold()
        targets[place, :3] = identity, _number(surface), names.setdefault(name, len(names))
        beginnings = _beginnings(surface)[:_KEYS] if keys else []
        targets[place, 3 : 3 + len(beginnings)] = [_number(key) for key in beginnings]
    return NamedMentions(row.text, spans, targets)


def _beginnings(surface: str) -> list[str]:
    """The first letters of each word of a name; a name without spaces is one word."""
    plain = unicodedata.normalize("NFKC", surface).casefold()
    return [word[:_BEGINNING] for word in plain.split() if len(word) > 1]


def _number(name: str) -> int:
    """A positive number that stands for a name; never 0, which stands for none."""
    return zlib.crc32(name.encode()) // 2 + 1


class NameExamples:
    """Mentions with their names alone, cut out of their sentences: many more fit a batch than sentences do.

    What an entity is called is most of what tells it from others, and a few words beside it are enough to
    learn to read that.
    """

    name = "names"

    def __init__(
        self,
        kinds: Sequence[tuple[float, Sequence[Group]]],
        builder: InputBuilder,
        skipped: Counter[str],
        *,
        context: int = 60,
    ) -> None:
        """`context`: at most so many characters are kept before and behind the mention that is drawn."""
        self._items = [item for _, groups in kinds for group in groups for item in group]
        self.weights = [float(len(item.spans)) for item in self._items]
        self._builder = builder
        self._skipped = skipped
        self._context = context

    def __len__(self) -> int:
        """How many sentences there are."""
        return len(self._items)

    def at(self, number: int, rng: Generator, share: float) -> Example | None:  # noqa: ARG002 - the same all along
        """A random mention of a sentence with some of what is near it; None, and counted, without a token."""
        item = self._items[number]
        start, end = item.spans[int(rng.integers(len(item.spans)))].tolist()
        first = max(0, start - int(rng.integers(self._context)))
        last = min(len(item.text), end + int(rng.integers(self._context)))
        inside = np.flatnonzero((item.spans[:, 0] >= first) & (item.spans[:, 1] <= last))
        tokens = self._builder.tokenize(item.text[first:last], item.spans[inside] - first)
        covered = np.flatnonzero(tokens.spans[:, 1] > tokens.spans[:, 0]).astype(np.int32)
        if not len(covered):
            self._skipped["names: no token"] += 1
            return None
        window = self._builder.mention_window(tokens, NO_CONTEXT, NO_CONTEXT, covered)
        return Example(window, item.targets[inside[covered], 2:3].astype(np.int64))


class IdentityBatches(Batches):
    """Endless batches of documents, from several kinds of groups in proportion to their weights."""

    def __init__(
        self,
        kinds: Sequence[tuple[float, Sequence[Group]]],
        builder: InputBuilder,
        skipped: Counter[str],
        *,
        tokens: int,
        seed: int,
        max_tokens: int = 180,
    ) -> None:
        super().__init__("identity")
        self._groups = [groups for _, groups in kinds]
        weights = [weight for weight, _ in kinds]
        self._chances = np.array(weights) / sum(weights)
        self._builder = builder
        self._skipped = skipped
        self._tokens = tokens
        self._max_tokens = max_tokens
        self._seed = seed

    def pool(self, number: int, share: float) -> list[list[Example]]:  # noqa: ARG002 - the same all along
        """One batch: sentences of groups of one kind, up to the budget of padded positions."""
        rng = np.random.default_rng([self._seed, number])
        groups = self._groups[int(rng.choice(len(self._groups), p=self._chances))]
        batch: list[Example] = []
        words = entities = 0
        while True:
            for example in self._group(groups[int(rng.integers(len(groups)))], rng):
                wider = max(words, example.words), max(entities, example.entities)
                if batch and sum(wider) * (len(batch) + 1) > self._tokens:
                    return [batch]
                words, entities = wider
                batch.append(example)

    def _group(self, group: Group, rng: Generator) -> list[Example]:
        """Neighbouring sentences of one group: an entity is named again soon."""
        first = int(rng.integers(max(1, len(group) - _SENTENCES_OF_A_DOCUMENT + 1)))
        part = group[first : first + _SENTENCES_OF_A_DOCUMENT]
        return [example for item in part if (example := self._example(item)) is not None]

    def _example(self, item: NamedMentions) -> Example | None:
        tokens = self._builder.tokenize(item.text, item.spans)
        covered = np.flatnonzero(tokens.spans[:, 1] > tokens.spans[:, 0]).astype(np.int32)
        if len(tokens.ids) + 2 > self._max_tokens or not len(covered):
            self._skipped[f"identity: {TOO_LONG if len(covered) else 'no mention'}"] += 1
            return None
        window = self._builder.mention_window(tokens, NO_CONTEXT, NO_CONTEXT, covered)
        return Example(window, item.targets[covered].astype(np.int64))
