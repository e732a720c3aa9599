"""The model that a run leaves: weights, tokenizer, labels, card, record and curves in one folder.

One head: as transformers' own class has it (`model/single_head.py`). Several: luke-batch's format 1
(`model/checkpoint.py`) with plain float32 tensors, whose encoder transformers' LukeModel loads.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from luke_batch.model.files.checkpoint import HEADS_FILE, TOKENIZER_FILES
from luke_batch.model.files.facts import FORMAT, MANIFEST, HeadFacts
from luke_batch.model.files.reading import SINGLE
from luke_batch.model.writing.single_head import write_single_head
from luke_batch.training.card import readme
from luke_batch.training.curves import draw
from luke_batch.training.model import MultiTaskModel
from luke_batch.training.plan import RECORD, Plan
from luke_batch.training.scoring import Calibrated
from luke_batch.training.settings import HeadName


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
    calibrated: dict[HeadName, Calibrated]
    """Empty without dev."""
    curve: list[dict[str, Any]]
    """`losses` and `examples`, or `dev` scores, each with `step` and `seconds`."""


def write_result(
    folder: Path,
    start: Path,
    plan: Plan,
    model: MultiTaskModel,
    config: dict[str, Any],
    result: Result,
) -> None:
    """Write the folder, which appears as a whole.

    `start`: the folder whose tokenizer the model has; `config`: its config.json.
    """
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    _fill(partial, start, plan, model, config, result)
    for file in partial.iterdir():
        file.chmod(0o644)
    partial.rename(folder)


def _fill(
    folder: Path,
    start: Path,
    plan: Plan,
    model: MultiTaskModel,
    config: dict[str, Any],
    result: Result,
) -> None:
    for name in TOKENIZER_FILES:
        if (start / name).exists():
            shutil.copyfile(start / name, folder / name)
    facts = {name: _facts(name, plan, result.calibrated.get(name)) for name in plan.heads}
    encoder = model.encoder.state_dict()
    heads = model.heads.state_dict()
    if len(facts) == 1:
        ((name, only),) = facts.items()
        classifier = {f"classifier.{part.removeprefix(name + '.')}": item for part, item in heads.items()}
        write_single_head(folder, name, only, config, "none", {**encoder, **classifier})
    else:
        manifest = {
            "format": FORMAT,
            "name": folder.parent.name.removeprefix(".").removesuffix("-run"),
            "heads": {name: item.model_dump(mode="json") for name, item in facts.items()},
            "context": "none",
        }
        _write_json(folder / "config.json", config)
        _write_json(folder / MANIFEST, manifest)
        _save(encoder, folder / SINGLE)
        _save(heads, folder / HEADS_FILE)
    record = _record(plan, result)
    _write_json(folder / RECORD, record)
    (folder / "README.md").write_text(readme(plan, result.calibrated, record), encoding="utf-8")
    draw(result.curve, folder)


def _record(plan: Plan, result: Result) -> dict[str, Any]:
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


def _facts(name: HeadName, plan: Plan, found: Calibrated | None) -> HeadFacts:
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


def _write_json(file: Path, content: object) -> None:
    file.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
