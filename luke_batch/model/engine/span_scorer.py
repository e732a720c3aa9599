"""Which words can begin or end a mention: a small convolutional net over word embeddings.

Scoring every span of a sentence is most of the work of NER, and nearly all spans are trivially no mention.
The scorer reads the rows of the model's word embeddings (normalised; frozen in training), mixes those of nine
neighbouring tokens in two residual convolutions and tells for each token whether a mention may begin or end
there. That is under 1% of the encoder's work for the same words. It learns from the NER head's training data
(`training/span_scorer.py`), and its threshold is chosen for recall: it decides what is looked at, the
NER head decides what is a mention.
"""

from collections.abc import Sequence

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from luke_batch.base.arrays import FloatArray
from luke_batch.base.errors import CheckpointError
from luke_batch.model.files.checkpoint import SCORER_FILE, Checkpoint
from luke_batch.model.files.weights import Table, encoder_tables
from luke_batch.model.inputs.windows import Window

_REACH = 2
"""Tokens on each side that a convolution sees."""
_BLOCKS = 2


class SpanScorerNet(nn.Module):
    """(b, t, hidden) normalised word embeddings to (b, t, 2) logits of "begins" and "ends"."""

    def __init__(self, hidden: int, width: int) -> None:
        super().__init__()
        self.reduce = nn.Linear(hidden, width)
        self.mix = nn.ModuleList(nn.Conv1d(width, width, 2 * _REACH + 1, padding=_REACH) for _ in range(_BLOCKS))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(_BLOCKS))
        self.bounds = nn.Linear(width, 2)

    def forward(self, words: Tensor, present: Tensor) -> Tensor:
        """`present`, (b, t) bool: padding must not reach its neighbours through the convolutions."""
        states = functional.gelu(self.reduce(words))
        for convolution, norm in zip(self.mix, self.norms, strict=True):
            mixed = convolution((states * present.unsqueeze(-1)).mT).mT
            states = norm(states + functional.gelu(mixed))
        return self.bounds(states)


def word_states(table: Table, token_ids: Tensor) -> Tensor:
    """The rows of `token_ids` (b, t) as the net reads them: (b, t, hidden) float32 of unit variance."""
    rows = table.rows(token_ids.flatten()).view(*token_ids.shape, -1)
    return functional.layer_norm(rows, rows.shape[-1:])


class SpanScorer:
    """The scorer of a loaded checkpoint. It runs on the CPU, where the memory-mapped embeddings are."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        """Raises CheckpointError where the file is damaged or belongs to another model."""
        path = checkpoint.folder / SCORER_FILE
        try:
            state = load_file(path)
            net = SpanScorerNet(checkpoint.hidden_size, len(state["reduce.bias"]))
            net.load_state_dict(state)
        except (OSError, SafetensorError, KeyError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise CheckpointError(f"{path}: no span scorer of this model ({reason}); copy it again") from error
        self._net = net.eval()
        self._table, _ = encoder_tables(checkpoint)

    @torch.inference_mode()
    def __call__(self, windows: Sequence[Window]) -> list[FloatArray]:
        """(t, 2) probabilities that a mention begins and ends at each token, special ones included."""
        lengths = [len(window.token_ids) for window in windows]
        token_ids = np.zeros((len(windows), max(lengths)), np.int64)
        for row, window in enumerate(windows):
            token_ids[row, : lengths[row]] = window.token_ids
        present = torch.arange(token_ids.shape[1]) < torch.tensor(lengths)[:, None]
        logits = self._net(word_states(self._table, torch.from_numpy(token_ids)), present)
        probabilities = torch.sigmoid(logits).numpy()
        return [row[:length] for row, length in zip(probabilities, lengths, strict=True)]
