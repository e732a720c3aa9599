"""Whether the parts of a checkpoint belong together: weights, config.json and tokenizer. Imports no torch, so
that a job is refused before any work: headers and vocabularies tell.

Names and shapes of LukeModel's parameters are those of transformers 5.23, modeling_luke.py. The pooler is apart,
since some checkpoints have it while others do not.
"""

import re
from collections.abc import Collection
from typing import Literal

from luke_batch.base.errors import CheckpointError
from luke_batch.model.files.checkpoint import Checkpoint
from luke_batch.model.files.facts import LAYERS, PAIR_SCORER
from luke_batch.model.files.reading import whole_number
from luke_batch.model.inputs.tokenizer import Tokenizer
from luke_batch.model.task import Reads, Task

SCALE = ".scale"  # of an int8 tensor: float32, one factor for each row
PREFIX = "luke."  # before the encoder's parameters, where the file was written by a class with a head

Shapes = dict[str, tuple[int, ...]]

# Of a checkpoint from which the encoder alone is read: buffers of early 4.x files, the pooler, and heads.
IGNORED = re.compile(
    r"(embeddings|entity_embeddings)\.position_ids|pooler\..+|(lm_head|entity_predictions|classifier|qa_outputs)\..+"
)
# mLUKE checkpoints carry these although their entity-aware attention is off.
ENTITY_AWARE = re.compile(r"encoder\.layer\.\d+\.attention\.self\.(w2e|e2w|e2e)_query\.(weight|bias)")

Names = dict[str, str]
"""LukeModel's name of a parameter (`weight`, `bias` of a head) -> its name in the file."""


LEAST_WINDOW = 8
"""`<s>`, `</s>`, and two mentions of a token with their markers."""
LONGEST_WINDOW = 512
"""Most tokens of a window, `<s>` and `</s>` included; a checkpoint with fewer positions has less."""
_SIZES = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "vocab_size",
    "entity_vocab_size",
    "entity_emb_size",
    "max_position_embeddings",
    "type_vocab_size",
)


def check_fit(
    checkpoint: Checkpoint,
    tokenizer: Tokenizer,
    tasks: Collection[Task],
    predicted: Collection[str] = (),
    *,
    titles: bool = False,
    engine: Literal["fast", "transformers"] | None = None,
) -> None:
    """CheckpointError where config.json holds what no encoder can be built of, where the weights are incomplete
    for `tasks`, or have no row for a token or entity that these give to the model; or, where `titles` are to be
    read or found, no titles.

    `predicted`: what the head `cloze` is asked for, words or entities. `engine`: the one that will compute.
    """
    _check_settings(checkpoint, engine)
    longest_window(checkpoint, tokenizer)
    encoder_names(checkpoint)
    reads = {task.reads for task in tasks}
    for task in tasks:
        if task.reads.states:
            layer_names(checkpoint, task)
    if Reads.FIRST_WORD in reads:
        pooler_names(checkpoint)
    if "words" in predicted:
        word_head_names(checkpoint)
    if Reads.CANDIDATES in reads or "entities" in predicted:
        entity_head_names(checkpoint)
    if titles and not tokenizer.has_titles:
        raise CheckpointError(
            f"{checkpoint.path}: its entity vocabulary holds no titles (a lite checkpoint, without the entity"
            " table), so it can neither link, read nor predict entities; choose a full one, such as"
            " studio-ousia/luke-base"
        )
    if titles:
        _check_entities(checkpoint, tokenizer)
    _check_ids(checkpoint, tokenizer, reads)


def longest_window(checkpoint: Checkpoint, tokenizer: Tokenizer) -> int:
    """Most tokens of a window; CheckpointError where the table of positions has no room for any."""
    rows, pad = checkpoint.setting("max_position_embeddings"), checkpoint.setting("pad_token_id")
    longest = min(LONGEST_WINDOW, rows - tokenizer.pad_id - 1)  # word positions count from pad + 1
    if longest < LEAST_WINDOW or longest + pad + 1 > rows:
        raise CheckpointError(
            f"{checkpoint.path}: config.json has {rows} max_position_embeddings, too few for a window: positions "
            f"count from one behind pad_token_id {pad} ({tokenizer.pad_id} in the tokenizer); mend it"
        )
    return longest


def _check_settings(checkpoint: Checkpoint, engine: str | None) -> None:
    """CheckpointError where a value of config.json is of another type, or outside of what the encoder takes."""
    config, where = checkpoint.config, f"{checkpoint.path}: config.json"
    sizes = {name: whole_number(config, name, where, least=1) for name in _SIZES}
    hidden, heads = sizes["hidden_size"], sizes["num_attention_heads"]
    if hidden % heads:
        raise CheckpointError(
            f"{where} has num_attention_heads {heads}, which do not divide hidden_size {hidden}; mend it"
        )
    checkpoint.norm_epsilon  # noqa: B018 - it raises
    if not isinstance(config.get("use_entity_aware_attention", True), bool):
        value = config["use_entity_aware_attention"]
        raise CheckpointError(f"{where} has use_entity_aware_attention {value!r}, neither true nor false; mend it")
    activation = config.get("hidden_act", "gelu")
    if activation == "gelu":
        return
    if engine == "fast":
        raise CheckpointError(
            f"{where} has hidden_act {activation!r}, but `engine: fast` computes gelu only; "
            "set `engine: transformers` for this model"
        )
    from transformers.activations import ACT2FN  # loads torch, which other checkpoints need not pay

    if activation not in ACT2FN:
        raise CheckpointError(f"{where} has hidden_act {activation!r}, which transformers does not know; mend it")


def encoder_names(checkpoint: Checkpoint) -> Names:
    """Every parameter of the encoder (no pooler). CheckpointError that lists missing and unexpected ones, and
    those of another shape.
    """
    in_file = _encoder_candidates(checkpoint)
    shapes = encoder_shapes(checkpoint)
    _check(checkpoint, in_file, shapes)
    names = {name: in_file[name] for name in shapes}
    _check_scales(checkpoint, names)
    return names


def layer_names(checkpoint: Checkpoint, task: Task) -> Names:
    """`weight` and, where the layer has one, `bias` of a task's linear layer; one over pairs needs none.

    CheckpointError where one is missing or does not fit.
    """
    layer = checkpoint.layer(task)
    names = {"weight": f"{layer}.weight"}
    # transformers' class for pairs has no bias, whatever its file holds.
    if task.reads is not Reads.PAIR or (checkpoint.multi_head and f"{layer}.bias" in checkpoint.tensors):
        names["bias"] = f"{layer}.bias"
        shape = (len(checkpoint.require(task.head).labels),)
        _check(checkpoint, {names["bias"]: names["bias"]}, {names["bias"]: shape})
    _check_scales(checkpoint, names)
    return names


_PAIR_PARTS = ("head.weight", "tail.weight", "tail.bias", "out.weight", "out.bias")
"""Of a joint head of pairs: out(relu(head(h_head) + tail(h_tail)))."""


def joint_names(checkpoint: Checkpoint, head: str) -> Names:
    """The parameters of a joint head: `weight` and `bias` over the state of a mention, or those of pairs of them.

    CheckpointError where one is missing or does not fit.
    """
    labels, hidden = len(checkpoint.require(head).labels), checkpoint.hidden_size
    shapes: Shapes = {"weight": (labels, hidden), "bias": (labels,)}
    if head in ("relations", PAIR_SCORER):
        first = checkpoint.tensors.get(f"{head}.head.weight")
        units = first.shape[0] if first is not None and first.shape else 0
        wide, narrow = (units, hidden), (labels, units)
        shapes = dict(zip(_PAIR_PARTS, (wide, wide, (units,), narrow, (labels,)), strict=True))
    names = {part: f"{head}.{part}" for part in shapes}
    _check(checkpoint, names, shapes)
    return names


def head_names(checkpoint: Checkpoint, head: str) -> Names:
    """`layer_names` by the name of the head; of one that is not transformers' what the file has."""
    if head in LAYERS:
        return layer_names(checkpoint, LAYERS[head])
    checkpoint.require(head)
    named = {part: f"{head}.{part}" for part in ("weight", "bias")}
    return {part: name for part, name in named.items() if name in checkpoint.tensors}


def pooler_names(checkpoint: Checkpoint) -> Names:
    """`weight` and `bias` of the pooler. CheckpointError where they are missing or of another shape."""
    names = {part: f"pooler.dense.{part}" for part in ("weight", "bias")}
    if any(name.startswith(PREFIX) for name in checkpoint.tensors):
        names = {part: PREFIX + name for part, name in names.items()}
    hidden = checkpoint.hidden_size
    _check(checkpoint, names, {"weight": (hidden, hidden), "bias": (hidden,)})
    return names


def entity_head_names(checkpoint: Checkpoint) -> Names:
    """The entity head of LukeForMaskedLM by its names there, without its decoder: that is the entity table.

    CheckpointError where something is missing or of another shape.
    """
    hidden, width = checkpoint.hidden_size, checkpoint.setting("entity_emb_size")
    shapes: Shapes = {
        "transform.dense.weight": (width, hidden),
        "transform.dense.bias": (width,),
        "transform.LayerNorm.weight": (width,),
        "transform.LayerNorm.bias": (width,),
        "bias": (checkpoint.setting("entity_vocab_size"),),
    }
    names = {name: f"entity_predictions.{name}" for name in shapes}
    _check(checkpoint, names, shapes)
    return names


def word_head_names(checkpoint: Checkpoint) -> Names:
    """The word head of LukeForMaskedLM by its names there, each with its name in the file.

    transformers 4 ties the decoder to the word embeddings and does not save it; transformers 5 saves it, and
    would leave it random where it is missing. So it is the file's where there is one, else the embeddings.
    CheckpointError where something is missing or of another shape.
    """
    hidden, words = checkpoint.hidden_size, checkpoint.setting("vocab_size")
    shapes: Shapes = {
        "dense.weight": (hidden, hidden),
        "dense.bias": (hidden,),
        "layer_norm.weight": (hidden,),
        "layer_norm.bias": (hidden,),
        "decoder.weight": (words, hidden),
        "bias": (words,),
    }
    names = {name: f"lm_head.{name}" for name in shapes}
    if names["decoder.weight"] not in checkpoint.tensors:
        names["decoder.weight"] = encoder_names(checkpoint)["embeddings.word_embeddings.weight"]
    if names["bias"] not in checkpoint.tensors and "lm_head.decoder.bias" in checkpoint.tensors:
        names["bias"] = "lm_head.decoder.bias"  # what transformers 5 calls it
    _check(checkpoint, names, shapes)
    _check_scales(checkpoint, names)
    return names


def _check_entities(checkpoint: Checkpoint, tokenizer: Tokenizer) -> None:
    title, largest = max(tokenizer.entity_vocab.items(), key=lambda entry: entry[1])
    rows = checkpoint.setting("entity_vocab_size")
    if largest >= rows:
        raise CheckpointError(
            f"{checkpoint.path}: its entity vocabulary gives {title!r} the id {largest}, but the weights have"
            f" {rows} rows (entity_vocab_size); vocabulary and weights do not belong together, download both"
            " again"
        )


def _check_ids(checkpoint: Checkpoint, tokenizer: Tokenizer, reads: Collection[Reads]) -> None:
    """Only ids that are given to the model count: published checkpoints for NER have no rows for the markers."""
    tokens = {"its largest token": tokenizer.text_size - 1}
    entities = {"[MASK]": tokenizer.entity_mask_id}
    if Reads.GAPS in reads:
        tokens["<mask>"] = tokenizer.mask_id
    if not {Reads.ENTITY, Reads.PAIR}.isdisjoint(reads):
        tokens["<ent>"] = tokenizer.entity_marker_id
    if Reads.PAIR in reads:
        tokens["<ent2>"] = tokenizer.entity_marker2_id
        if tokenizer.entity_mask2_id is None:
            raise CheckpointError(
                f"{checkpoint.path}: its entity vocabulary has no [MASK2], which relations need; choose "
                "another checkpoint for this head, or leave the head out"
            )
        entities["[MASK2]"] = tokenizer.entity_mask2_id
    for kind, setting, ids in (
        ("tokenizer", "vocab_size", tokens),
        ("entity vocabulary", "entity_vocab_size", entities),
    ):
        rows = checkpoint.setting(setting)
        for name, number in ids.items():
            if not 0 <= number < rows:
                raise CheckpointError(
                    f"{checkpoint.path}: its {kind} gives {name} the id {number}, but the weights have "
                    f"{rows} rows ({setting}); tokenizer and weights do not belong together, download both "
                    "again"
                )


def _encoder_candidates(checkpoint: Checkpoint) -> Names:
    """LukeModel name -> name in the file, without what is safely ignored."""
    names = {name for name in checkpoint.tensors if not name.endswith(SCALE)}
    prefixed = any(name.startswith(PREFIX) for name in names)
    if checkpoint.multi_head:
        names -= {f"{head}.{part}" for head in checkpoint.heads for part in ("weight", "bias", *_PAIR_PARTS)}
    found: Names = {}
    for name in sorted(names):
        plain = name.removeprefix(PREFIX) if prefixed else name
        ignored = IGNORED.fullmatch(plain) or (not checkpoint.entity_aware and ENTITY_AWARE.fullmatch(plain))
        if not ignored:
            found[plain] = name
    return found


def _check(checkpoint: Checkpoint, in_file: Names, shapes: Shapes) -> None:
    tensors = checkpoint.tensors
    misfits = [
        f"{name} is {tensors[in_file[name]].shape} instead of {shape}"
        for name, shape in shapes.items()
        if in_file.get(name) in tensors and tensors[in_file[name]].shape != shape
    ]
    complaints = {
        "missing": [name for name in shapes if in_file.get(name) not in tensors],
        "unexpected": [name for name in in_file if name not in shapes],
        "of another shape": misfits,
    }
    found = [f"{kind}: {_listed(names)}" for kind, names in complaints.items() if names]
    if found:
        raise CheckpointError(
            f"{checkpoint.path}: its weights do not fit its config.json; {'; '.join(found)}; download or "
            "convert it again"
        )


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:6])
    return shown if len(names) <= 6 else f"{shown} and {len(names) - 6} more"


def _check_scales(checkpoint: Checkpoint, names: Names) -> None:
    for name in names.values():
        facts, scale = checkpoint.tensors[name], checkpoint.tensors.get(name + SCALE)
        if facts.dtype == "I8" and (scale is None or scale.shape != facts.shape[:1]):
            raise CheckpointError(
                f"{checkpoint.path}: {name} is int8 without the row scales {name + SCALE}; write the model again"
            )


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


def _layer(name: str, checkpoint: Checkpoint) -> Shapes:
    hidden = checkpoint.hidden_size
    inner = checkpoint.setting("intermediate_size")
    projections = ["query", "key", "value"]
    if checkpoint.entity_aware:
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
