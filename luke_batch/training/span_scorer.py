"""Trains the span scorer: where gold mentions begin and end, from the model's word embeddings as they are.

It learns from rows of the ner head's training data, and its threshold is the one that leaves RECALL of the mentions of
other rows. What it costs is bounded by MOST rows and SHOWN tokens, not by a clock, so that the same data give the same
scorer: two minutes of one core at most, with a hidden size of 384.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from luke_batch.base.arrays import FloatArray, IntArray
from luke_batch.model.engine.span_scorer import SpanScorerNet, word_states
from luke_batch.model.files.weights import Table
from luke_batch.model.inputs.windows import InputBuilder
from luke_batch.training.batches import Example, collate, collate_targets, cut_into_batches
from luke_batch.training.corpus import Row
from luke_batch.training.examples import SpanProposer

_UNKNOWN = -1
_RARE = 4.0
"""A missed bound loses a mention, a needless one costs a few spans: bounds weigh more, by about this."""
_POOL = 2048
RECALL = 0.9925
"""Of the mentions of the rows that the threshold is chosen on, those that the scorer leaves: so many that at least 95%
of the gold spans of each of the embedded model's dev sets are candidates, those that are never proposed counted.
"""
FEWEST = 100
"""Mentions to learn from, and to choose a threshold on: of fewer, RECALL cannot be told."""
MOST = 12_000
"""Rows to learn from; a fourth of that to choose the threshold on."""
SHOWN = 1_000_000
"""About how many tokens the training shows: short data more often, at most 40 times."""


@dataclass(frozen=True, slots=True)
class ScorerConfig:
    """How the scorer is trained."""

    width: int = 96
    epochs: int = 4
    batch_tokens: int = 6000
    """Padded tokens of a batch."""
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
    inputs = collate(batch, 0)
    targets, _ = collate_targets([(example.targets, None) for example in batch], multi_label=False)
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


@dataclass(frozen=True, slots=True, eq=False)
class FittedScorer:
    """A scorer with its threshold, and what it does on the rows that this was chosen on."""

    net: SpanScorerNet
    threshold: float
    """The least of a span's two probabilities with which it is looked at."""
    recall: float
    """Share of the mentions among the candidates that stay."""
    left: float
    """Share of all candidates that stay."""
    seconds: float

    def save(self, file: Path) -> None:
        """Write the net, with its figures as metadata."""
        figures = {"threshold": self.threshold, "recall": self.recall, "left": self.left, "seconds": self.seconds}
        save_file(self.net.state_dict(), file, metadata={"figures": json.dumps(figures)})

    @classmethod
    def load(cls, file: Path) -> FittedScorer:
        """What `save` wrote."""
        with safe_open(file, "pt") as stored:
            state = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 - it is no dictionary
            figures = json.loads(stored.metadata()["figures"])
        width, hidden = state["reduce.weight"].shape
        net = SpanScorerNet(hidden, width)
        net.load_state_dict(state)
        return cls(net.eval(), **figures)

    def describe(self) -> str:
        """One line for a log and a card."""
        return (
            f"span scorer: spans: auto looks at {100 * self.left:.1f}% of the candidate spans, among them"
            f" {100 * self.recall:.1f}% of the mentions of dev (trained in {self.seconds:.0f} s)"
        )


def fit(
    rows: Sequence[Row],
    dev: Sequence[Row],
    labels: Sequence[str],
    builder: InputBuilder,
    propose: SpanProposer,
    table: Table,
    seed: int = 0,
) -> FittedScorer | str:
    """A scorer for the word embeddings `table`, or why there is none.

    `rows`: to learn from; `dev`: to choose the threshold on; where it is empty, that is every tenth of the rows, which
    teach nothing then.
    """
    started = time.monotonic()
    if not dev:
        dev, rows = rows[::10], [row for number, row in enumerate(rows) if number % 10]
    known, held_out = (
        sentences(_spread(part, most), labels, builder, propose) for part, most in ((rows, MOST), (dev, MOST // 4))
    )
    counts = [sum(len(sentence.gold) for sentence in part) for part in (known, held_out)]
    if min(counts) < FEWEST:
        return (
            f"no span scorer: {counts[0]} mentions to learn from and {counts[1]} to choose a threshold on, where each"
            f" must be {FEWEST}; spans: auto looks at all candidates"
        )
    tokens = sum(sentence.example.words for sentence in known)
    epochs = min(max(round(SHOWN / tokens), 1), 40)
    batch = min(ScorerConfig().batch_tokens, max(500, math.ceil(tokens / 20)))
    net = train(known, table, ScorerConfig(epochs=epochs, batch_tokens=batch, seed=seed))
    scores = span_scores(net, held_out, table)
    # A threshold is a probability: neither of nothing nor of everything.
    threshold = min(max(least_bound(scores, held_out, RECALL), 1e-6), 1 - 1e-6)
    gold, every = (
        np.concatenate([span_least(values, getattr(item, kind)) for values, item in zip(scores, held_out, strict=True)])
        for kind in ("gold", "spans")
    )
    seconds = time.monotonic() - started
    return FittedScorer(net, threshold, float((gold >= threshold).mean()), float((every >= threshold).mean()), seconds)


def _spread(rows: Sequence[Row], most: int) -> Sequence[Row]:
    """At most so many, from all parts of the data."""
    if len(rows) <= most:
        return rows
    return [rows[place] for place in np.linspace(0, len(rows) - 1, most).astype(int).tolist()]
