"""The entity head of LukeForMaskedLM, over candidates: only their rows of the entity table are looked up.

z = LayerNorm(act(W h)), and the logit of a candidate is z . E[candidate] + bias[candidate] (Yamada et al.
2020, section 3.2); the table E is the one that entities enter by. Of a vocabulary of 500 thousand titles
neither the table nor a row of logits is ever built.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from luke_batch.base.arrays import FloatArray, IntArray
from luke_batch.model.engine.linear import LayerNorm, Linear
from luke_batch.model.files.checkpoint import Checkpoint
from luke_batch.model.files.weights import Table, entity_head_state
from luke_batch.model.inputs.windows import Window

Activation = Callable[[Tensor], Tensor]


class EntityHead:
    """Scores the candidates of windows."""

    def __init__(self, checkpoint: Checkpoint, table: Table, device: str) -> None:
        """`table`: the entity embeddings. Raises CheckpointError where the weights do not fit."""
        state = entity_head_state(checkpoint)
        self._table = table
        self.bias = state["bias"]
        """(entities,) float32, on the CPU."""
        self._dense = Linear.read(state, "transform.dense").to(device, torch.float32)
        self._norm = LayerNorm.read(state, "transform.LayerNorm", checkpoint.norm_epsilon, device)
        self._activation = _activation(str(checkpoint.config.get("hidden_act", "gelu")))

    def transform(self, states: Tensor) -> Tensor:
        """(n, width) float32 of the (n, hidden) last states of entities."""
        return self._norm(self._activation(self._dense(states)))

    def __call__(self, states: Tensor, windows: Sequence[Window]) -> list[FloatArray]:
        """(e, k) logits of each window's candidates, -inf where these are padded.

        `states`: (sum of e, hidden) of the entities of all windows, one after another.
        """
        transformed = self.transform(states)
        logits: list[FloatArray] = []
        first = 0
        for window in windows:
            assert window.candidates is not None, "checked by the engine"
            own = transformed[first : first + len(window.candidates)]
            first += len(window.candidates)
            logits.append(self._scores(own, window.candidates))
        return logits

    def _scores(self, transformed: Tensor, candidates: IntArray) -> FloatArray:
        # A document repeats its candidates: each row is read from the mapped table once.
        unique, places = np.unique(np.maximum(candidates, 0), return_inverse=True)
        ids = torch.from_numpy(unique.astype(np.int64))
        rows, bias = (part.to(transformed.device) for part in (self._table.rows(ids), self.bias[ids]))
        chosen = torch.from_numpy(places.reshape(candidates.shape)).to(transformed.device)
        logits = torch.bmm(rows[chosen], transformed.unsqueeze(2)).squeeze(2) + bias[chosen]
        return np.where(candidates >= 0, logits.cpu().numpy(), np.float32(-np.inf))


def _activation(name: str) -> Activation:
    """As transformers has it; the package is imported for others than gelu alone, as it takes 90 MB."""
    if name == "gelu":
        return functional.gelu
    from transformers.activations import ACT2FN

    return ACT2FN[name]
