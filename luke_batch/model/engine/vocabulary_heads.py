"""The heads of LukeForMaskedLM: which entities and words of the vocabularies fill a place.

A head tells a word or entity x from the last state h of its place: z = LayerNorm(act(W h)), and the logit of x is
z . E[x] + bias[x] (Yamada et al. 2020, section 3.2). The table E is the one that words or entities enter by.

Among candidates only their rows are looked up. Log-probabilities over a whole vocabulary read the table in
blocks of rows with a running log-sum-exp. So neither (places x vocabulary) numbers nor a float32 copy of a table
of 500 thousand entities ever exist; a memory-mapped table stays mapped.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from luke_batch.base.arrays import FloatArray, IntArray
from luke_batch.model.engine.encoder import LayerNorm, Linear
from luke_batch.model.files.checkpoint import Checkpoint
from luke_batch.model.files.weights import Table, entity_head_state, word_decoder, word_head_state
from luke_batch.model.inputs.windows import Gaps, Window

_ROWS = 16_384
"""Of the table at once: 50 MB of float32 where a row has 768."""
_PLACES = 256
"""At once: 17 MB of logits a block."""
_PRODUCTS = 2**24
"""Numbers of the rows of candidates that are gathered at once: 67 MB."""


@dataclass(frozen=True, slots=True, eq=False)
class PredictionHead:
    """The head for words, or the one for entities."""

    dense: Linear
    activation: Callable[[Tensor], Tensor]
    norm: LayerNorm
    table: Table
    """(vocabulary, width), wherever it is given."""
    bias: Tensor
    """(vocabulary,) float32, on the CPU."""

    @classmethod
    def of_entities(cls, checkpoint: Checkpoint, table: Table, device: str) -> Self:
        """`table`: the entity embeddings. Raises CheckpointError where the weights do not fit."""
        state = entity_head_state(checkpoint)
        dense = Linear.read(state, "transform.dense").to(device, torch.float32)
        norm = LayerNorm.read(state, "transform.LayerNorm", checkpoint.norm_epsilon, device)
        activation = _activation(str(checkpoint.config.get("hidden_act", "gelu")))
        return cls(dense, activation, norm, table, state["bias"])

    @classmethod
    def of_words(cls, checkpoint: Checkpoint, words: Table, device: str) -> Self:
        """RoBERTa's, always with gelu (transformers' LukeLMHead).

        words: the word embeddings, to which the decoder is tied where the file has none of its own.
        Raises CheckpointError where the weights do not fit.
        """
        state = word_head_state(checkpoint)
        dense = Linear.read(state, "dense").to(device, torch.float32)
        norm = LayerNorm.read(state, "layer_norm", checkpoint.norm_epsilon, device)
        return cls(dense, functional.gelu, norm, word_decoder(checkpoint, words), state["bias"])

    def transform(self, states: Tensor) -> Tensor:
        """(n, width) float32 of the (n, hidden) last states of places."""
        return self.norm(self.activation(self.dense(states)))

    def among_candidates(self, states: Tensor, windows: Sequence[Window]) -> list[FloatArray]:
        """(e, k) logits of each window's candidates, -inf where these are padded.

        `states`: (sum of e, hidden) of the entities of all windows, one after another.
        """
        transformed = self.transform(states)
        logits: list[FloatArray] = []
        first = 0
        for window in windows:
            candidates = window.candidates
            assert candidates is not None, "checked by the engine"
            own = transformed[first : first + len(candidates)]
            first += len(candidates)
            scores = _candidate_logits(self.table, self.bias, own, candidates)
            logits.append(np.where(candidates >= 0, scores, np.float32(-np.inf)))
        return logits


def _activation(name: str) -> Callable[[Tensor], Tensor]:
    """As transformers has it; the package is imported for others than gelu alone, as it takes 90 MB."""
    if name == "gelu":
        return functional.gelu
    from transformers.activations import ACT2FN

    return ACT2FN[name]


def _candidate_logits(table: Table, bias: Tensor, states: Tensor, candidates: IntArray) -> FloatArray:
    """(n, k) logits of (n, k) `candidates` for (n, width) `states`; those of -1 mean nothing.

    A document repeats its candidates: each row of the table is read once. `table` and `bias` are on one device.
    """
    unique, places = np.unique(np.maximum(candidates, 0), return_inverse=True)
    ids = torch.from_numpy(unique.astype(np.int64)).to(bias.device)
    rows, biases = (part.to(states.device) for part in (table.rows(ids), bias[ids]))
    chosen = torch.from_numpy(places.reshape(candidates.shape)).to(states.device)
    return (torch.bmm(rows[chosen], states.unsqueeze(2)).squeeze(2) + biases[chosen]).cpu().numpy()


class TableSoftmax:
    """softmax(states @ table.T + bias) over a whole vocabulary, for what is asked of it."""

    def __init__(self, table: Table, bias: Tensor, device: str) -> None:
        """`table`: (rows, width), `bias`: (rows,); they are moved to `device`."""
        self._table = table.to(device)
        self._bias = bias.to(device)

    def scores(self, states: Tensor, candidates: IntArray) -> FloatArray:
        """(n, k) log-probabilities of the (n, k) `candidates` for (n, width) float32 states; -inf for -1."""
        totals = self._totals(states).cpu().numpy()
        step = max(1, _PRODUCTS // max(1, candidates.shape[1] * states.shape[1]))
        parts = [
            _candidate_logits(self._table, self._bias, states[start : start + step], candidates[start : start + step])
            for start in range(0, len(states), step)
        ]
        logits = np.concatenate([np.zeros((0, candidates.shape[1]), np.float32), *parts])
        return np.where(candidates >= 0, logits - totals[:, None], np.float32(-np.inf))

    def best(self, states: Tensor, count: int, never: IntArray) -> FloatArray:
        """(n, count, 2) ids and log-probabilities of (n, width) float32 states, best first.

        `never`: ids that are left out, though they count in the probabilities. -1 and -inf where the
        vocabulary has no more.
        """
        left_out = torch.zeros(len(self._bias), dtype=torch.bool, device=states.device)
        left_out[torch.from_numpy(never.astype(np.int64)).to(states.device)] = True
        parts = [self._best(part, count, left_out) for part in states.split(_PLACES)]
        found = np.concatenate([np.zeros((0, count, 2), np.float32), *(part.cpu().numpy() for part in parts)])
        found[..., 0] = np.where(np.isfinite(found[..., 1]), found[..., 0], np.float32(-1))
        return found

    def _best(self, states: Tensor, count: int, left_out: Tensor) -> Tensor:
        ids = torch.full((len(states), count), -1, device=states.device)
        values = torch.full((len(states), count), -torch.inf, device=states.device)
        total = values.new_full((len(states),), -torch.inf)
        for start, logits in self._blocks(states):
            total = torch.logaddexp(total, logits.logsumexp(1))
            logits = logits.masked_fill_(left_out[start : start + logits.shape[1]], -torch.inf)
            own = torch.arange(start, start + logits.shape[1], device=states.device).expand_as(logits)
            values, places = torch.cat([values, logits], 1).topk(count, 1)
            ids = torch.cat([ids, own], 1).gather(1, places)
        # float32 holds every id below 2 ** 24 exactly.
        return torch.stack([ids.to(torch.float32), values - total.unsqueeze(1)], 2)

    def _totals(self, states: Tensor) -> Tensor:
        """(n,) log-sum-exp of all logits."""
        totals: list[Tensor] = [states.new_zeros(0)]
        for part in states.split(_PLACES):
            total = states.new_full((len(part),), -torch.inf)
            for _, logits in self._blocks(part):
                total = torch.logaddexp(total, logits.logsumexp(1))
            totals.append(total)
        return torch.cat(totals)

    def _blocks(self, states: Tensor) -> Iterator[tuple[int, Tensor]]:
        """The first id of each block of rows, and the (n, rows) logits of these."""
        for start in range(0, len(self._bias), _ROWS):
            end = min(start + _ROWS, len(self._bias))
            yield start, torch.addmm(self._bias[start:end], states, self._table.block(start, end).T)


class MaskedHeads:
    """What words and entities fill gaps; each head is loaded when it is first asked, as a checkpoint may lack it."""

    def __init__(self, checkpoint: Checkpoint, words: Table, entities: Table, device: str) -> None:
        """`words`, `entities`: the embeddings. A call raises CheckpointError where weights do not fit."""
        self._checkpoint = checkpoint
        self._tables = words, entities
        self._device = device
        self._loaded: dict[int, tuple[PredictionHead, TableSoftmax]] = {}

    def __call__(self, words: Tensor, entities: Tensor, windows: Sequence[Window]) -> list[FloatArray]:
        """What `Reads.GAPS` says for each window.

        words: (sum of m, hidden) last states of the gaps of all windows, one after another.
        entities: (sum of e, hidden) those of the entities.
        """
        counts = [(len(_gaps(window).positions), len(window.entity_ids)) for window in windows]
        answers: list[list[FloatArray]] = [[] for _ in windows]
        for side, states in enumerate((words, entities)):
            sizes = [count[side] for count in counts]
            if sum(sizes):
                head, softmax = self._head(side)
                parts = head.transform(states).split(sizes)
                for place, found in _answers(softmax, parts, windows, counts, side):
                    answers[place].append(found)
        return [np.concatenate(found) for found in answers]

    def _head(self, side: int) -> tuple[PredictionHead, TableSoftmax]:
        if side not in self._loaded:
            load = (PredictionHead.of_words, PredictionHead.of_entities)[side]
            head = load(self._checkpoint, self._tables[side], self._device)
            self._loaded[side] = head, TableSoftmax(head.table, head.bias, self._device)
        return self._loaded[side]


def _gaps(window: Window) -> Gaps:
    assert window.gaps is not None, "checked by the engine"
    return window.gaps


def _answers(
    softmax: TableSoftmax,
    parts: Sequence[Tensor],
    windows: Sequence[Window],
    counts: Sequence[tuple[int, int]],
    side: int,
) -> list[tuple[int, FloatArray]]:
    """Place of a window and what one head answers to it, for all that have a place for this head.

    Those that ask for equally many candidates, or for the same number of best ids, are answered together.
    """
    groups: dict[tuple[int, int, int], list[int]] = defaultdict(list)
    for place, window in enumerate(windows):
        if counts[place][side]:
            gaps = _gaps(window)
            width = 0 if gaps.candidates is None else gaps.candidates.shape[1]
            groups[width, gaps.best, id(gaps.never[side])].append(place)
    found: list[tuple[int, FloatArray]] = []
    for places in groups.values():
        states = torch.cat([parts[place] for place in places])
        asked = [_gaps(windows[place]) for place in places]
        if asked[0].candidates is None:
            rows = softmax.best(states, asked[0].best, asked[0].never[side])
        else:
            middles = [counts[place][0] for place in places]
            own = [
                (g.candidates[m:] if side else g.candidates[:m])
                for g, m in zip(asked, middles, strict=True)
                if g.candidates is not None
            ]
            rows = softmax.scores(states, np.concatenate(own))
        ends = np.cumsum([counts[place][side] for place in places])[:-1]
        found += zip(places, np.split(rows, ends), strict=True)
    return found
