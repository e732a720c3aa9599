"""Model inputs: where spans of characters fall among the tokens, and one window of tokens per forward pass.

The rule of both versions of transformers: cut the text at every span boundary, move a cut that follows U+0020
one character left (a space belongs to the word after it), tokenise each piece alone, and join the ids.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from luke_batch.base.arrays import IntArray
from luke_batch.base.errors import CheckpointError
from luke_batch.model.inputs.pieces import PlacedPieces
from luke_batch.model.inputs.tokenizer import Tokenizer

_NO_IDS = np.zeros(0, np.int32)


@dataclass(frozen=True, slots=True, eq=False)
class Tokens:
    """A tokenised text without `<s>` and `</s>`."""

    ids: IntArray
    """(t,) token ids."""
    spans: IntArray
    """(n, 2) the token range [start, end) of each span; start == end where a span covers no token."""
    characters: IntArray | None = None
    """(t, 2) the characters that each token shows, where they were asked for."""


@dataclass(frozen=True, slots=True, eq=False)
class Gaps:
    """What the heads of LukeForMaskedLM are asked about a window: its places are m words and all e entities.

    Either the scores of candidates, or the best of the whole vocabularies.
    """

    positions: IntArray
    """(m,) the tokens in whose place a word is asked for."""
    candidates: IntArray | None = None
    """(m + e, k) ids that are scored for each place, of words and then of entities, padded with -1."""
    best: int = 0
    """Without candidates: how many ids are wanted for each place."""
    never: tuple[IntArray, IntArray] = (_NO_IDS, _NO_IDS)
    """Ids of words and of entities that are none of the best."""


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """One model input, without padding."""

    token_ids: IntArray
    """(t,) with `<s>` and `</s>`."""
    entity_ids: IntArray
    """(e,)"""
    entity_spans: IntArray
    """(e, 2) the token range [start, end) of each entity, markers included, longer than max_mention_length
    where the mention is."""
    candidates: IntArray | None = None
    """(e, k) entity ids that are scored for each entity, padded with -1."""
    gaps: Gaps | None = None


class InputBuilder:
    """Builds windows of at most `max_tokens` tokens with `<s>` and `</s>`; a longer one is a ValueError."""

    def __init__(self, tokenizer: Tokenizer, max_tokens: int = 512) -> None:
        self.tokenizer = tokenizer
        self.max_tokens = max_tokens

    def tokenize(self, text: str, spans: IntArray) -> Tokens:
        """Tokenise a text around the (n, 2) character ranges `spans`; ValueError where one is not inside."""
        return self.tokenize_many([(text, spans)])[0]

    def tokenize_many(self, texts_and_spans: Sequence[tuple[str, IntArray]]) -> list[Tokens]:
        """`tokenize` for many texts, in one call of the tokenizer."""
        cuts = [_Cuts.of(text, spans) for text, spans in texts_and_spans]
        if self.tokenizer.first_prefix_space:
            for cut in cuts:
                cut.lead_with_space()
        ids, lengths = self.tokenizer.encode_flat([piece for cut in cuts for piece in cut.pieces])
        ends = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])
        tokens: list[Tokens] = []
        first = 0
        for cut in cuts:
            last = first + len(cut.pieces)
            start = ends[first]
            spans = (ends[first : last + 1] - start)[cut.span_bounds]
            tokens.append(Tokens(ids[start : ends[last]], spans.astype(np.int32)))
            first = last
        return tokens

    def place(self, text: str, spans: IntArray) -> tuple[Tokens, PlacedPieces]:
        """`tokenize`, and where the pieces stand in the text."""
        cuts = _Cuts.of(text, spans)
        placed = [self.tokenizer.place(piece, first=not n) for n, piece in enumerate(cuts.pieces)]
        starts = np.cumsum([0, *(len(piece) for piece in cuts.pieces)], dtype=np.int32)
        ends = np.cumsum([0, *(len(pieces.ids) for pieces in placed)], dtype=np.int32)
        joined = PlacedPieces.joined(placed, starts)
        return Tokens(joined.ids, ends[cuts.span_bounds]), joined

    def text_window(self, ids: IntArray) -> Window:
        """`<s>` ids `</s>`, and no entities."""
        return self._window([ids], np.zeros(0, np.int32), np.zeros((0, 2), np.int32))

    def pair_of_texts(self, first: IntArray, second: IntArray) -> Window:
        """`<s>` first `</s></s>` second `</s>`, and no entities: transformers' input of two texts."""
        between = np.full(2, self.tokenizer.eos_id, np.int32)
        return self._window([first, between, second], np.zeros(0, np.int32), np.zeros((0, 2), np.int32))

    def mention_window(self, tokens: Tokens, left: IntArray, right: IntArray, which: IntArray | None = None) -> Window:
        """`<s>` left tokens right `</s>`, and a [MASK] for each span, or for those at the indices `which`."""
        spans = tokens.spans if which is None else tokens.spans[which]
        entities = np.full(len(spans), self.tokenizer.entity_mask_id, np.int32)
        return self._window([left, tokens.ids, right], entities, spans + np.int32(1 + len(left)))

    def entity_window(
        self,
        tokens: Tokens,
        left: IntArray,
        right: IntArray,
        entity_ids: IntArray,
        candidates: IntArray | None = None,
    ) -> Window:
        """`<s>` left tokens right `</s>`, and an entity of the (n,) `entity_ids` for each span.

        candidates: (n, k) entity ids to score, padded with -1.
        """
        spans = tokens.spans + np.int32(1 + len(left))
        window = self._window([left, tokens.ids, right], entity_ids, spans)
        return window if candidates is None else replace(window, candidates=candidates)

    def typing_window(self, tokens: Tokens, left: IntArray, right: IntArray) -> Window:
        """`<ent>` on both sides of the only span, and one [MASK] whose range includes both."""
        if len(tokens.spans) != 1:
            raise ValueError(f"entity typing takes one span, not {len(tokens.spans)}")
        start, end = (int(bound) for bound in tokens.spans[0])
        marker = np.array([self.tokenizer.entity_marker_id], np.int32)
        ids = tokens.ids
        shift = 1 + len(left)
        return self._window(
            [left, ids[:start], marker, ids[start:end], marker, ids[end:], right],
            np.array([self.tokenizer.entity_mask_id], np.int32),
            np.array([[shift + start, shift + end + 2]], np.int32),
        )

    def pair_window(self, tokens: Tokens, left: IntArray, right: IntArray) -> Window:
        """`<ent>` around the head spans[0], `<ent2>` around the tail spans[1]; entities [MASK] and [MASK2].

        Raises ValueError where the two overlap, and CheckpointError where the checkpoint has no [MASK2].
        """
        if len(tokens.spans) != 2:
            raise ValueError(f"a relation takes two spans, not {len(tokens.spans)}")
        mask2 = self.tokenizer.entity_mask2_id
        if mask2 is None:
            raise CheckpointError(
                f"this {self.tokenizer.kind} checkpoint has no [MASK2] in its entity vocabulary; "
                "relations need a checkpoint that has one"
            )
        markers = np.array([[self.tokenizer.entity_marker_id], [self.tokenizer.entity_marker2_id]], np.int32)
        head, tail = ((int(start), int(end)) for start, end in tokens.spans)
        (start, end), (start2, end2) = sorted([head, tail])
        if end > start2:
            raise ValueError(f"head {head} and tail {tail} overlap")
        first, second = markers if head <= tail else markers[::-1]
        shift = 1 + len(left)
        spans = np.array([[start, end + 2], [start2 + 2, end2 + 4]], np.int32) + np.int32(shift)
        ids = tokens.ids
        marked = [ids[:start], first, ids[start:end], first, ids[end:start2]]
        marked += [second, ids[start2:end2], second, ids[end2:]]
        return self._window(
            [left, *marked, right],
            np.array([self.tokenizer.entity_mask_id, mask2], np.int32),
            spans if head <= tail else spans[::-1].copy(),
        )

    def masked_window(self, left: IntArray, masks: int, right: IntArray, *, entity: bool) -> Window:
        """`<s>` left, `<mask>` times `masks`, right `</s>`, and with `entity` one [MASK] over all masks."""
        words = np.full(masks, self.tokenizer.mask_id, np.int32)
        count, first = int(entity), 1 + len(left)
        entities = np.full(count, self.tokenizer.entity_mask_id, np.int32)
        spans = np.array([[first, first + masks]] * count, np.int32).reshape(-1, 2)
        window = self._window([left, words, right], entities, spans)
        return replace(window, gaps=Gaps(np.arange(first, first + masks, dtype=np.int32)))

    def _window(self, parts: Sequence[IntArray], entity_ids: IntArray, entity_spans: IntArray) -> Window:
        bos, eos = (np.array([value], np.int32) for value in (self.tokenizer.bos_id, self.tokenizer.eos_id))
        token_ids = np.concatenate([bos, *parts, eos])
        if len(token_ids) > self.max_tokens:
            raise ValueError(f"a window of {len(token_ids)} tokens is over the limit of {self.max_tokens}")
        return Window(token_ids, entity_ids, entity_spans)


@dataclass(frozen=True, slots=True, eq=False)
class _Cuts:
    """A text cut at its span boundaries."""

    pieces: list[str]
    span_bounds: IntArray
    """(n, 2) the index of the piece at which each span starts and ends."""

    @classmethod
    def of(cls, text: str, spans: IntArray) -> "_Cuts":
        spans = spans.reshape(-1, 2)
        if spans.size and (spans.min() < 0 or spans.max() > len(text) or (spans[:, 0] > spans[:, 1]).any()):
            raise ValueError(f"a span is not inside a text of {len(text)} characters")
        cuts = np.unique(spans)
        moved = np.array([cut - (cut > 0 and text[cut - 1] == " ") for cut in cuts.tolist()], np.int32)
        bounds = np.unique(np.concatenate([moved, np.array([0, len(text)], np.int32)]))
        edges: list[int] = bounds.tolist()
        pieces = [text[start:end] for start, end in pairwise(edges)]
        cut_bounds = np.searchsorted(bounds, moved).astype(np.int32)
        return cls(pieces, cut_bounds[np.searchsorted(cuts, spans)])

    def lead_with_space(self) -> None:
        """Put a space before the first piece unless one is there: its first word then looks as elsewhere."""
        if self.pieces and not self.pieces[0][0].isspace():
            self.pieces[0] = " " + self.pieces[0]


def padded_positions(spans: IntArray, max_mention_length: int) -> IntArray:
    """(e, max_mention_length) the first token positions of each (e, 2) range, padded with -1."""
    positions = spans[:, :1] + np.arange(max_mention_length, dtype=np.int32)
    return np.where(positions < spans[:, 1:], positions, np.int32(-1))


def context_sizes(left: int, inner: int, right: int, room: int) -> tuple[int, int]:
    """How many of `left` and `right` tokens fill a window of `room` tokens around `inner`.

    LUKE's rule for NER: the shorter side gets at most half of what is free, the other side the rest (the
    right side counts as the shorter where both are equal). ValueError where `inner` alone is over `room`.
    """
    if inner > room:
        raise ValueError(f"{inner} tokens do not fit into {room}")
    free = room - inner
    if left < right:
        before = min(left, free // 2)
        return before, min(right, free - before)
    after = min(right, free // 2)
    return min(left, free - after), after


def chunks(n: int, limit: int = 128) -> list[slice]:
    """Cut n spans into k = ceil(n / limit) runs of ceil(n / k)."""
    if n == 0:
        return []
    size = -(-n // -(-n // limit))
    return [slice(start, min(start + size, n)) for start in range(0, n, size)]


_GAP = "_"
"""Stands in the gap while its surroundings are tokenised; its own tokens are thrown away."""


def around_gap(builder: InputBuilder, left: str, right: str) -> tuple[IntArray, IntArray]:
    """(t,) token ids of the text before the gap, and of that after it."""
    span = np.array([[len(left), len(left) + len(_GAP)]], np.int32)
    tokens = builder.tokenize(left + _GAP + right, span)
    start, end = tokens.spans[0].tolist()
    return tokens.ids[:start], tokens.ids[end:]


def gap_lead(builder: InputBuilder, left: str) -> str:
    """What belongs to the text in the gap after `left`: a space, or nothing."""
    begins = builder.tokenizer.first_prefix_space and not left
    return " " if begins or left.endswith(" ") else ""


def in_gap(builder: InputBuilder, lead: str, texts: Sequence[str]) -> list[IntArray]:
    """(t,) token ids that each text has in a gap; `lead` as `gap_lead` says."""
    return builder.tokenizer.encode([lead + text for text in texts])
