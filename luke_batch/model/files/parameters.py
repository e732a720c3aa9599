"""The names and shapes of LukeModel's parameters, from config.json alone.

Source: transformers 5.23, modeling_luke.py. The pooler is left out: no task reads it, and some checkpoints
have it while others do not.
"""

import re

from luke_batch.model.files.checkpoint import Checkpoint

Shapes = dict[str, tuple[int, ...]]

# Of a checkpoint from which the encoder alone is read: buffers of early 4.x files, the pooler, and heads.
IGNORED = re.compile(
    r"(embeddings|entity_embeddings)\.position_ids|pooler\..+|(lm_head|entity_predictions|classifier|qa_outputs)\..+"
)
# mLUKE checkpoints carry these although their entity-aware attention is off.
ENTITY_AWARE = re.compile(r"encoder\.layer\.\d+\.attention\.self\.(w2e|e2w|e2e)_query\.(weight|bias)")


def encoder_shapes(checkpoint: Checkpoint) -> Shapes:
    """The shape of every parameter that the encoder needs; CheckpointError where config.json lacks a size."""
    hidden = checkpoint.hidden_size
    types = checkpoint.setting("type_vocab_size")
    positions = checkpoint.setting("max_position_embeddings")
    entity_size = checkpoint.setting("entity_emb_size")
    shapes: Shapes = {
        "embeddings.word_embeddings.weight": (checkpoint.setting("vocab_size"), hidden),
        "entity_embeddings.entity_embeddings.weight": (checkpoint.setting("entity_vocab_size"), entity_size),
    }
    if entity_size != hidden:
        shapes["entity_embeddings.entity_embedding_dense.weight"] = (hidden, entity_size)
    for part in ("embeddings", "entity_embeddings"):
        shapes[f"{part}.position_embeddings.weight"] = (positions, hidden)
        shapes[f"{part}.token_type_embeddings.weight"] = (types, hidden)
        shapes |= _pair(f"{part}.LayerNorm", (hidden,))
    for number in range(checkpoint.setting("num_hidden_layers")):
        shapes |= _layer(f"encoder.layer.{number}", checkpoint)
    return shapes


def entity_aware(checkpoint: Checkpoint) -> bool:
    """Whether queries depend on the kinds of both sides; on unless config.json says otherwise."""
    return bool(checkpoint.config.get("use_entity_aware_attention", True))


def norm_epsilon(checkpoint: Checkpoint) -> float:
    """What every layer norm adds to the variance."""
    value = checkpoint.config.get("layer_norm_eps", 1e-12)
    assert isinstance(value, (int, float))
    return float(value)


def _layer(name: str, checkpoint: Checkpoint) -> Shapes:
    hidden = checkpoint.hidden_size
    inner = checkpoint.setting("intermediate_size")
    projections = ["query", "key", "value"]
    if entity_aware(checkpoint):
        projections += ["w2e_query", "e2w_query", "e2e_query"]
    shapes: Shapes = {}
    for projection in projections:
        shapes |= _pair(f"{name}.attention.self.{projection}", (hidden, hidden))
    shapes |= _pair(f"{name}.attention.output.dense", (hidden, hidden))
    shapes |= _pair(f"{name}.attention.output.LayerNorm", (hidden,))
    shapes |= _pair(f"{name}.intermediate.dense", (inner, hidden))
    shapes |= _pair(f"{name}.output.dense", (hidden, inner))
    return shapes | _pair(f"{name}.output.LayerNorm", (hidden,))


def _pair(name: str, weight: tuple[int, ...]) -> Shapes:
    """A weight and its bias, which has the length of the first dimension."""
    return {f"{name}.weight": weight, f"{name}.bias": weight[:1]}
