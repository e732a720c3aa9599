"""The figures of the model card: each head on samples of the dev files, within a time limit."""

from __future__ import annotations

import logging
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from luke_batch.model.windows import InputBuilder
from luke_batch.training.data import Row, read_rows
from luke_batch.training.model import MultiTaskModel
from luke_batch.training.pairs import RelationsTask, pairs_of
from luke_batch.training.predict import best_threshold, f1, logits_of, mentions
from luke_batch.training.sampling import Example
from luke_batch.training.tasks import Proposer, TypesTask
from recipes.card import Scores
from recipes.embedded_data import NER_LABELS, fewrel_pairs, without_handles

log = logging.getLogger(__name__)

MAX_WORDS = 8
HEAD_SETTINGS: dict[str, dict[str, Any]] = {
    "ner": {"max_words": MAX_WORDS},
    "types": {},
    "relations": {"threshold": 0.5},
}

_NER_SETS = (
    ("ner/open_ner_en/dev.parquet", "uner_en_ewt"),
    ("ner/open_ner_en/dev.parquet", "wikigold"),
    ("ner/open_ner_en/dev.parquet", "gum"),
    ("ner/open_ner_en/dev.parquet", "wnut17"),
    ("ner/open_ner_en/dev.parquet", "btc"),
    *(
        ("ner/uner/dev.parquet", f"uner_{name}")
        for name in (
            "pt_bosque",
            "sv_talbanken",
            "da_ddt",
            "hr_set",
            "sr_set",
            "sk_snk",
            "zh_gsd",
            "zh_gsdsimp",
        )
    ),
)


class _Measurement:
    """Takes the figures one by one until the time is spent."""

    def __init__(self, model: MultiTaskModel, data: Path, builder: InputBuilder, propose: Proposer) -> None:
        self.model = model
        self.data = data
        self.builder = builder
        self.propose = propose
        self.scores: Scores = {}
        self.skipped: Counter[str] = Counter()

    def _rows(self, file: str, source: str, most: int) -> list[Row]:
        rows = read_rows([self.data / file], self.skipped)
        chosen = [row for row in rows if row.source.startswith(source)]
        order = np.random.default_rng(0).permutation(len(chosen))[:most]
        return [chosen[place] for place in sorted(order.tolist())]

    def _logits(self, name: str, examples: list[Example]) -> list[Any]:
        return logits_of(self.model, name, examples, self.builder.tokenizer.pad_id)

    def ner(self, file: str, source: str, most: int) -> None:
        """F1 of one set."""
        rows = [without_handles(row) for row in self._rows(file, source, most)]
        found = mentions(self.model, rows, self.builder, self.propose)
        gold = [{(e.start, e.end, e.label) for e in row.entities if e.label in NER_LABELS} for row in rows]
        unsure = [{(e.start, e.end) for e in row.entities if e.label is None} for row in rows]
        kept = [
            {item for item in items if item[:2] not in skip}
            for items, skip in zip(found, unsure, strict=True)
        ]
        precision, recall, both = f1(gold, kept)  # type: ignore[arg-type]  # labels of None were left out
        self.scores[f"NER F1, {source} ({len(rows)} sentences)"] = (
            f"{both:.1f} (P {precision:.1f}, R {recall:.1f})"
        )

    def types(self, most: int) -> None:
        """Accuracy of the best type at gold mentions."""
        rows = self._rows("typing/crossner/dev.parquet", "crossner", most)
        task = TypesTask(rows, self.model.specs["types"].labels, self.builder, self.skipped, max_tokens=510)
        drawn = [task.example(row, place) for row in rows for place in range(len(row.entities))]
        examples = [example for example in drawn if example is not None]
        right = [
            values[0].argmax() == example.targets[0]
            for example, values in zip(examples, self._logits("types", examples), strict=True)
        ]
        self.scores[f"types, accuracy at {len(right)} gold mentions, CrossNER"] = (
            f"{100 * np.mean(right):.1f}"
        )

    def fewrel(self, most: int) -> None:
        """Accuracy of the best of the sixteen relations on the given pair."""
        rows = self._rows("relations/fewrel_wiki/dev.parquet", "fewrel", most)
        known = frozenset(item.label for row in rows for item in row.relations)
        labels = self.model.specs["relations"].labels
        task = RelationsTask(fewrel_pairs(rows, known), labels, self.builder, self.skipped, max_tokens=510)
        examples = [item for pair in fewrel_pairs(rows, known) if (item := task.example(pair)) is not None]
        among = np.array([label in known for label in labels])
        right = [
            np.where(among, values, -np.inf).argmax() == example.targets.argmax()
            for example, values in zip(examples, self._logits("relations", examples), strict=True)
        ]
        self.scores[f"relations, best of {among.sum()} on {len(right)} given pairs, FewRel"] = (
            f"{100 * np.mean(right):.1f}"
        )

    def redocred(self, most: int) -> float:
        """Micro F1 over all pairs of a sentence, at the threshold that is best; returns the threshold."""
        rows = self._rows("relations/redocred/dev.parquet", "redocred", most)
        pairs = [pair for row in rows for pair in pairs_of(row)]
        labels = self.model.specs["relations"].labels
        task = RelationsTask(pairs, labels, self.builder, self.skipped, max_tokens=510)
        examples = [item for pair in pairs if (item := task.example(pair)) is not None]
        logits = np.stack(self._logits("relations", examples))
        gold = np.stack([example.targets for example in examples]) > 0
        threshold, precision, recall, both = best_threshold(
            (1 / (1 + np.exp(-logits))).astype(np.float32), gold
        )
        what = f"relations, micro F1 over all {len(pairs)} pairs of {len(rows)} sentences, Re-DocRED"
        where = f"at threshold {threshold:.3f}, chosen on the same pairs"
        self.scores[what] = f"{both:.1f} (P {precision:.1f}, R {recall:.1f}) {where}"
        return threshold


def measure(
    model: MultiTaskModel, data: Path, builder: InputBuilder, propose: Proposer, seconds: float
) -> tuple[Scores, dict[str, dict[str, Any]]]:
    """All figures that fit into the time, the threshold first, and the heads' settings with it."""
    end = time.monotonic() + seconds
    taken = _Measurement(model, data, builder, propose)
    settings = {name: dict(values) for name, values in HEAD_SETTINGS.items()}
    settings["relations"]["threshold"] = round(taken.redocred(300), 4)
    taken.types(150)
    taken.fewrel(400)
    for file, source in _NER_SETS:
        if time.monotonic() < end:
            taken.ner(file, source, 150)
    for name, value in taken.scores.items():
        log.info("dev: %s: %s", name, value)
    return taken.scores, settings
