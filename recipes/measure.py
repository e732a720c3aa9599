"""The dev figures of the model card: each set is annotated and evaluated as a user would do it.

    python recipes/measure.py --data DATA --model MODEL --out OUT [--only ner|types|fewrel|redocred|identity]

DATA is the folder that README.md describes. OUT gets the annotated sets and, for each, the JSON of
`luke-batch evaluate`; sets that are there already are not measured again.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from luke_batch.annotate.annotator import Annotator
from luke_batch.config import JobConfig
from luke_batch.evaluation.evaluate import evaluate
from luke_batch.evaluation.tables import Task
from recipes.embedded_data import is_held_out
from recipes.identity_recall import identity_recall
from recipes.letters import FORMS

MORE = ("ar", "de", "en", "es", "fr", "hi", "it", "ja", "nb", "nn", "ru", "sv")
OTHER_LETTERS = ("ner-wikigold", "ner-gum", "ner-more_de")
"""Sets that are measured all in lower and all in upper case, too."""
UNER = ("pt_bosque", "sv_talbanken", "da_ddt", "hr_set", "sr_set", "sk_snk", "zh_gsd", "zh_gsdsimp")
_GIVEN = {"mentions_column": "entities", "lang_column": "lang"}


@dataclass(frozen=True)
class DevSet:
    """Rows of a dev file, what is asked of them, and how it is scored."""

    name: str
    file: str
    source: str
    """What the column `source` begins with."""
    task: Task
    heads: list[dict[str, Any]]
    input: dict[str, str] = field(default_factory=lambda: {"lang_column": "lang"})
    most: int = 10_000
    """Rows that are measured, drawn with a fixed seed."""
    letters: str = ""
    """`lower` or `upper`: the letters of all texts."""


def dev_sets(most: int) -> list[DevSet]:
    """All sets; of a NER set at most `most` rows."""
    english = ("uner_en_ewt", "wikigold", "gum", "wnut17", "btc")
    files = [("ner/open_ner_en/dev.parquet", name) for name in english]
    files += [("ner/uner/dev.parquet", f"uner_{name}") for name in UNER]
    ner: list[dict[str, Any]] = [{"head": "ner"}]
    found = [DevSet(f"ner-{source}", file, source, "ner", ner, most=most) for file, source in files]
    found += [DevSet(f"ner-more_{lang}", f"ner_more/dev/{lang}.parquet", "", "ner", ner, most=most) for lang in MORE]
    changed = [each for each in found if each.name in OTHER_LETTERS]
    found += [
        replace(each, name=f"{each.name}-{letters}", letters=letters)
        for each in changed
        for letters in ("lower", "upper")
    ]
    types: list[dict[str, Any]] = [{"head": "types", "spans": "given"}]
    found.append(DevSet("types", "typing/crossner/dev.parquet", "", "types", types, _GIVEN))
    # Every label gets a score, so that the best of the sixteen is known for each pair.
    given: list[dict[str, Any]] = [{"head": "relations", "pairs": "given", "threshold": 1e-6, "consistent": False}]
    pairs = {**_GIVEN, "relations_column": "relations"}
    found.append(DevSet("fewrel", "relations/fewrel_wiki/dev.parquet", "", "relations", given, pairs))
    every: list[dict[str, Any]] = [{"head": "relations", "spans": "given", "max_pairs": 2000}]
    found.append(DevSet("redocred", "relations/redocred/dev.parquet", "", "relations", every, _GIVEN))
    return found


def rows_of(data: Path, dev: DevSet, skip: int = 0) -> pa.Table:
    """The rows of a set; `skip`: those that come after so many in the order of drawing."""
    table = pq.read_table(data / dev.file)
    table = table.filter(pa.array([name.startswith(dev.source) for name in table["source"].to_pylist()]))
    if dev.task == "types":
        table = table.filter(pa.array([is_held_out(name) for name in table["id"].to_pylist()]))
    order = np.random.default_rng(0).permutation(table.num_rows)[skip : skip + dev.most]
    table = table.take(pa.array(np.sort(order)))
    if dev.letters:
        texts = [FORMS[dev.letters](text) for text in table["text"].to_pylist()]
        table = table.set_column(table.schema.get_field_index("text"), "text", pa.array(texts))
    return table


def measure(data: Path, model: str, out: Path, dev: DevSet) -> dict[str, Any]:
    """Annotate one set into `out` and evaluate it."""
    result = out / f"{dev.name}.json"
    if result.exists():
        return json.loads(result.read_text(encoding="utf-8"))
    gold, annotated = out / f"{dev.name}-gold.parquet", out / f"{dev.name}.parquet"
    rows = rows_of(data, dev)
    pq.write_table(rows, gold)
    job = JobConfig.model_validate({"input": dev.input, "models": {"main": {"path": model}}, "heads": dev.heads})
    pq.write_table(Annotator.from_config(job).annotate(rows), annotated)
    figures = evaluate(str(gold), str(annotated), dev.task).to_dict()
    result.write_text(json.dumps(figures, ensure_ascii=False) + "\n", encoding="utf-8")
    return figures


def main() -> None:
    """Measure what is asked for, and print a line for each set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", nargs="*", default=[], help="beginnings of names of sets")
    parser.add_argument("--rows", type=int, default=500, help="most rows of a NER set")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    for dev in dev_sets(options.rows):
        if not options.only or dev.name.startswith(tuple(options.only)):
            figures = measure(options.data, options.model, options.out, dev)
            micro = {name: round(100 * value, 1) for name, value in figures["micro"].items() if name != "support"}
            accuracy, error = figures["accuracy"], figures["calibration_error"]
            shown = "" if accuracy is None else f" accuracy {100 * accuracy:.1f}"
            print(f"{dev.name}: {micro}{shown} calibration error {error:.3f} {figures['documents']}", flush=True)
    if not options.only or "identity" in options.only:
        found = identity_recall(options.data / "links/gum/dev.parquet", options.model)
        (options.out / "identity.json").write_text(json.dumps(found) + "\n", encoding="utf-8")
        print(f"identity: {found}")


if __name__ == "__main__":
    main()
