"""One head as a checkpoint of transformers' own class: what fine-tuning and `models convert --head` write.

config.json       LukeConfig with the class, id2label and problem_type; in a section `luke_batch` what
                  transformers has no place for: none_label, temperature, offsets, threshold, max_words,
                  context, and `spans`, the threshold of a span scorer
model.safetensors the encoder's parameters behind `luke.`, and `classifier.weight` and `.bias`, float32
tokenizer files   as they were
span_scorer.safetensors  of ner, where there is one
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from luke_batch.base.errors import CheckpointError
from luke_batch.model.files.checkpoint import SCORER_FILE, TOKENIZER_FILES, resolve
from luke_batch.model.files.constraints import CONSTRAINTS_FILE
from luke_batch.model.files.facts import ARCHITECTURES, SCORER, SECTION, SECTION_FORMAT, HeadFacts
from luke_batch.model.files.fit import PREFIX
from luke_batch.model.files.reading import SINGLE
from luke_batch.model.writing.new_folder import check_destination, new_folder

if TYPE_CHECKING:
    from torch import Tensor

_CLASSES = {
    head: architecture
    for architecture, heads in ARCHITECTURES.items()
    for head in heads
    if head in ("ner", "types", "relations")
}


def write_single_head(
    folder: Path,
    head: str,
    facts: HeadFacts,
    config: Mapping[str, object],
    context: str | None,
    weights: Mapping[str, "Tensor"],
    scorer: HeadFacts | None = None,
) -> None:
    """Write config.json and model.safetensors into an existing folder, to which a `scorer`'s file belongs as well.

    `weights`: the encoder's parameters by their names in LukeModel, and `classifier.weight` and `.bias`.
    """
    import torch
    from safetensors.torch import save_file

    kind = "multi_label_classification" if facts.multi_label else "single_label_classification"
    section: dict[str, object] = {
        "format": SECTION_FORMAT,
        "context": context,
        **facts.model_dump(include={"none_label", "temperature", "offsets", "threshold", "max_words"}),
    }
    if scorer is not None:
        section[SCORER] = {"threshold": scorer.threshold}
    described: dict[str, Any] = {
        **{name: value for name, value in config.items() if name not in ("torch_dtype", "dtype")},
        "architectures": [_CLASSES[head]],
        "id2label": {str(number): label for number, label in enumerate(facts.labels)},
        "label2id": {label: number for number, label in enumerate(facts.labels)},
        "problem_type": kind,
        "dtype": "float32",
        SECTION: section,
    }
    (folder / "config.json").write_text(json.dumps(described, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    hidden = len(weights["embeddings.LayerNorm.bias"])
    # No head reads it, but transformers' classes have it, and warn of what a file lacks.
    pooler = {"pooler.dense.weight": torch.zeros(hidden, hidden), "pooler.dense.bias": torch.zeros(hidden)}
    tensors = {
        name if name.startswith("classifier.") else PREFIX + name: item.detach().float().cpu().contiguous()
        for name, item in {**pooler, **weights}.items()
    }
    save_file(tensors, folder / SINGLE, metadata={"format": "pt"})


def extract_head(source: str, head: str, destination: Path) -> None:
    """Write one head of the checkpoint `source` as a folder of its own, which appears whole or not at all.

    Raises CheckpointError where the source cannot be used, has no such head, or the destination exists and is
    not an empty folder.
    """
    from luke_batch.model.files.weights import encoder_state, head_state

    check_destination(destination)
    if head not in _CLASSES:
        raise CheckpointError(f"--head {head}: no such head; choose one of {', '.join(sorted(_CLASSES))}")
    checkpoint = resolve(source)
    facts = checkpoint.require(head)
    if facts.input == "joint":
        raise CheckpointError(
            f"--head {head}: {source} was trained with `input: joint`, which no class of transformers has; use the"
            " folder as it is, or fine-tune with --input marked"
        )
    weight, bias = head_state(checkpoint, head)
    weights = {**encoder_state(checkpoint), "classifier.weight": weight}
    if bias is not None:
        weights["classifier.bias"] = bias
    with new_folder(destination) as folder:
        scorer = checkpoint.heads.get(SCORER) if head == "ner" else None
        write_single_head(folder, head, facts, checkpoint.config, checkpoint.context, weights, scorer)
        own = {"ner": (SCORER_FILE,) if scorer is not None else (), "relations": (CONSTRAINTS_FILE,)}
        for name in (*TOKENIZER_FILES, *own.get(head, ())):
            if (checkpoint.folder / name).exists():
                shutil.copyfile(checkpoint.folder / name, folder / name)
