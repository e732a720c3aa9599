"""Temperatures and thresholds of a trained model's heads, fitted on dev and written into its luke_batch.json.

    python recipes/settle.py --data DATA --model OUT/trained

The weights stay as they are. A temperature is fitted on one half of the dev rows and its calibration error
reported on the other. Joint relations are judged between the mentions that the model's own `ner` finds in Re-DocRED's
dev sentences, as a user gets them, where relations.json allows them (`constraints.py`, to be run before); their
threshold is that of the best F1 among those with the least precision below. Marked ones, between given mentions.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter, defaultdict
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from luke_batch.heads.consistency import Consistency
from luke_batch.model.engine.span_scorer import SpanScorerNet
from luke_batch.model.files.checkpoint import SCORER_FILE, resolve
from luke_batch.model.files.facts import MANIFEST
from luke_batch.model.files.weights import encoder_state, encoder_tables
from luke_batch.model.inputs.tokenizer import Tokenizer
from luke_batch.model.inputs.windows import InputBuilder
from luke_batch.training.corpus import Row
from luke_batch.training.encoder import EncoderConfig
from luke_batch.training.model import HeadSpec, MultiTaskModel
from luke_batch.training.outputs import (
    joint_relations_outputs,
    ner_outputs,
    relations_outputs,
    types_outputs,
)
from luke_batch.training.scoring import CalibratedHead, calibrated, labels_of
from luke_batch.training.span_scorer import LikelySpans
from recipes.batches import propose
from recipes.embedded_data import crossner_dev, ner_dev
from recipes.export import load_head_state
from recipes.joint_rows import found_mentions
from recipes.rows import read_rows

LEAST_PRECISION = 0.8
"""Of relations on dev."""
LEAST_TYPE = 0.15
"""Probability of a type that is written: of those below, outside of CrossNER, more are wrong than right."""
_RARE, _FEW = 0.1, 5
_ROWS = {"ner": 1500, "relations": 870}
"""Of dev: for minutes instead of a quarter of an hour."""


def load(folder: Path) -> tuple[MultiTaskModel, InputBuilder, LikelySpans]:
    """An exported model as training has it, its input builder, and its candidates."""
    manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    heads = manifest["heads"]
    specs = {
        "ner": HeadSpec("span", tuple(heads["ner"]["labels"]), none_label="NIL"),
        "types": HeadSpec("entity", tuple(heads["types"]["labels"]), joint=_is_joint(heads["types"])),
        "relations": HeadSpec(
            "pair", tuple(heads["relations"]["labels"]), multi_label=True, joint=_is_joint(heads["relations"])
        ),
    }
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    model = MultiTaskModel(EncoderConfig.from_luke(config), specs)
    model.encoder.load_state_dict(encoder_state(resolve(str(folder))))
    model.heads.load_state_dict(load_head_state(folder))
    builder = InputBuilder(Tokenizer.load(folder))
    table, _ = encoder_tables(resolve(str(folder)))
    state = load_file(folder / SCORER_FILE)
    net = SpanScorerNet(table.stored.shape[1], len(state["reduce.bias"]))
    net.load_state_dict(state)
    return (
        model.eval(),
        builder,
        LikelySpans(net.eval(), table, heads["spans"]["threshold"], builder, propose),
    )


def settled(folder: Path, data: Path) -> dict[str, CalibratedHead]:
    """The settings of each head."""
    model, builder, likely = load(folder)
    ner = _sample(ner_dev(data), _ROWS["ner"])
    types = crossner_dev(data, None, held_out=True)
    relations = _sample(read_rows([data / "relations/redocred/dev.parquet"], None), _ROWS["relations"])
    outputs = {"ner": ner_outputs(model, ner, builder, likely)}
    outputs["types"] = types_outputs(model, types, builder)
    if model.specs["relations"].joint:
        found = found_mentions(relations, str(folder))
        outputs["relations"] = joint_relations_outputs(model, relations, found, builder, _rules(folder, model))
    else:
        outputs["relations"] = relations_outputs(model, relations, builder)
    return {
        name: calibrated(
            found,
            model.specs[name],
            LEAST_PRECISION if name == "relations" else None,
            is_typing=name == "types",
        )
        for name, found in outputs.items()
    }


def coarse_of(rows: list[Row], found: list[list[tuple[int, int, str]]]) -> dict[str, list[str]]:
    """Labels of `ner` that each type goes with: those of a tenth or more of its mentions that `ner` finds, (start, end,
    label) in each row. A type of which few are found is not named: it goes with all.
    """
    seen: dict[str, Counter[str]] = defaultdict(Counter)
    for row, mentions in zip(rows, found, strict=True):
        labels = {(start, end): label for start, end, label in mentions}
        for item in row.entities:
            if item.label is not None and item.span in labels:
                seen[item.label][labels[item.span]] += 1
    return {
        name: sorted(label for label, count in counts.items() if count >= _RARE * counts.total())
        for name, counts in sorted(seen.items())
        if counts.total() >= _FEW
    }


def _is_joint(head: dict[str, Any]) -> bool:
    return head.get("input") == "joint"


def _rules(folder: Path, model: MultiTaskModel) -> Consistency | None:
    constraints = resolve(str(folder)).constraints
    return None if constraints is None else Consistency(labels_of(model.specs["relations"]), constraints)


def _sample(rows: list[Row], most: int) -> list[Row]:
    order = np.random.default_rng(0).permutation(len(rows))[:most]
    return [rows[place] for place in sorted(order.tolist())]


def main() -> None:
    """Fit, write, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True, help="exported folder")
    options = parser.parse_args()
    found = settled(options.model, options.data)
    path: Path = options.model / MANIFEST
    manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    for name, settings in found.items():
        manifest["heads"][name]["temperature"] = round(settings.temperature, 4)
        if settings.threshold is not None:
            manifest["heads"][name]["offsets"] = [round(value, 4) for value in settings.offsets]
            manifest["heads"][name]["threshold"] = round(settings.threshold, 4)
    manifest["heads"]["types"]["threshold"] = LEAST_TYPE
    rows = read_rows([options.data / "typing/crossner/train.parquet"], None)
    rows += crossner_dev(options.data, None, held_out=False)
    manifest["heads"]["types"]["coarse"] = coarse_of(rows, found_mentions(rows, str(options.model)))
    (options.model / "settled.json").write_text(
        json.dumps({name: asdict(settings) for name, settings in found.items()}, indent=1) + "\n",
        encoding="utf-8",
    )
    path.write_text(json.dumps(manifest, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
