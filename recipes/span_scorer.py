"""Trains the span scorer: where gold mentions begin and end, from the model's frozen word embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from luke_batch.base.arrays import FloatArray, IntArray
from luke_batch.model.engine.span_scorer import SpanScorerNet, word_states
from luke_batch.model.files.weights import Table
from luke_batch.model.inputs.windows import InputBuilder
from luke_batch.training.batches import Example, collate, cut_into_batches
from luke_batch.training.corpus import Row
from luke_batch.training.examples import SpanProposer

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
class CutSentence:
    """A sentence cut at all its candidate spans, as inference cuts it."""

    example: Example
    """Its words alone, with `<s>` and `</s>`; the targets, (t, 2) int8, are whether a mention begins and ends at
    each token; -1 where the annotation does not tell.
    """
    spans: IntArray
    """(n, 2) token ranges of the candidates that cover a token."""
    gold: IntArray
    """(g, 2) token ranges of the mentions among them."""


def sentences(
    rows: Sequence[Row], labels: Sequence[str], builder: InputBuilder, propose: SpanProposer
) -> list[CutSentence]:
    """The rows that fit a window. Mentions of other labels than `labels` count for nothing."""
    found: list[CutSentence] = []
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
        found.append(CutSentence(Example(window, bounds), covered, np.array(gold, np.int32).reshape(-1, 2)))
    return found


def train(data: Sequence[CutSentence], table: Table, config: ScorerConfig) -> SpanScorerNet:
    """A net for the word embeddings `table`; the same data, table and seed give the same one."""
    torch.manual_seed(config.seed)
    rng = np.random.default_rng(config.seed)
    net = SpanScorerNet(table.stored.shape[1], config.width)
    optimizer = torch.optim.AdamW(net.parameters(), config.rate, weight_decay=0.01)
    batches = [batch for _ in range(config.epochs) for batch in _shuffled(data, config.batch_tokens, rng)]
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, config.rate, total_steps=max(len(batches), 1), pct_start=0.05, anneal_strategy="linear"
    )
    weight = torch.tensor(_RARE)
    for batch in batches:
        logits, targets = _logits(net, table, batch)
        known = targets >= 0
        loss = functional.binary_cross_entropy_with_logits(logits[known], targets[known].float(), pos_weight=weight)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return net.eval()


def _shuffled(data: Sequence[CutSentence], tokens: int, rng: np.random.Generator) -> list[list[Example]]:
    """All sentences once in random order, those of similar length together."""
    found: list[list[Example]] = []
    order = rng.permutation(len(data)).tolist()
    for start in range(0, len(order), _POOL):
        batches = cut_into_batches([data[place].example for place in order[start : start + _POOL]], tokens)
        rng.shuffle(batches)
        found += batches
    return found


def _logits(net: SpanScorerNet, table: Table, batch: Sequence[Example]) -> tuple[Tensor, Tensor]:
    """(batch, words, 2) logits and targets; those of padding are below 0."""
    inputs, targets, _ = collate(batch, 0, multi_label=False)
    present = torch.arange(inputs.token_ids.shape[1]) < inputs.token_lengths[:, None]
    return net(word_states(table, inputs.token_ids), present), targets


@torch.inference_mode()
def span_scores(net: SpanScorerNet, data: Sequence[CutSentence], table: Table) -> list[FloatArray]:
    """(t, 2) probabilities of "begins" and "ends" for each sentence."""
    found: dict[int, FloatArray] = {}
    for batch in cut_into_batches([sentence.example for sentence in data], 6000):
        scores = torch.sigmoid(_logits(net, table, batch)[0]).numpy()
        for example, values in zip(batch, scores, strict=True):
            found[id(example)] = values[: example.words]
    return [found[id(sentence.example)] for sentence in data]


class LikelySpans:
    """The proposed spans of a row that inference looks at: a proposer by itself."""

    def __init__(
        self, net: SpanScorerNet, table: Table, least: float, builder: InputBuilder, propose: SpanProposer
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


def least_bound(scores: Sequence[FloatArray], data: Sequence[CutSentence], recall: float) -> float:
    """The threshold that leaves `recall` of the gold mentions; 0.5 where there is none."""
    least = [span_least(values, sentence.gold) for values, sentence in zip(scores, data, strict=True)]
    every = np.sort(np.concatenate(least)) if least else np.zeros(0)
    return float(every[int((1 - recall) * len(every))]) if len(every) else 0.5


def span_least(scores: FloatArray, spans: IntArray) -> FloatArray:
    """(n,) the lower of the two probabilities of each (n, 2) token range."""
    return np.minimum(scores[spans[:, 0], 0], scores[spans[:, 1] - 1, 1])
