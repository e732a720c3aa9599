"""Trains the span scorer: where gold mentions begin and end, from the model's frozen word embeddings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from luke_batch.base.arrays import FloatArray, IntArray
from luke_batch.model.engine.span_scorer import SpanScorerNet, word_states
from luke_batch.model.files.weights import Table
from luke_batch.model.inputs.windows import InputBuilder
from luke_batch.training.data import Row
from luke_batch.training.tasks import Proposer

_UNKNOWN = -1
_RARE = 4.0
"""A missed bound loses a mention, a needless one costs a few spans: bounds weigh more, by about this."""
_POOL = 2048


@dataclass(frozen=True, slots=True)
class ScorerConfig:
    """How the scorer is trained."""

    width: int = 96
    epochs: int = 4
    batch_tokens: int = 6000
    rate: float = 3e-3
    seed: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Sentence:
    """A sentence cut at all its candidate spans, as inference cuts it."""

    token_ids: IntArray
    """(t,) with `<s>` and `</s>`."""
    bounds: NDArray[np.int8]
    """(t, 2) whether a mention begins and ends at each token; -1 where the annotation does not tell."""
    spans: IntArray
    """(n, 2) token ranges of the candidates that cover a token."""
    gold: IntArray
    """(g, 2) token ranges of the mentions among them."""


def sentences(rows: Sequence[Row], labels: Sequence[str], builder: InputBuilder, propose: Proposer) -> list[Sentence]:
    """The rows that fit a window. Mentions of other labels than `labels` count for nothing."""
    found: list[Sentence] = []
    for row in rows:
        spans = propose(row)
        tokens = builder.tokenize(row.text, spans)
        if not len(spans) or len(tokens.ids) + 2 > builder.max_tokens:
            continue
        window = builder.text_window(tokens.ids)
        ranges = tokens.spans + np.int32(1)
        bounds = np.zeros((len(window.token_ids), 2), np.int8)
        at = {tuple(span): place for place, span in enumerate(spans.tolist())}
        gold: list[IntArray] = []
        for item in row.entities:
            place = at.get((item.start, item.end))
            if place is None or ranges[place, 0] == ranges[place, 1]:
                continue
            first, last = ranges[place]
            if item.label is None:
                bounds[first:last] = _UNKNOWN
            elif item.label in labels:
                gold.append(ranges[place])
                bounds[first, 0] = bounds[last - 1, 1] = 1
        covered = ranges[ranges[:, 1] > ranges[:, 0]]
        found.append(Sentence(window.token_ids, bounds, covered, np.array(gold, np.int32).reshape(-1, 2)))
    return found


def train(data: Sequence[Sentence], table: Table, config: ScorerConfig) -> SpanScorerNet:
    """A net for the word embeddings `table`; the same data, table and seed give the same one."""
    torch.manual_seed(config.seed)
    rng = np.random.default_rng(config.seed)
    net = SpanScorerNet(table.stored.shape[1], config.width)
    optimizer = torch.optim.AdamW(net.parameters(), config.rate, weight_decay=0.01)
    batches = [batch for _ in range(config.epochs) for batch in _batches(data, config.batch_tokens, rng)]
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, config.rate, total_steps=max(len(batches), 1), pct_start=0.05, anneal_strategy="linear"
    )
    weight = torch.tensor(_RARE)
    for batch in batches:
        token_ids, present, targets = _collate(batch)
        logits = net(word_states(table, token_ids), present)
        known = targets >= 0
        loss = functional.binary_cross_entropy_with_logits(logits[known], targets[known].float(), pos_weight=weight)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return net.eval()


@torch.inference_mode()
def span_scores(net: SpanScorerNet, data: Sequence[Sentence], table: Table) -> list[FloatArray]:
    """(t, 2) probabilities of "begins" and "ends" for each sentence."""
    found: dict[int, FloatArray] = {}
    for batch in _batches(data, 6000, None):
        token_ids, present, _ = _collate(batch)
        scores = torch.sigmoid(net(word_states(table, token_ids), present)).numpy()
        for sentence, values in zip(batch, scores, strict=True):
            found[id(sentence)] = values[: len(sentence.token_ids)]
    return [found[id(sentence)] for sentence in data]


class LikelySpans:
    """The proposed spans of a row that inference looks at: a proposer by itself."""

    def __init__(
        self, net: SpanScorerNet, table: Table, least: float, builder: InputBuilder, propose: Proposer
    ) -> None:
        """`least`: the threshold on the lower of a span's two probabilities."""
        self._net = net
        self._table = table
        self._least = least
        self._builder = builder
        self._propose = propose

    @torch.inference_mode()
    def __call__(self, row: Row) -> IntArray:
        """(n, 2) character ranges."""
        spans = self._propose(row)
        tokens = self._builder.tokenize(row.text, spans)
        token_ids = torch.from_numpy(tokens.ids.astype(np.int64))
        ends = [torch.tensor([value]) for value in (self._builder.tokenizer.bos_id, self._builder.tokenizer.eos_id)]
        words = word_states(self._table, torch.cat([ends[0], token_ids, ends[1]])[None])
        scores = torch.sigmoid(self._net(words, torch.ones(words.shape[:2], dtype=torch.bool)))[0].numpy()
        covered = np.flatnonzero(tokens.spans[:, 1] > tokens.spans[:, 0])
        least = span_least(scores, tokens.spans[covered] + 1)
        return spans[covered[least >= self._least]]


def least_bound(scores: Sequence[FloatArray], data: Sequence[Sentence], recall: float) -> float:
    """The threshold that leaves `recall` of the gold mentions; 0.5 where there is none."""
    least = [span_least(values, sentence.gold) for values, sentence in zip(scores, data, strict=True)]
    every = np.sort(np.concatenate(least)) if least else np.zeros(0)
    return float(every[int((1 - recall) * len(every))]) if len(every) else 0.5


def span_least(scores: FloatArray, spans: IntArray) -> FloatArray:
    """(n,) the lower of the two probabilities of each (n, 2) token range."""
    return np.minimum(scores[spans[:, 0], 0], scores[spans[:, 1] - 1, 1])


def _batches(data: Sequence[Sentence], tokens: int, rng: np.random.Generator | None) -> Iterator[list[Sentence]]:
    """All sentences once, those of similar length together; in random order where there is a generator."""
    order = np.arange(len(data)) if rng is None else rng.permutation(len(data))
    for start in range(0, len(order), _POOL):
        pool = sorted((data[place] for place in order[start : start + _POOL]), key=_length)
        batches: list[list[Sentence]] = [[]]
        for sentence in pool:
            if batches[-1] and (len(batches[-1]) + 1) * len(sentence.token_ids) > tokens:
                batches.append([])
            batches[-1].append(sentence)
        places = range(len(batches)) if rng is None else rng.permutation(len(batches)).tolist()
        yield from (batches[place] for place in places)


def _collate(batch: Sequence[Sentence]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    lengths = [len(sentence.token_ids) for sentence in batch]
    token_ids = np.zeros((len(batch), max(lengths)), np.int64)
    targets = np.full((*token_ids.shape, 2), _UNKNOWN, np.int8)
    for row, sentence in enumerate(batch):
        token_ids[row, : lengths[row]] = sentence.token_ids
        targets[row, : lengths[row]] = sentence.bounds
    present = torch.arange(token_ids.shape[1]) < torch.tensor(lengths)[:, None]
    return torch.from_numpy(token_ids), present, torch.from_numpy(targets)


def _length(sentence: Sentence) -> int:
    return len(sentence.token_ids)
