"""Log-probabilities over a whole vocabulary, without a row of logits for it.

The table is read in blocks of rows with a running log-sum-exp, so neither (places x vocabulary) numbers nor a
float32 copy of a table of 500 thousand entities ever exist; a memory-mapped table stays mapped.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from luke_batch.base.arrays import FloatArray, IntArray
from luke_batch.model.files.weights import Table

_ROWS = 16_384
"""Of the table at once: 50 MB of float32 where a row has 768."""
_PLACES = 256
"""At once: 17 MB of logits a block."""
_PRODUCTS = 2**24
"""Numbers of the rows of candidates that are gathered at once: 67 MB."""


class Vocabulary:
    """softmax(states @ table.T + bias), for what is asked of it."""

    def __init__(self, table: Table, bias: Tensor, device: str) -> None:
        """`table`: (rows, width), `bias`: (rows,); they are moved to `device`."""
        self._table = table.to(device)
        self._bias = bias.to(device)

    def scores(self, states: Tensor, candidates: IntArray) -> FloatArray:
        """(n, k) log-probabilities of the (n, k) `candidates` for (n, width) float32 states; -inf for -1."""
        totals = self._totals(states).cpu().numpy()
        step = max(1, _PRODUCTS // max(1, candidates.shape[1] * states.shape[1]))
        parts = [
            self._logits(states[start : start + step], candidates[start : start + step])
            for start in range(0, len(states), step)
        ]
        logits = np.concatenate([np.zeros((0, candidates.shape[1]), np.float32), *parts])
        return np.where(candidates >= 0, logits - totals[:, None], np.float32(-np.inf))

    def _logits(self, states: Tensor, candidates: IntArray) -> FloatArray:
        """(n, k); each row of the table is read once."""
        unique, places = np.unique(np.maximum(candidates, 0), return_inverse=True)
        ids = torch.from_numpy(unique.astype(np.int64)).to(states.device)
        chosen = torch.from_numpy(places.reshape(candidates.shape)).to(states.device)
        products = torch.bmm(self._table.rows(ids)[chosen], states.unsqueeze(2)).squeeze(2)
        return (products + self._bias[ids][chosen]).cpu().numpy()

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
