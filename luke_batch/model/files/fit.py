"""Whether the parts of a checkpoint belong together: weights, config.json and tokenizer. Imports no torch, so
that a job is refused before any work: headers and vocabularies tell.
"""

from collections.abc import Collection

from luke_batch.base.errors import CheckpointError
from luke_batch.model.files.checkpoint import Checkpoint
from luke_batch.model.files.facts import FEATURES, POOLED, layer_of
from luke_batch.model.files.parameters import ENTITY_AWARE, IGNORED, Shapes, encoder_shapes, entity_aware
from luke_batch.model.inputs.tokenizer import Tokenizer

SCALE = ".scale"  # of an int8 tensor: float32, one factor for each row
PREFIX = "luke."  # before the encoder's parameters, where the file was written by a class with a head

Names = dict[str, str]
"""LukeModel's name of a parameter (`weight`, `bias` of a head) -> its name in the file."""


def check_fit(
    checkpoint: Checkpoint,
    tokenizer: Tokenizer,
    heads: Collection[str],
    predicted: Collection[str] = (),
    *,
    titles: bool = False,
) -> None:
    """CheckpointError where the weights are incomplete for `heads`, or have no row for a token or entity that
    these give to the model; or, where `titles` are to be read or found, no titles.

    `predicted`: what the head `cloze` is asked for, words or entities.
    """
    encoder_names(checkpoint)
    for head in heads:
        if head in FEATURES:
            head_names(checkpoint, head)
        if head in POOLED:
            pooler_names(checkpoint)
    if "words" in predicted:
        word_head_names(checkpoint)
    if "links" in heads or "entities" in predicted:
        entity_head_names(checkpoint)
    if titles and not tokenizer.has_titles:
        raise CheckpointError(
            f"{checkpoint.path}: its entity vocabulary holds no titles (a lite checkpoint, without the entity"
            " table), so it can neither link, read nor predict entities; choose a full one, such as"
            " studio-ousia/luke-base"
        )
    if titles:
        _check_entities(checkpoint, tokenizer)
    _check_ids(checkpoint, tokenizer, heads)


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


def head_names(checkpoint: Checkpoint, head: str) -> Names:
    """`weight` and, where the head has one, `bias` of its linear layer; relations have none.

    CheckpointError where the bias is missing or does not fit; the weight's shape was checked with the
    checkpoint's facts.
    """
    labels = len(checkpoint.require(head).labels)
    prefix = layer_of(head, checkpoint.multi_head)
    names = {"weight": f"{prefix}.weight"}
    if head != "relations":
        names["bias"] = f"{prefix}.bias"
        _check(checkpoint, {names["bias"]: names["bias"]}, {names["bias"]: (labels,)})
    _check_scales(checkpoint, names)
    return names


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


def _check_ids(checkpoint: Checkpoint, tokenizer: Tokenizer, heads: Collection[str]) -> None:
    """Only ids that `heads` use count: published checkpoints for NER have no rows for the markers."""
    tokens = {"its largest token": tokenizer.text_size - 1}
    entities = {"[MASK]": tokenizer.entity_mask_id}
    if "cloze" in heads:
        tokens["<mask>"] = tokenizer.mask_id
    if "types" in heads or "relations" in heads:
        tokens["<ent>"] = tokenizer.entity_marker_id
    if "relations" in heads:
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
        names -= {f"{head}.{part}" for head in checkpoint.heads for part in ("weight", "bias")}
    found: Names = {}
    for name in sorted(names):
        plain = name.removeprefix(PREFIX) if prefixed else name
        ignored = IGNORED.fullmatch(plain) or (not entity_aware(checkpoint) and ENTITY_AWARE.fullmatch(plain))
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
