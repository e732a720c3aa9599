"""LUKE's encoder for inference over packed batches.

Equal to transformers' in exact arithmetic. Linear maps and norms see the rows that exist: the words of each
window and its entities, without padding. The position of an entity is the mean of the position rows of its
span, a difference of prefix sums over the position table. The last layer computes the rows that a head reads;
keys and values are those of all rows.
"""

import torch
from torch import Tensor
from torch.nn import functional

from luke_batch.base.errors import CheckpointError
from luke_batch.model.engine.linear import LayerNorm, Linear
from luke_batch.model.engine.packed_attention import PackedAttention
from luke_batch.model.engine.packed_linear import PackedLinear
from luke_batch.model.engine.packing import Indices, PackedWindows
from luke_batch.model.engine.placing import PlacedWindows, place
from luke_batch.model.engine.projections import State
from luke_batch.model.files.checkpoint import Checkpoint
from luke_batch.model.files.weights import Table, encoder_tables, layer_state


class PackedEncoder:
    """A loaded encoder. The products are computed in `dtype`; states between layers are float32."""

    def __init__(self, checkpoint: Checkpoint, device: str, dtype: torch.dtype) -> None:
        """Raises CheckpointError where the weights do not fit, or the activation is another than GELU."""
        activation = checkpoint.config.get("hidden_act", "gelu")
        if activation != "gelu":
            raise CheckpointError(
                f"{checkpoint.path}: its hidden_act is {activation!r}, but `engine: fast` computes gelu "
                "only; set `engine: transformers` for this model"
            )
        self._device = device
        self._longest = checkpoint.max_mention_length
        state = layer_state(checkpoint)
        self._embeddings = _Embeddings(checkpoint, state, device)
        self._layers = [
            _Layer(checkpoint, state, f"encoder.layer.{number}", device, dtype)
            for number in range(checkpoint.setting("num_hidden_layers"))
        ]

    @property
    def words(self) -> Table:
        """The word embeddings."""
        return self._embeddings.words

    @property
    def entities(self) -> Table:
        """The entity embeddings."""
        return self._embeddings.entities

    def __call__(self, batch: PackedWindows, rows: Indices | None = None, only_entities: bool = False) -> Tensor:
        """Last hidden states of all rows, or of those numbered `rows`: (n, hidden) float32.

        `only_entities`: of entities, and `rows` are numbers among these.
        """
        placed = place(batch, rows, self._longest, self._device)
        states = self._embeddings(placed)
        for layer in self._layers[:-1]:
            states = layer(states, placed)
        return self._layers[-1](states, placed, only_entities, placed.rows)


class _Embeddings:
    """Words and entities as they enter the first layer."""

    def __init__(self, checkpoint: Checkpoint, state: State, device: str) -> None:
        self._device = device
        words, self.entities = encoder_tables(checkpoint)
        self.words = words.to(device)
        first = checkpoint.setting("pad_token_id") + 1
        positions = state["embeddings.position_embeddings.weight"][first:]
        self._positions = (positions + state["embeddings.token_type_embeddings.weight"][0]).to(device)
        # Prefix sums lose what float32 differences of large sums cannot hold.
        spans = state["entity_embeddings.position_embeddings.weight"].to(torch.float64).cumsum(0)
        self._sums = functional.pad(spans, (0, 0, 1, 0)).to(device)
        self._dense = state.get("entity_embeddings.entity_embedding_dense.weight")
        self._type = state["entity_embeddings.token_type_embeddings.weight"][0]
        self._word_norm, self._entity_norm = (
            LayerNorm.read(state, f"{part}.LayerNorm", checkpoint.norm_epsilon, device)
            for part in ("embeddings", "entity_embeddings")
        )

    def __call__(self, batch: PlacedWindows) -> Tensor:
        """(w + e, hidden) float32."""
        words = self._word_norm(self.words.rows(batch.token_ids) + self._positions[batch.token_positions])
        if not batch.packed.entities:
            return words
        entities = self._entity_norm(self._entity_rows(batch) + self._mean_positions(batch))
        states = words.new_empty(len(words) + len(entities), words.shape[1])
        states.index_copy_(0, batch.word_rows, words)
        return states.index_copy_(0, batch.entity_rows, entities)

    def _entity_rows(self, batch: PlacedWindows) -> Tensor:
        """(e, hidden): of a table of 500 thousand rows only those are read that occur, each once a batch."""
        rows = self.entities.rows(torch.from_numpy(batch.entity_ids))
        if self._dense is not None:
            rows = functional.linear(rows, self._dense)
        return (rows + self._type).to(self._device)[batch.entity_places]

    def _mean_positions(self, batch: PlacedWindows) -> Tensor:
        length = (batch.ends - batch.starts).clamp_min(1).unsqueeze(1)
        return ((self._sums[batch.ends] - self._sums[batch.starts]) / length).to(torch.float32)


class _Layer:
    """Attention and feed-forward."""

    def __init__(self, checkpoint: Checkpoint, state: State, name: str, device: str, dtype: torch.dtype) -> None:
        heads = checkpoint.setting("num_attention_heads")
        self._attention = PackedAttention(
            state, f"{name}.attention.self", heads, checkpoint.entity_aware, device, dtype
        )
        self._context, self._inner, self._outer = (
            PackedLinear(Linear.read(state, f"{name}.{part}.dense"), device, dtype, gelu)
            for part, gelu in (("attention.output", False), ("intermediate", True), ("output", False))
        )
        self._context_norm, self._outer_norm = (
            LayerNorm.read(state, f"{name}.{part}.LayerNorm", checkpoint.norm_epsilon, device)
            for part in ("attention.output", "output")
        )

    def __call__(
        self,
        states: Tensor,
        batch: PlacedWindows,
        only_entities: bool = False,
        rows: Tensor | None = None,
    ) -> Tensor:
        """The states after this layer, as `PackedEncoder` says."""
        context = self._attention(states, batch, only_entities)
        if only_entities:
            states = states[batch.entity_rows]
        if rows is not None:
            context, states = context[rows], states[rows]
        # In place: fresh memory of that size costs page faults.
        states = self._context_norm(states.add_(self._context(context)))
        inner = self._inner(states)
        return self._outer_norm(states.add_(self._outer(inner)))
