"""LUKE's encoder for inference, from ids to last hidden states; it reads from top to bottom.

* `PackedEncoder`: embeddings, the layers, and the rows that a head reads.
* `_Embeddings`: a token is its id and its place; an entity is its id and the mean place of its tokens.
* `_Layer`: attention, then the feed-forward part; each is added to the states and normed.
* `_Attention`: every row looks at all rows of its window, and LUKE asks a token otherwise than an entity.
* `_Projections`: queries, keys and values. The rest is one softmax over two kinds of scores, on GPUs in
  one kernel (`_attend_in_sequence`), on CPUs group by group (`_attend_in_group`).

It is equal to transformers' LukeModel in exact arithmetic, and faster by four rewrites. A batch is packed:
linear maps and norms see the rows that exist, without padding. The place of an entity is the mean of the
position rows of its span, a difference of prefix sums over the position table. Windows of equal shape attend
together without a mask. The last layer computes the rows that a head reads, from keys and values of all.

Shapes, as they stand beside the lines:

    T, E       tokens (pieces of words) and entities of all windows of the batch
    R          rows, T + E: the tokens of a window, then its entities, then the next window's
    A          rows that ask: all R, or the E of entities only
    n          rows that a head reads, of A
    H = N x D  hidden size: heads (N) of size D;  I: inner size of the feed-forward part
    W          windows of the batch; of a group of equal windows:
    w, t, e    its windows; the tokens and entities of each;  r = t + e;  a: asking rows of each
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn import functional

from luke_batch.base.errors import CheckpointError
from luke_batch.model.engine.packing import Indices, PackedWindows, ShapeGroup
from luke_batch.model.files.checkpoint import Checkpoint
from luke_batch.model.files.weights import Table, encoder_tables, layer_state

# torch keeps a kernel of about a megabyte for each number of rows that it has seen, up to a thousand. Batches
# differ, and ask for some twenty each: 32 cost no time, and the memory of an actor does not grow.
for _name in ("LRU_CACHE_CAPACITY", "ONEDNN_PRIMITIVE_CACHE_CAPACITY"):
    os.environ.setdefault(_name, "32")

_ROWS = 1024
"""Rows that a layout is asked for; any other number runs with it equally fast."""


@dataclass(frozen=True, slots=True, eq=False)
class Linear:
    """states @ weight.T + bias, as `torch.nn.Linear`; it can be stacked and scaled before it is used."""

    weight: Tensor
    """(out, in)"""
    bias: Tensor
    """(out,)"""

    @classmethod
    def read(cls, state: Mapping[str, Tensor], name: str) -> Self:
        """The parameters of the module `name`."""
        return cls(state[f"{name}.weight"], state[f"{name}.bias"])

    @classmethod
    def stacked(cls, parts: Sequence["Linear"]) -> Self:
        """The outputs of several maps of the same input side by side."""
        return cls(torch.cat([part.weight for part in parts]), torch.cat([part.bias for part in parts]))

    def __call__(self, states: Tensor) -> Tensor:
        """(n, out) of (n, in), computed in the dtype of the weight."""
        return functional.linear(states.to(self.weight.dtype), self.weight, self.bias)

    def scaled(self, factor: float) -> "Linear":
        """`factor` times the map."""
        return Linear(self.weight * factor, self.bias * factor)

    def to(self, device: str, dtype: torch.dtype) -> "Linear":
        """The same map on `device` in `dtype`; itself where it is there already."""
        return Linear(self.weight.to(device, dtype), self.bias.to(device, dtype))


@dataclass(frozen=True, slots=True, eq=False)
class LayerNorm:
    """`torch.nn.LayerNorm` over the last dimension, in float32."""

    weight: Tensor
    bias: Tensor
    epsilon: float

    @classmethod
    def read(cls, state: Mapping[str, Tensor], name: str, epsilon: float, device: str) -> Self:
        """The parameters of the module `name`, on `device`."""
        return cls(state[f"{name}.weight"].to(device), state[f"{name}.bias"].to(device), epsilon)

    def __call__(self, states: Tensor) -> Tensor:
        """Of the same shape as `states`."""
        return functional.layer_norm(states, self.weight.shape, self.weight, self.bias, self.epsilon)


class PackedLinear:
    """states @ weight.T + bias in `dtype`, as `Linear`, and GELU of it; the weight cannot be cut any more."""

    def __init__(self, linear: Linear, device: str, dtype: torch.dtype, gelu: bool = False) -> None:
        """On `device`; laid out where it is a CPU whose oneDNN takes `dtype`."""
        self._gelu = gelu
        plain = linear.to(device, dtype)
        self._bias = plain.bias
        self._dtype = dtype
        self._packed = device == "cpu" and _packs(dtype)
        self._weight = _packed(plain.weight) if self._packed else plain.weight

    def __call__(self, states: Tensor) -> Tensor:
        """(n, out) of (n, in)."""
        states = states.to(self._dtype)
        if self._packed:
            return _product(states, self._weight, self._bias, self._gelu)
        product = functional.linear(states, self._weight, self._bias)
        return torch.ops.aten.gelu_(product) if self._gelu else product


@cache
def _packs(dtype: torch.dtype) -> bool:
    """Whether this build of torch, on this CPU, has oneDNN's products in `dtype`: they are tried."""
    ones = torch.ones(1, 16, dtype=dtype)
    try:
        products = [_product(ones, _packed(ones), ones[0, :1], gelu) for gelu in (False, True)]
        return all(bool((product == 17).all()) for product in products)  # which GELU leaves as it is
    except (RuntimeError, AttributeError):  # refused for this CPU; a build without oneDNN has no operators
        return False


def _packed(weight: Tensor) -> Tensor:
    return torch.ops.mkldnn._reorder_linear_weight(weight, _ROWS)  # noqa: SLF001 - it has no public name


def _product(states: Tensor, weight: Tensor, bias: Tensor, gelu: bool) -> Tensor:
    after = ("gelu", [], "none") if gelu else ("none", [], "")
    return torch.ops.mkldnn._linear_pointwise(states, weight, bias, *after)  # noqa: SLF001 - as above


State = Mapping[str, Tensor]
"""Parameters by the names of transformers' LukeModel."""
Batch = PackedWindows[Tensor]
Kernel = Callable[..., Any]
"""`torch.nn.attention.varlen.varlen_attn`, or what stands for it."""

FEW_ENTITIES = 8
"""Entities a window, on average of the batch, up to which their keys go through the map of tokens' queries. By
the operations it pays up to about 20, but small products run at a fraction of the rate of large ones; 8 and
32 took the same time.
"""
_SHORT = 128
"""Rows of a window up to which products are at least as fast as the fused kernel."""
_LARGEST = 256
"""Size of a head that flash attention takes (Dao 2023)."""

# scaled_dot_product_attention's own kernel on CPUs; the public function keeps the log-sum-exp to itself.
_fused = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu  # noqa: SLF001


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
        self.tokens, self.entities = encoder_tables(checkpoint)
        """The two embeddings; that of tokens is on the device, that of entities stays where its file is."""
        self.tokens = self.tokens.to(device)
        state = layer_state(checkpoint)
        self._embeddings = _Embeddings(checkpoint, state, (self.tokens, self.entities), device)
        self._layers = [
            _Layer(checkpoint, state, f"encoder.layer.{number}", device, dtype)
            for number in range(checkpoint.setting("num_hidden_layers"))
        ]

    def __call__(
        self, windows: PackedWindows[Indices], rows: Indices | None = None, only_entities: bool = False
    ) -> Tensor:
        """Last hidden states of all rows, or of those numbered `rows`: (n, H) float32.

        `only_entities`: of entities, and `rows` are numbers among these.
        """
        batch = windows.to(self._device, rows)
        states = self._embeddings(batch)  # (R, H)
        for layer in self._layers[:-1]:
            states = layer(states, batch)  # (R, H)
        return self._layers[-1](states, batch, only_entities, batch.rows)  # (n, H)


class _Embeddings:
    """Tokens and entities as they enter the first layer."""

    def __init__(self, checkpoint: Checkpoint, state: State, tables: tuple[Table, Table], device: str) -> None:
        self._device = device
        self._longest = checkpoint.max_mention_length
        self._tokens, self._entities = tables
        first = checkpoint.setting("pad_token_id") + 1
        positions = state["embeddings.position_embeddings.weight"][first:]
        self._positions = (positions + state["embeddings.token_type_embeddings.weight"][0]).to(device)
        # Prefix sums lose what float32 differences of large sums cannot hold.
        spans = state["entity_embeddings.position_embeddings.weight"].to(torch.float64).cumsum(0)
        self._sums = functional.pad(spans, (0, 0, 1, 0)).to(device)  # (positions + 1, H)
        self._dense = state.get("entity_embeddings.entity_embedding_dense.weight")
        self._type = state["entity_embeddings.token_type_embeddings.weight"][0]
        self._token_norm, self._entity_norm = (
            LayerNorm.read(state, f"{part}.LayerNorm", checkpoint.norm_epsilon, device)
            for part in ("embeddings", "entity_embeddings")
        )

    def __call__(self, batch: Batch) -> Tensor:
        """(R, H) float32."""
        ids = self._tokens.rows(batch.token_ids)  # (T, H)
        tokens = self._token_norm(ids + self._positions[batch.token_positions])  # (T, H)
        if not batch.entities:
            return tokens
        entities = self._entity_norm(self._entity_rows(batch) + self._mean_positions(batch))  # (E, H)
        states = tokens.new_empty(len(tokens) + len(entities), tokens.shape[1])  # (R, H)
        states.index_copy_(0, batch.token_rows, tokens)
        return states.index_copy_(0, batch.entity_rows, entities)

    def _entity_rows(self, batch: Batch) -> Tensor:
        """(E, H): of a table of 500 thousand rows only those are read that occur, each once a batch."""
        rows = self._entities.rows(batch.entity_ids)  # (different ones, width of the table)
        if self._dense is not None:
            rows = functional.linear(rows, self._dense)  # (different ones, H)
        return (rows + self._type).to(self._device)[batch.entity_places]

    def _mean_positions(self, batch: Batch) -> Tensor:
        """(E, H): of a long mention its first tokens count."""
        ends = torch.minimum(batch.ends, batch.starts + self._longest)  # (E,)
        length = (ends - batch.starts).clamp_min(1).unsqueeze(1)  # (E, 1)
        return ((self._sums[ends] - self._sums[batch.starts]) / length).to(torch.float32)


class _Layer:
    """Attention and feed-forward."""

    def __init__(self, checkpoint: Checkpoint, state: State, name: str, device: str, dtype: torch.dtype) -> None:
        heads = checkpoint.setting("num_attention_heads")
        self._attention = _Attention(state, f"{name}.attention.self", heads, checkpoint.entity_aware, device, dtype)
        self._context, self._inner, self._outer = (
            PackedLinear(Linear.read(state, f"{name}.{part}.dense"), device, dtype, gelu)
            for part, gelu in (("attention.output", False), ("intermediate", True), ("output", False))
        )
        self._context_norm, self._outer_norm = (
            LayerNorm.read(state, f"{name}.{part}.LayerNorm", checkpoint.norm_epsilon, device)
            for part in ("attention.output", "output")
        )

    def __call__(self, states: Tensor, batch: Batch, only_entities: bool = False, rows: Tensor | None = None) -> Tensor:
        """(n, H) states after this layer of (R, H) before it, as `PackedEncoder` says."""
        context = self._attention(states, batch, only_entities)  # (A, H)
        if only_entities:
            states = states[batch.entity_rows]  # (A, H)
        if rows is not None:
            context, states = context[rows], states[rows]  # (n, H)
        # In place: fresh memory of that size costs page faults.
        states = self._context_norm(states.add_(self._context(context)))  # (n, H)
        inner = self._inner(states)  # (n, I), after GELU
        return self._outer_norm(states.add_(self._outer(inner)))  # (n, H)


class _Attention:
    """The attention of one layer, up to its output projection.

    Products of windows are in float32 on CPUs: those of half precision that are so small are no faster, and
    each of their many shapes would have a kernel of its own.
    """

    def __init__(self, state: State, name: str, heads: int, aware: bool, device: str, dtype: torch.dtype) -> None:
        """`name`: of the module in `state`. `aware`: a query matrix for each direction."""
        size = len(state[f"{name}.key.bias"]) // heads
        self._kernel = kernel_for(device, dtype, size)
        map_keys = device == "cpu" and self._kernel is None
        self._projections = _Projections(state, name, heads, aware, device, dtype, map_keys)

    def __call__(self, states: Tensor, batch: Batch, only_entities: bool) -> Tensor:
        """(A, H) contexts of (R, H) `states`."""
        projected = self._projections(states, batch, only_entities)
        if self._kernel is not None:
            asking = batch.first_entities if only_entities else batch.first_rows
            return _attend_in_sequence(self._kernel, projected, batch, asking).flatten(1)
        context = torch.empty_like(projected.query, memory_format=torch.contiguous_format)  # (A, N, D)
        for group in batch.groups:
            asking = group.entity_numbers if only_entities else group.rows
            if asking.start < asking.stop:
                found = _attend_in_group(group, projected, asking).transpose(1, 2)  # (w, a, N, D)
                context[asking].unflatten(0, (group.windows, -1)).copy_(found)
        return context.flatten(1)


@dataclass(frozen=True, slots=True, eq=False)
class MappedKeys:
    """Keys of entities as the states of tokens see them.

    The score (M x + b) . k of a token x, whose query of entities M x + b would be, and an entity's key k is
    x . (M' k) + b . k: so the keys go through the map, of which there are so many fewer than tokens.
    """

    states: Tensor
    """(R, H)"""
    keys: Tensor
    """(E, N, H)"""
    offsets: Tensor
    """(E, N)"""

    def scores(self, group: ShapeGroup) -> Tensor:
        """(w, N, t, e) of a group's tokens for its entities."""
        states = self.states[group.rows].unflatten(0, (group.windows, -1))[:, : group.tokens]  # (w, t, H)
        keys = self.keys[group.entity_numbers].unflatten(0, (group.windows, -1)).flatten(1, 2)  # (w, e N, H)
        offsets = self.offsets[group.entity_numbers].reshape(group.windows, 1, -1)  # (w, 1, e N)
        scores = torch.baddbmm(offsets, states, keys.mT)  # (w, t, e N)
        return scores.unflatten(2, (group.entities, -1)).permute(0, 3, 1, 2)


@dataclass(frozen=True, slots=True, eq=False)
class _Projected:
    """What the rows of a batch look for, and what they show."""

    query: Tensor
    """(A, N, D); looks at tokens, and without the next at everything."""
    entity_query: Tensor | None
    """(A, N, D), looks at entities; (E, N, D) beside `mapped_keys`."""
    mapped_keys: MappedKeys | None
    """For the tokens, where these ask without a query of their own."""
    keys_values: Tensor
    """(R, 2, N, D)"""


class _Projections:
    """The maps of one layer to queries, keys and values.

    With entity-aware attention (Yamada et al. 2020, section 3.2) tokens have the queries q_w2w and q_w2e,
    entities q_e2w and q_e2e; the scale of the scores lies in the query weights. Where only entities ask, tokens
    have no queries. Where the windows of a batch have few entities, tokens do not get their q_w2e on CPUs, a
    thirteenth of a layer's products: see `MappedKeys`. The map is held a second time for them, as it came.
    """

    def __init__(
        self, state: State, name: str, heads: int, aware: bool, device: str, dtype: torch.dtype, map_keys: bool
    ) -> None:
        """As `_Attention`. `map_keys`: the attention takes `MappedKeys`."""

        def read(part: str) -> Linear:
            return Linear.read(state, f"{name}.{part}")

        def packed(*parts: Linear) -> PackedLinear:
            return PackedLinear(Linear.stacked(parts), device, dtype)

        self._heads = heads
        self._aware = aware
        self._dtype = dtype
        query, key, value = map(read, ("query", "key", "value"))
        scale = (len(key.bias) // heads) ** -0.5
        self._query = packed(query.scaled(scale))
        self._keys_values = packed(key, value)
        if aware:
            to_entities, *of_entities = (read(part).scaled(scale) for part in ("w2e_query", "e2w_query", "e2e_query"))
            self._to_entities = packed(to_entities)
            self._of_entities = packed(*of_entities)
            self._key_map = to_entities.to(device, dtype) if map_keys else None

    def __call__(self, states: Tensor, batch: Batch, only_entities: bool) -> _Projected:
        """Of (R, H) `states`. `only_entities`: no token asks."""
        rounded = states.to(self._dtype)
        keys_values = self._split(self._keys_values(rounded), 2)  # (R, 2, N, D)
        if not (self._aware and batch.entities):
            asking = rounded[batch.entity_rows] if only_entities else rounded  # (A, H)
            return _Projected(self._split(self._query(asking), 1)[:, 0], None, None, keys_values)
        of_entities = self._split(self._of_entities(rounded[batch.entity_rows]), 2)  # (E, 2, N, D)
        query, entity_query = of_entities.unbind(1)  # (E, N, D) each
        if only_entities:
            return _Projected(query, entity_query, None, keys_values)
        if self._key_map is not None and batch.entities <= FEW_ENTITIES * batch.windows:
            mapped = self._mapped(states, keys_values[batch.entity_rows, 0], self._key_map)
            queries = self._split(self._query(rounded), 1)[:, 0]  # (R, N, D)
            return _Projected(queries.index_copy_(0, batch.entity_rows, query), entity_query, mapped, keys_values)
        tokens = rounded[batch.token_rows]  # (T, H)
        queries = torch.empty_like(keys_values).index_copy_(0, batch.entity_rows, of_entities)  # (R, 2, N, D)
        for place, linear in enumerate((self._query, self._to_entities)):
            queries[:, place].index_copy_(0, batch.token_rows, self._split(linear(tokens), 1)[:, 0])
        return _Projected(queries[:, 0], queries[:, 1], None, keys_values)

    def _split(self, rows: Tensor, parts: int) -> Tensor:
        """(rows, parts, N, D) of (rows, parts x H)."""
        return rows.unflatten(1, (parts, self._heads, -1))

    def _mapped(self, states: Tensor, keys: Tensor, linear: Linear) -> MappedKeys:
        """Of (R, H) `states` and (E, N, D) `keys`."""
        weight, bias = (part.unflatten(0, (self._heads, -1)) for part in (linear.weight, linear.bias))
        mapped = torch.bmm(keys.transpose(0, 1), weight).transpose(0, 1)  # (E, N, H), weight is (N, D, H)
        offsets = (keys * bias).sum(2, dtype=torch.float32)  # (E, N), bias is (N, D)
        return MappedKeys(states, mapped.to(torch.float32, memory_format=torch.contiguous_format), offsets)


def _attend_in_group(group: ShapeGroup, projected: _Projected, asking: slice) -> Tensor:
    """(w, N, a, D) contexts of a group, whose asking rows are `asking`.

    With entity-aware queries one softmax spans two kinds of scores, which no fused kernel takes as they are.
    Short windows use plain products; long ones attend to tokens and to entities apart, each in a fused kernel,
    and merge the two by their log-sum-exp, as flash attention merges its blocks (Dao et al. 2022).
    """
    on_cpu = projected.query.device.type == "cpu"
    dtype = torch.float32 if on_cpu else projected.query.dtype

    def of_windows(rows: Tensor) -> Tensor:
        parts = rows.unflatten(0, (group.windows, -1)).transpose(1, 2)
        return parts.to(dtype, memory_format=torch.contiguous_format)

    query = of_windows(projected.query[asking])  # (w, N, a, D)
    keys, values = (of_windows(part) for part in projected.keys_values[group.rows].unbind(1))  # (w, N, r, D)
    short = group.tokens + group.entities <= _SHORT
    if projected.entity_query is None or not group.entities:
        if short and on_cpu:
            return torch.softmax(query @ keys.mT, 3) @ values
        return functional.scaled_dot_product_attention(query, keys, values, scale=1.0)
    token_keys, entity_keys = keys.split([group.tokens, group.entities], 2)  # (w, N, t, D), (w, N, e, D)
    mapped = projected.mapped_keys
    entity_query = of_windows(projected.entity_query[asking if mapped is None else group.entity_numbers])
    if short or not on_cpu:
        to_entities = _entity_scores(group, mapped, entity_query, entity_keys)  # (w, N, a, e)
        return torch.softmax(torch.cat([query @ token_keys.mT, to_entities], 3), 3) @ values
    token_values, entity_values = values.split([group.tokens, group.entities], 2)
    of_tokens = _fused(query, token_keys, token_values, scale=1.0)  # (w, N, a, D), (w, N, a)
    if mapped is None:
        return _merged(of_tokens, _fused(entity_query, entity_keys, entity_values, scale=1.0))
    scores = _entity_scores(group, mapped, entity_query, entity_keys)  # (w, N, a, e)
    return _merged(of_tokens, (torch.softmax(scores, 3) @ entity_values, torch.logsumexp(scores, 3)))


def _entity_scores(group: ShapeGroup, mapped: MappedKeys | None, query: Tensor, keys: Tensor) -> Tensor:
    """(w, N, a, e)."""
    scores = query @ keys.mT
    return scores if mapped is None else torch.cat([mapped.scores(group), scores], 2)


def _merged(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> Tensor:
    """Attention over the keys of both, of which each comes as (context, log-sum-exp of the scores)."""
    (context, total), (other_context, other_total) = one, other
    share = torch.sigmoid(total - other_total).unsqueeze(3).to(context.dtype)  # (w, N, a, 1)
    return torch.lerp(other_context, context, share)


def kernel_for(device: str, dtype: torch.dtype, size: int) -> Kernel | None:
    """The kernel that attends in sequences of any lengths, one after another, for heads of `size` in `dtype`.

    None: there is none, and windows of a shape go together.
    """
    if device == "cpu" or dtype == torch.float32 or 2 * size > _LARGEST:
        return None
    if torch.cuda.get_device_capability() < (8, 0):
        return None
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:  # before torch 2.10
        return None
    return varlen_attn


def _attend_in_sequence(kernel: Kernel, projected: _Projected, batch: Batch, asking: Tensor) -> Tensor:
    """(A, N, D) contexts of `batch`; `asking`: (W + 1,) each window's first asking row.

    A query is q_w2w and q_w2e (of entities q_e2w and q_e2e) side by side, and a key is [k | 0] for a token and
    [0 | k] for an entity, so that one product of twice the size finds the right score.
    """
    query, entity_query = projected.query, projected.entity_query
    keys, values = projected.keys_values.unbind(1)  # (R, N, D) each
    size = keys.shape[-1]
    if entity_query is not None:
        query = torch.cat([query, entity_query], -1)  # (A, N, 2 D)
        both = keys.new_zeros(*keys.shape[:-1], 2 * size)  # (R, N, 2 D)
        both[batch.token_rows, :, :size] = keys[batch.token_rows]
        both[batch.entity_rows, :, size:] = keys[batch.entity_rows]
        keys, values = both, functional.pad(values, (0, size))  # (R, N, 2 D)
    # An upper bound will do for the longest, and costs no waiting for the device.
    bounds = (asking.int(), batch.first_rows.int(), batch.longest, batch.longest)
    context: Tensor = kernel(query, keys, values, *bounds, scale=1.0)  # (A, N, D or 2 D)
    return context[..., :size]
