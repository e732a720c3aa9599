"""The model card of a fine-tuned model, written from its run."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from luke_batch.training.corpus import DataFile
from luke_batch.training.plan import TrainingPlan
from luke_batch.training.scoring import CalibratedHead
from luke_batch.training.settings import FinetuneConfig, HeadName

_SHOWN = 60
"""Labels that a card counts one by one."""
_COLUMNS = (
    *("head", "precision", "recall", "F1", "accuracy", "gold labels"),
    *("temperature", "threshold", "ECE before", "ECE after"),
)


def readme(plan: TrainingPlan, calibrated: Mapping[HeadName, CalibratedHead], record: Mapping[str, Any]) -> str:
    """The card as Markdown. `record`: training.json."""
    left_out = ", ".join(f"{reason}: {count}" for reason, count in record["left_out"].items()) or "none"
    versions = ", ".join(f"{name} {value}" for name, value in plan.versions.items())
    seen = ", ".join(f"{name} {count}" for name, count in sorted(record["examples"].items()))
    run = f"{record['steps']} steps in {record['seconds']:.0f} s with {record['workers']} worker(s)"
    run += f"; examples that each saw: {seen}"
    notes = "".join(f"* {note}\n" for note in plan.notes)
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
