"""Small LUKE and mLUKE checkpoints with random weights, in the layouts that the hub has and in our own."""

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import LukeConfig, LukeModel, LukeTokenizer
from transformers.utils import logging

from luke_batch.model.engine.span_scorer import SpanScorerNet
from luke_batch.model.inputs.tokenizer import Tokenizer

GOLDEN = Path(__file__).parent / "golden"
HEADS = {
    "ner": "LukeForEntitySpanClassification",
    "types": "LukeForEntityClassification",
    "relations": "LukeForEntityPairClassification",
    "links": "LukeForMaskedLM",
    "cloze": "LukeForMaskedLM",
    "sequence": "LukeForSequenceClassification",
    "tokens": "LukeForTokenClassification",
    "qa": "LukeForQuestionAnswering",
    "choice": "LukeForMultipleChoice",
}
LABELS: dict[str, tuple[str, ...]] = {
    "ner": ("NIL", "PER", "LOC", "ORG"),
    "types": ("person", "place", "organization"),
    "relations": ("no_relation", "born_in", "member_of"),
    "links": (),
    "cloze": (),
    "sequence": ("news", "sports", "business"),
    "tokens": ("O", "B-PER", "I-PER", "B-LOC", "I-LOC"),
    "qa": ("start", "end"),
    "choice": ("choice",),
}
LITE_ENTITIES = {"[MASK]": 0, "[UNK]": 1, "[PAD]": 2, "[MASK2]": 3}
HIDDEN = 32
MANIFEST = {
    "format": 1,
    "name": "test",
    "heads": {
        "ner": {"labels": LABELS["ner"], "none_label": "NIL", "temperature": 1.5, "max_words": 6},
        "types": {"labels": LABELS["types"], "multi_label": True, "threshold": 0.4},
        "relations": {"labels": LABELS["relations"], "none_label": "no_relation", "multi_label": False},
    },
    "context": "none",
}


TOKENIZERS = {kind: Tokenizer.load(GOLDEN / f"{kind}-v4-layout") for kind in ("luke", "mluke")}


@dataclass(frozen=True)
class Recipe:
    """A checkpoint of one transformers class."""

    architecture: str = "LukeModel"
    kind: Literal["luke", "mluke"] = "luke"
    labels: tuple[str, ...] = ()
    layout: Literal["v4", "v5"] = "v4"
    """v4: as the hub has them; v5: as transformers 5 saves them (LUKE only: it would shift mLUKE's ids)."""
    entity_aware: bool = True
    entity_emb_size: int = 16
    hidden: int = HIDDEN
    layers: int = 2
    heads: int = 4
    lite: bool = False
    problem_type: Literal["single_label_classification", "multi_label_classification", "regression"] | None = None
    seed: int = 0


def with_head(head: str, recipe: Recipe) -> Recipe:
    """The recipe for the class that has the head."""
    return replace(recipe, architecture=HEADS[head], labels=LABELS[head])


def make(folder: Path, recipe: Recipe) -> Path:
    """Write the checkpoint into the new folder."""
    logging.disable_progress_bar()
    model = getattr(transformers, recipe.architecture)(_config(recipe))
    _randomise(model, recipe.seed)
    model.save_pretrained(folder)
    _write_tokenizer(folder, recipe)
    if recipe.layout == "v4":
        config = json.loads((folder / "config.json").read_text())
        config["torch_dtype"] = config.pop("dtype")
        config["transformers_version"] = "4.6.0.dev0"
        (folder / "config.json").write_text(json.dumps(config))
    return folder


def make_multi_head(folder: Path, kind: Literal["luke", "mluke"] = "luke", seed: int = 0) -> Path:
    """Write a checkpoint of luke-batch's own format 1: three heads, float16, int8 words, two shards."""
    recipe = Recipe(kind=kind, lite=True, entity_emb_size=HIDDEN, seed=seed)
    make(folder, recipe)
    model = LukeModel(_config(recipe), add_pooling_layer=False)
    _randomise(model, seed)
    state = {name: tensor.half() for name, tensor in model.state_dict().items()}
    words = model.state_dict()["embeddings.word_embeddings.weight"]
    scale = words.abs().amax(1).clamp(min=1e-8) / 127
    name = "embeddings.word_embeddings.weight"
    state |= {name: (words / scale[:, None]).round().to(torch.int8), f"{name}.scale": scale}
    (folder / "model.safetensors").unlink()
    shards = {f"model-0000{k}-of-00002.safetensors": sorted(state)[k - 1 :: 2] for k in (1, 2)}
    for file, names in shards.items():
        save_file({name: state[name] for name in names}, folder / file)
    index = {"weight_map": {name: file for file, names in shards.items() for name in names}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    save_file(multi_head_weights(seed), folder / "heads.safetensors")
    (folder / "luke_batch.json").write_text(json.dumps(MANIFEST))
    return folder


def add_span_scorer(folder: Path, threshold: float) -> Path:
    """Give a folder of `make_multi_head` a span scorer with random weights."""
    torch.manual_seed(0)
    save_file(SpanScorerNet(HIDDEN, 8).state_dict(), folder / "span_scorer.safetensors")
    manifest = json.loads((folder / "luke_batch.json").read_text())
    manifest["heads"]["spans"] = {"labels": ["start", "end"], "threshold": threshold}
    (folder / "luke_batch.json").write_text(json.dumps(manifest))
    return folder


def add_head(folder: Path, name: str, weight: torch.Tensor, bias: torch.Tensor) -> Path:
    """Give a folder of `make_multi_head` a head of somebody else's, with labels that are numbers."""
    weights = load_file(folder / "heads.safetensors")
    save_file({**weights, f"{name}.weight": weight, f"{name}.bias": bias}, folder / "heads.safetensors")
    manifest = json.loads((folder / "luke_batch.json").read_text())
    manifest["heads"][name] = {"labels": [str(number) for number in range(len(weight))]}
    (folder / "luke_batch.json").write_text(json.dumps(manifest))
    return folder


def damage_token(folder: Path, token: int) -> Path:
    """Make the row of a token in the word table of a folder of `make_multi_head` NaN."""
    name = "embeddings.word_embeddings.weight.scale"
    for file in folder.glob("model-*.safetensors"):
        state = load_file(file)
        if name in state:
            state[name][token] = torch.nan
            save_file(state, file)
    return folder


def multi_head_weights(seed: int) -> dict[str, torch.Tensor]:
    """What `make_multi_head` writes to heads.safetensors."""
    generator = torch.Generator().manual_seed(seed)
    weights: dict[str, torch.Tensor] = {}
    for head, features in (("ner", 3), ("types", 1), ("relations", 2)):
        rows = len(LABELS[head])
        weights[f"{head}.weight"] = torch.randn(rows, features * HIDDEN, generator=generator) * 0.3
        if head != "relations":
            weights[f"{head}.bias"] = torch.randn(rows, generator=generator)
    return weights


def _config(recipe: Recipe) -> LukeConfig:
    tokenizer = TOKENIZERS[recipe.kind]
    entities = LITE_ENTITIES if recipe.lite else tokenizer.entity_vocab
    return LukeConfig(
        vocab_size=tokenizer.vocab_size,
        entity_vocab_size=1 + max(entities.values()),
        hidden_size=recipe.hidden,
        entity_emb_size=recipe.entity_emb_size,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        intermediate_size=2 * recipe.hidden,
        max_position_embeddings=514,
        type_vocab_size=1,
        initializer_range=0.3,  # with the usual 0.02 all spans get nearly the same logits
        use_entity_aware_attention=recipe.entity_aware,
        problem_type=recipe.problem_type,
        architectures=[recipe.architecture],
        id2label=dict(enumerate(recipe.labels)) or None,
    )


def _randomise(model: torch.nn.Module, seed: int) -> None:
    """New weights that depend on the seed alone; biases and norms too, or a lost one would go unnoticed."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            noise = torch.randn(parameter.shape, generator=generator)
            if name.startswith("pooler") or ".pooler." in name:
                parameter.copy_(0.1 * noise)  # its tanh would saturate, and hide differences
            elif "LayerNorm" in name or name.endswith("bias"):
                parameter.add_(0.1 * noise)
            else:
                parameter.copy_(0.3 * noise)


def _write_tokenizer(folder: Path, recipe: Recipe) -> None:
    golden = GOLDEN / f"{recipe.kind}-v4-layout"
    if recipe.layout == "v5":
        LukeTokenizer.from_pretrained(golden).save_pretrained(folder)
        return
    for file in golden.iterdir():
        shutil.copy(file, folder)
    if recipe.lite:
        (folder / "entity_vocab.json").write_text(json.dumps(LITE_ENTITIES))


def make_joint(folder: Path, seed: int = 0) -> Path:
    """A folder of `make_multi_head` whose `types` and `relations` read joint windows, and the text vector too."""
    make_multi_head(folder, seed=seed)
    generator = torch.Generator().manual_seed(seed + 1)
    weights = load_file(folder / "heads.safetensors")
    del weights["relations.weight"]
    units, labels = 8, len(LABELS["relations"])
    shapes = {"head.weight": (units, HIDDEN), "tail.weight": (units, HIDDEN), "tail.bias": (units,)}
    shapes |= {"out.weight": (labels, units), "out.bias": (labels,)}
    weights |= {f"relations.{part}": torch.randn(shape, generator=generator) * 0.3 for part, shape in shapes.items()}
    save_file(weights, folder / "heads.safetensors")
    manifest = json.loads((folder / "luke_batch.json").read_text())
    for head in ("types", "relations"):
        manifest["heads"][head]["input"] = "joint"
    manifest["heads"]["relations"] |= {"multi_label": True, "none_label": None, "threshold": 0.3}
    manifest["heads"]["embeddings"] = {"input": "joint"}
    (folder / "luke_batch.json").write_text(json.dumps(manifest))
    return folder
