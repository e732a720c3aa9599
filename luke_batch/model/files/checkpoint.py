"""A model folder and its facts: heads, labels, files, hash. Imports no torch, so that plans can read it.

Two formats are read. transformers: config.json, tokenizer files and model.safetensors (or an index with
shards) of LukeModel or one of its heads. luke-batch's own format 1, several heads on one encoder:

    config.json                      LukeConfig, architectures ["LukeModel"]
    tokenizer files                  as for transformers
    model*.safetensors (+ index)     LukeModel's parameters without the `luke.` prefix, float16; an int8
                                     tensor X comes with float32 row scales X.scale
    heads.safetensors                float32: ner.weight (labels, 3H), ner.bias, types.weight (labels, H),
                                     types.bias, relations.weight (labels, 2H)
    span_scorer.safetensors          float32, where there is a head `spans`: see model/engine/span_scorer.py
    luke_batch.json                  {"format": 1, "name", "heads": {"ner": HeadFacts, …}, "context"}
    relations.json                   optional: which relations make sense; see constraints.py

A transformers checkpoint of ours may have span_scorer.safetensors as well: its config.json says so. relations.json may
stand in either.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal, cast

from luke_batch.base.errors import CheckpointError
from luke_batch.model.files.constraints import CONSTRAINTS_FILE, Constraints, read_constraints
from luke_batch.model.files.facts import LAYERS, MANIFEST, SCORER, HeadFacts, read_manifest, transformers_heads
from luke_batch.model.files.fetch import Location, fetch
from luke_batch.model.files.reading import (
    State,
    TensorFacts,
    content_hash,
    encoder_files,
    read_headers,
    read_object,
    state_of,
    whole_number,
)
from luke_batch.model.settings import ModelConfig
from luke_batch.model.task import Task

HEADS_FILE = "heads.safetensors"
SCORER_FILE = "span_scorer.safetensors"
MODEL_TYPES = ("luke", "mluke")
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "entity_vocab.json",
    "vocab.json",
    "merges.txt",
    "sentencepiece.bpe.model",
    "added_tokens.json",
    "special_tokens_map.json",
)

Context = Literal["none", "document"]


@dataclass(frozen=True)
class Checkpoint:
    """A model folder whose files are complete and fit together, as far as their headers tell."""

    path: str
    """As the user named it."""
    folder: Path
    revision: str | None
    """The hub's commit, or the key of a downloaded URL; None for a folder of the user's own."""
    pinned: str
    """A path that means the same in every process; see `Location`."""
    config: Mapping[str, object]
    """The content of config.json."""
    tensors: Mapping[str, TensorFacts]
    """Every tensor of the weight files by its name there."""
    heads: Mapping[str, HeadFacts]
    """By head name; `embeddings` always."""
    multi_head: bool
    """luke-batch's own format: head weights are `<head>.weight` instead of `classifier.weight`."""
    context: Context | None
    """What the NER windows were filled with in training; None where nothing tells."""
    max_mention_length: int
    """Tokens of a mention that count for its position."""
    constraints: Constraints | None = None
    """Which relations make sense; None where the folder does not tell."""

    @property
    def architectures(self) -> tuple[str, ...]:
        """The transformers classes that wrote the weights."""
        return tuple(str(name) for name in cast("list[object]", self.config.get("architectures") or []))

    @property
    def hidden_size(self) -> int:
        """Length of a hidden state."""
        return self.setting("hidden_size")

    @property
    def weight_files(self) -> tuple[Path, ...]:
        """The safetensors files in use, sorted."""
        return tuple(sorted({facts.file for facts in self.tensors.values()}))

    @property
    def weights_hash(self) -> str:
        """SHA-256 over the content of all files that change results; computed once a process."""
        named = [
            self.folder / name for name in ("config.json", MANIFEST, SCORER_FILE, CONSTRAINTS_FILE, *TOKENIZER_FILES)
        ]
        return content_hash([*self.weight_files, *(file for file in named if file.exists())])

    def setting(self, name: str) -> int:
        """A whole number of config.json; CheckpointError where it is missing."""
        return whole_number(self.config, name, f"{self.path}: config.json")

    @property
    def entity_aware(self) -> bool:
        """Whether queries depend on the kinds of both sides; on unless config.json says otherwise."""
        return bool(self.config.get("use_entity_aware_attention", True))

    @property
    def norm_epsilon(self) -> float:
        """What every layer norm adds to the variance."""
        value = self.config.get("layer_norm_eps", 1e-12)
        if type(value) not in (int, float) or not 0 < cast("float", value) < 1:
            raise CheckpointError(f"{self.path}: config.json has no usable layer_norm_eps ({value!r}); mend it")
        return float(cast("float", value))

    def layer(self, task: Task) -> str:
        """The name in the files of the linear layer that the task's head has there, without `.weight`.

        CheckpointError where the checkpoint has no such head, or its weight is missing or has another shape than
        the labels ask for.
        """
        labels = len(self.require(task.head).labels)
        name = task.head if self.multi_head else "qa_outputs" if task.head == "qa" else "classifier"
        wanted = (labels, task.reads.states * self.hidden_size)
        weight = self.tensors.get(f"{name}.weight")
        if weight is None:
            raise CheckpointError(f"{self.path}: no {name}.weight among the weights; download or convert it again")
        if weight.shape != wanted:
            raise CheckpointError(
                f"{self.path}: {name}.weight has the shape {weight.shape}, but {labels} labels and "
                f"hidden size {self.hidden_size} ask for {wanted}; config and weights do not belong together"
            )
        return name

    def require(self, head: str) -> HeadFacts:
        """The facts of a head; CheckpointError where the checkpoint has no such head."""
        if head not in self.heads:
            made_by = f" (it is a {', '.join(self.architectures)})" if self.architectures else ""
            raise CheckpointError(
                f"{self.path}: has no {head} head{made_by}; it has {', '.join(sorted(self.heads))}: "
                "choose another checkpoint for this head, or leave the head out"
            )
        return self.heads[head]


def resolve(path: str) -> Checkpoint:
    """Find `path` (`embedded`, a folder, a hub id, a URL), download it if need be, and read its facts.

    Raises CheckpointError where it cannot be reached, is incomplete or damaged, or is no LUKE checkpoint.
    """
    return read_checkpoint(fetch(path), path)


def resolve_model(model: ModelConfig) -> Checkpoint:
    """`resolve` for a model of the configuration; also CheckpointError where its content is not the one that
    `weights_hash` asks for.
    """
    checkpoint = resolve(model.path)
    if model.weights_hash not in (None, checkpoint.weights_hash):
        raise CheckpointError(
            f"{model.path}: its files on this machine ({checkpoint.folder}) have the content hash "
            f"{checkpoint.weights_hash}, not {model.weights_hash} as planned; they were changed since, or "
            "are another copy: run the same command again, or mend the copy"
        )
    return checkpoint


def read_checkpoint(location: Location, path: str) -> Checkpoint:
    """The facts of a local folder, named `path` in messages; read once a process while its files stay as they are.

    Raises CheckpointError as `resolve` does.
    """
    return _read(location, path, state_of(location.folder))


@lru_cache(maxsize=16)
def _read(location: Location, path: str, state: State) -> Checkpoint:  # noqa: ARG001 - it keys the cache
    folder = location.folder
    config = read_config(folder, path)
    files = encoder_files(folder, path)
    multi_head = (folder / MANIFEST).exists()
    if multi_head:
        heads, context = read_manifest(folder)
        if any(facts.labels for facts in heads.values()):
            files.append(_required(folder, HEADS_FILE, path))
        tensors = read_headers(files)
    else:
        tensors = read_headers(files)
        heads, context = transformers_heads(config, tensors, path)
    if SCORER in heads:
        _required(folder, SCORER_FILE, path)
    tokenizer_config = _tokenizer_config(folder, path)
    checkpoint = Checkpoint(
        path=path,
        folder=folder,
        revision=location.revision,
        pinned=location.pinned,
        config=config,
        tensors=tensors,
        heads={**heads, "embeddings": heads.get("embeddings", HeadFacts())},
        multi_head=multi_head,
        context=context,
        max_mention_length=whole_number(
            {"max_mention_length": 30} | tokenizer_config, "max_mention_length", f"{path}: tokenizer_config.json", 1
        ),
        constraints=read_constraints(folder, heads["relations"].labels) if "relations" in heads else None,
    )
    for head, facts in checkpoint.heads.items():
        if head in LAYERS and facts.input == "marked":
            checkpoint.layer(LAYERS[head])
    return checkpoint


def read_config(folder: Path, path: str) -> dict[str, object]:
    """The content of config.json; CheckpointError where there is none, or it is not LUKE's."""
    config = read_object(_required(folder, "config.json", path))
    model_type = config.get("model_type")
    if model_type not in MODEL_TYPES:
        raise CheckpointError(
            f"{path}: config.json says model_type {model_type!r}; luke-batch runs LUKE and mLUKE checkpoints"
        )
    return config


def _tokenizer_config(folder: Path, path: str) -> dict[str, object]:
    """The content of tokenizer_config.json; CheckpointError where the folder has no whole tokenizer."""
    if not (folder / "sentencepiece.bpe.model").exists() and not (folder / "tokenizer.json").exists():
        for name in ("vocab.json", "merges.txt"):
            if not (folder / name).exists():
                raise CheckpointError(
                    f"{path}: no {name} (and neither tokenizer.json nor sentencepiece.bpe.model); copy the "
                    "whole folder of the checkpoint"
                )
    config_file = folder / "tokenizer_config.json"
    config = read_object(config_file) if config_file.exists() else {}
    if "entity_vocab" not in config:  # transformers 5 keeps the vocabulary there
        _required(folder, "entity_vocab.json", path)
    return config


def _required(folder: Path, name: str, path: str) -> Path:
    if not (folder / name).exists():
        raise CheckpointError(f"{path}: no {name}; copy the whole folder of the checkpoint")
    return folder / name
