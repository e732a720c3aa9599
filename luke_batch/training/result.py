"""The model that a run leaves: weights, tokenizer, labels, card, record and curves in one folder.

One head: as transformers' own class has it (`model/writing/single_head.py`). Several: luke-batch's format 1
(`model/files/checkpoint.py`) with plain float32 tensors, whose encoder transformers' LukeModel loads.
"""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from luke_batch.model.files.checkpoint import HEADS_FILE, TOKENIZER_FILES
from luke_batch.model.files.facts import FORMAT, MANIFEST, HeadFacts
from luke_batch.model.files.new_folder import new_folder
from luke_batch.model.files.tensors import SINGLE
from luke_batch.model.inputs.pieces import read_object
from luke_batch.model.writing.single_head import write_single_head
from luke_batch.training.card import readme
from luke_batch.training.curve import Point, draw
from luke_batch.training.model import MultiTaskModel
from luke_batch.training.plan import RECORD, TrainingPlan
from luke_batch.training.scoring import CalibratedHead
from luke_batch.training.settings import HeadName
from luke_batch.training.start import write_json


@dataclass(frozen=True, slots=True)
class Result:
    """What came out of a run."""

    steps: int
    seconds: float
    """Of training and dev scores, over all resumed parts."""
    examples: dict[str, int]
    """Shown to each head, by one worker."""
    workers: int
    left_out: dict[str, int]
    """Why examples were left out, and how often one was."""
    calibrated: dict[HeadName, CalibratedHead]
    """Empty without dev."""
    curve: list[Point]
    """`losses` and `examples`, or `dev` scores, each with `step` and `seconds`."""


def write_result(folder: Path, start: Path, plan: TrainingPlan, model: MultiTaskModel, result: Result) -> None:
    """Write the folder, which appears as a whole. `start`: the folder whose tokenizer and config.json it gets."""
    with new_folder(folder) as partial:
        for name in TOKENIZER_FILES:
            if (start / name).exists():
                shutil.copyfile(start / name, partial / name)
        name = folder.parent.name.removeprefix(".").removesuffix("-run")
        _write_weights(partial, name, read_object(start / "config.json"), plan, model, result)
        record = _record(plan, result)
        write_json(partial / RECORD, record)
        (partial / "README.md").write_text(readme(plan, result.calibrated, record), encoding="utf-8")
        draw(result.curve, partial)


def _write_weights(
    folder: Path, name: str, config: dict[str, Any], plan: TrainingPlan, model: MultiTaskModel, result: Result
) -> None:
    """config.json, weights and what the heads are."""
    facts = {head: _facts(head, plan, result.calibrated.get(head)) for head in plan.heads}
    encoder, heads = model.encoder.state_dict(), model.heads.state_dict()
    if len(facts) == 1:
        ((head, only),) = facts.items()
        classifier = {f"classifier.{part.removeprefix(head + '.')}": item for part, item in heads.items()}
        write_single_head(folder, head, only, config, "none", {**encoder, **classifier})
        return
    described = {head: item.model_dump(mode="json") for head, item in facts.items()}
    write_json(folder / "config.json", config)
    write_json(folder / MANIFEST, {"format": FORMAT, "name": name, "heads": described, "context": "none"})
    _save(encoder, folder / SINGLE)
    _save(heads, folder / HEADS_FILE)


def _record(plan: TrainingPlan, result: Result) -> dict[str, Any]:
    """The content of training.json."""
    return {
        "identity": plan.identity,
        "base": plan.base,
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "settings": plan.config.model_dump(mode="json", exclude={"base"}),
        "versions": plan.versions,
        "data": {
            "train": [asdict(item) for item in plan.train_files],
            "dev": [asdict(item) for item in plan.dev_files],
        },
        "notes": list(plan.notes),
        **asdict(result),
    }


def _facts(name: HeadName, plan: TrainingPlan, found: CalibratedHead | None) -> HeadFacts:
    spec = plan.heads[name].spec
    return HeadFacts(
        labels=spec.labels,
        none_label=spec.none_label,
        multi_label=spec.multi_label,
        temperature=round(found.temperature, 4) if found else 1.0,
        offsets=tuple(round(value, 4) for value in found.offsets) if found else (),
        threshold=round(found.threshold, 6) if found and found.threshold else None,
        max_words=plan.max_words if name == "ner" else None,
    )


def _save(tensors: dict[str, Tensor], file: Path) -> None:
    plain = {name: item.detach().float().cpu().contiguous() for name, item in tensors.items()}
    save_file(plain, file, metadata={"format": "pt"})
