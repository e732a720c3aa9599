"""The model that a run leaves: weights, tokenizer, labels, card, record and curves in one folder.

One head: as transformers' own class has it (`model/writing/single_head.py`). Several: luke-batch's format 1
(`model/files/checkpoint.py`) with plain float32 tensors, whose encoder transformers' LukeModel loads.
"""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from luke_batch.model.files.checkpoint import HEADS_FILE, SCORER_FILE, TOKENIZER_FILES
from luke_batch.model.files.facts import FORMAT, MANIFEST, SCORER, SCORER_LABELS, HeadFacts
from luke_batch.model.files.reading import SINGLE, read_object
from luke_batch.model.writing.new_folder import new_folder
from luke_batch.model.writing.single_head import write_single_head
from luke_batch.training.corpus import DataFile
from luke_batch.training.curve import Point, draw
from luke_batch.training.model import MultiTaskModel
from luke_batch.training.plan import JOINT, RECORD, TrainingPlan
from luke_batch.training.scoring import CalibratedHead
from luke_batch.training.settings import FinetuneConfig, HeadName
from luke_batch.training.span_scorer import FittedScorer
from luke_batch.training.start import save_weights, write_json

_SHOWN = 60
"""Labels that a card counts one by one."""
_COLUMNS = (
    *("head", "precision", "recall", "F1", "accuracy", "gold labels"),
    *("temperature", "threshold", "ECE before", "ECE after"),
)


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
    """`losses` and `examples`, or `dev` scores, each with `step` and `seconds`; notes."""
    span_scorer: str | None = None
    """What the span scorer of `ner` does, or why there is none."""


def write_result(
    folder: Path,
    start: Path,
    plan: TrainingPlan,
    model: MultiTaskModel,
    result: Result,
    scorer: FittedScorer | None = None,
) -> None:
    """Write the folder, which appears as a whole. `start`: the folder whose tokenizer and config.json it gets."""
    with new_folder(folder) as partial:
        for name in TOKENIZER_FILES:
            if (start / name).exists():
                shutil.copyfile(start / name, partial / name)
        name = folder.parent.name.removeprefix(".").removesuffix("-run")
        spans = None if scorer is None else HeadFacts(labels=SCORER_LABELS, threshold=scorer.threshold)
        _write_weights(partial, name, read_object(start / "config.json"), plan, model, result, spans)
        if scorer is not None:
            save_weights(scorer.net.state_dict(), partial / SCORER_FILE)
        record = _record(plan, result)
        write_json(partial / RECORD, record)
        (partial / "README.md").write_text(readme(plan, result.calibrated, record), encoding="utf-8")
        draw(result.curve, partial)


def _write_weights(
    folder: Path,
    name: str,
    config: dict[str, Any],
    plan: TrainingPlan,
    model: MultiTaskModel,
    result: Result,
    scorer: HeadFacts | None,
) -> None:
    """config.json, weights and what the heads are."""
    facts = {head: _facts(head, plan, result.calibrated.get(head)) for head in plan.heads}
    encoder, heads = model.encoder.state_dict(), model.heads.state_dict()
    if len(facts) == 1 and JOINT not in plan.passes:
        ((head, only),) = facts.items()
        classifier = {f"classifier.{part.removeprefix(head + '.')}": item for part, item in heads.items()}
        write_single_head(folder, head, only, config, "none", {**encoder, **classifier}, scorer)
        return
    described: dict[str, Any] = {head: item.model_dump(mode="json") for head, item in facts.items()}
    if scorer is not None:
        described[SCORER] = scorer.model_dump(mode="json")
    write_json(folder / "config.json", config)
    write_json(folder / MANIFEST, {"format": FORMAT, "name": name, "heads": described, "context": "none"})
    save_weights(encoder, folder / SINGLE)
    save_weights(heads, folder / HEADS_FILE)


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
        input="joint" if spec.joint else "marked",
        temperature=round(found.temperature, 4) if found else 1.0,
        offsets=tuple(round(value, 4) for value in found.offsets) if found else (),
        threshold=round(found.threshold, 6) if found and found.threshold else None,
        max_words=plan.max_words if name == "ner" else None,
    )


def readme(plan: TrainingPlan, calibrated: Mapping[HeadName, CalibratedHead], record: Mapping[str, Any]) -> str:
    """The card as Markdown. `record`: training.json."""
    left_out = ", ".join(f"{reason}: {count}" for reason, count in record["left_out"].items()) or "none"
    versions = ", ".join(f"{name} {value}" for name, value in plan.versions.items())
    seen = ", ".join(f"{name} {count}" for name, count in sorted(record["examples"].items()))
    run = f"{record['steps']} steps in {record['seconds']:.0f} s with {record['workers']} worker(s)"
    run += f"; examples that each saw: {seen}"
    told = [*plan.notes, *([record["span_scorer"]] if record.get("span_scorer") else [])]
    notes = "".join(f"* {note}\n" for note in told)
    return f"""\
# Fine-tuned {" and ".join(f"`{name}`" for name in plan.heads)}

A LUKE model trained with [luke-batch](https://pypi.org/project/luke-batch/) from the base `{plan.base}`, one
sentence or short text a row, windows without further context.

* Command: `{command(plan)}`
* {run}
* Examples left out, each time one was drawn: {left_out}
* Date: {record["date"]}; {versions}
{notes}
## Labels

{"".join(_labels(plan, name) for name in plan.heads)}
## Data

| part | file | rows | SHA-256 | licence |
|---|---|---|---|---|
{_files("train", plan.train_files)}{_files("dev", plan.dev_files)}
## Figures on dev

{_figures(calibrated)}
`training.json` holds settings, losses and dev scores of the whole run.
"""


def command(plan: TrainingPlan) -> str:
    """The command of the run, with names for the folders of its machine."""
    config = plan.config
    words = ["luke-batch", "finetune", "TRAIN", "OUTPUT_MODEL"]
    words += [word for head in config.heads for word in ("--head", head)]
    words += ["--dev", "DEV"] if plan.dev is not None else []
    defaults = FinetuneConfig(heads=config.heads)
    for name in FinetuneConfig.model_fields:
        value, usual = getattr(config, name), getattr(defaults, name)
        if name != "heads" and value != usual:
            shown = plan.base if name == "base" else value
            option = f"--{name.replace('_', '-')}"
            words += [option] if value is True else [option, str(shown)]
    return shlex.join(words)


def _labels(plan: TrainingPlan, name: HeadName) -> str:
    head = plan.heads[name]
    spec = head.spec
    counts = sorted(head.counts.items(), key=lambda item: -item[1])
    shown = ", ".join(f"{label} {count}" for label, count in counts[:_SHOWN])
    more = f" and {len(counts) - _SHOWN} more" if len(counts) > _SHOWN else ""
    kind = "several at a time" if spec.multi_label else "one at a time"
    nothing = f", `{spec.none_label}` for nothing" if spec.none_label else ""
    return f"* `{name}`: {len(counts)} labels, {kind}{nothing}. In train: {shown}{more}.\n"


def _files(part: str, files: tuple[DataFile, ...]) -> str:
    return "".join(
        f"| {part} | {item.name} | {item.rows} | {item.sha256} | {item.licence or 'not told'} |\n" for item in files
    )


def _figures(calibrated: Mapping[HeadName, CalibratedHead]) -> str:
    if not calibrated:
        return "No dev data: the last state was kept, scores are not calibrated.\n"
    lines = [
        "In percent; the state was chosen by these scores. ECE: expected calibration error over what is",
        "written, 15 bins of equal mass, on the half of dev that the temperature was not fitted on.",
        "",
        f"| {' | '.join(_COLUMNS)} |",
        "|---" * len(_COLUMNS) + "|",
    ]
    for name, found in calibrated.items():
        scores = found.scores
        accuracy = "–" if scores.accuracy is None else f"{100 * scores.accuracy:.1f}"
        threshold = "–" if found.threshold is None else f"{found.threshold:.4f}"
        temperature = f"{found.temperature:.3f} ({found.outcome})"
        errors = f"{100 * found.ece_before:.1f} | {100 * found.ece_after:.1f}"
        lines.append(
            f"| {name} | {100 * scores.precision:.1f} | {100 * scores.recall:.1f} | {100 * scores.f1:.1f} |"
            f" {accuracy} | {scores.support} | {temperature} | {threshold} | {errors} |"
        )
    return "\n".join(lines) + "\n"
