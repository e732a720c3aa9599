"""The word head of LukeForMaskedLM: RoBERTa's, always with gelu (transformers' LukeLMHead)."""

from torch import Tensor
from torch.nn import functional

from luke_batch.model.engine.linear import LayerNorm, Linear
from luke_batch.model.engine.vocabulary import Vocabulary
from luke_batch.model.files.checkpoint import Checkpoint
from luke_batch.model.files.weights import Table, word_decoder, word_head_state


class WordHead:
    """Scores the words of the whole vocabulary."""

    def __init__(self, checkpoint: Checkpoint, words: Table, device: str) -> None:
        """`words`: the word embeddings, to which the decoder is tied where the file has none of its own.

        Raises CheckpointError where the weights do not fit.
        """
        state = word_head_state(checkpoint)
        self._dense = Linear.read(state, "dense").to(device, state["dense.weight"].dtype)
        self._norm = LayerNorm.read(state, "layer_norm", checkpoint.norm_epsilon, device)
        self.vocabulary = Vocabulary(word_decoder(checkpoint, words), state["bias"], device)

    def transform(self, states: Tensor) -> Tensor:
        """(n, hidden) float32 of the (n, hidden) last states of gaps."""
        return self._norm(functional.gelu(self._dense(states)))
