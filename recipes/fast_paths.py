"""What `spans: auto` and bfloat16 change in NER on the dev sets, against every span in float32.

    python recipes/fast_paths.py --data DATA --model MODEL --out OUT [--rows 150] [--skip 0]

Of each set and of all together: F1 of each way, the share of the mentions of `spans: all` that `spans: auto`
finds, and the share of labels on which bfloat16 agrees with float32, for the spans that both look at. The
last line names the set in which `spans: auto` finds the least. OUT/fast_paths.json has the figures of all.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Collection
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from luke_batch.annotate.agreement import ComparedEngine, Found
from luke_batch.annotate.annotator import Annotator, ModelStage, model_stages
from luke_batch.annotate.preparation import Preparation
from luke_batch.config import JobConfig, ModelConfig
from luke_batch.evaluation.evaluate import evaluate
from luke_batch.model.engine.engine import Engine, load_engine
from luke_batch.model.files.checkpoint import Checkpoint
from luke_batch.model.task import Task
from recipes.measure import dev_sets, rows_of

_WAYS = {"all": ("all", "float32"), "auto": ("auto", "float32"), "half": ("auto", "bfloat16")}


def job(model: str, spans: str, precision: str) -> JobConfig:
    """NER alone."""
    return JobConfig.model_validate(
        {
            "input": {"lang_column": "lang"},
            "models": {"main": {"path": model, "precision": precision}},
            "heads": [{"head": "ner", "spans": spans}],
        }
    )


def agreement(model: str, rows: pa.Table) -> tuple[int, int]:
    """Labels that float32 and bfloat16 give to the same spans, and how many of them are the same."""
    config = job(model, "auto", "float32")
    found: Found = {}

    def both(own: ModelConfig, checkpoint: Checkpoint, tasks: Collection[Task], device: str) -> Engine:
        half = own.model_copy(update={"precision": "bfloat16"})
        exact, other = (load_engine(one, checkpoint, tasks, device) for one in (own, half))
        return ComparedEngine(exact, other, checkpoint, found)

    ModelStage(config, model_stages(config)[0], "cpu", both)(Preparation(config)(rows))
    return found[Task.NER].compared, found[Task.NER].agreeing


def mentions(annotated: pa.Table) -> Counter[tuple[str, int, int, str]]:
    """Every mention of every document."""
    return Counter(
        (row["id"], mention["start"], mention["end"], mention["label"])
        for row in annotated.select(["id", "mentions"]).to_pylist()
        for mention in row["mentions"] or []
    )


def f1(rows: pa.Table, annotated: pa.Table, out: Path) -> float:
    """In percent."""
    pq.write_table(rows, out / "gold.parquet")
    pq.write_table(annotated, out / "annotated.parquet")
    scores = evaluate(str(out / "gold.parquet"), str(out / "annotated.parquet"), "ner", resamples=0).scores
    return 100 * scores.micro.f1


def main() -> None:
    """Print a line for each set, and one for all of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=150, help="most rows of a set")
    parser.add_argument("--skip", type=int, default=0, help="rows of each set to leave out before them")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    annotators = {way: Annotator.from_config(job(options.model, *settings)) for way, settings in _WAYS.items()}
    every: dict[str, list[pa.Table]] = {"rows": [], **{way: [] for way in _WAYS}}
    labels = same = 0
    shares: dict[str, float] = {}
    seen: set[str] = set()  # the names of sources begin alike
    for dev in dev_sets(options.rows):
        if dev.task != "ner":
            continue
        rows = rows_of(options.data, dev, options.skip).select(["id", "lang", "source", "text", "entities"])
        rows = rows.filter(pa.array([name not in seen for name in rows["id"].to_pylist()]))
        seen.update(rows["id"].to_pylist())
        if not rows.num_rows:
            continue
        found = {way: annotator.annotate(rows) for way, annotator in annotators.items()}
        compared, agreeing = agreement(options.model, rows)
        labels, same = labels + compared, same + agreeing
        every["rows"].append(rows)
        shares[dev.name] = share(found)
        for way, table in found.items():
            every[way].append(table)
        print(f"{dev.name}: {line(rows, found, options.out)}, labels {agreeing / compared:.2%}", flush=True)
    pooled = {way: pa.concat_tables(tables) for way, tables in every.items()}
    rows = pooled.pop("rows")
    print(f"all sets: {line(rows, pooled, options.out)}, labels {same / labels:.3%} of {labels}")
    weakest = min(shares, key=shares.__getitem__)
    print(f"weakest set: {weakest}, {shares[weakest]:.2%}")
    figures: dict[str, object] = {
        "rows": rows.num_rows,
        "f1": {way: f1(rows, table, options.out) for way, table in pooled.items()},
        "share": share(pooled),
        "weakest": {"set": weakest, "share": shares[weakest]},
    }
    (options.out / "fast_paths.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def share(found: dict[str, pa.Table]) -> float:
    """Of the mentions of `all`, those that `auto` has."""
    exact = mentions(found["all"])
    return (exact & mentions(found["auto"])).total() / max(1, exact.total())


def line(rows: pa.Table, found: dict[str, pa.Table], out: Path) -> str:
    """F1 of each way, and the share of the mentions of `all` that `auto` has."""
    scores = ", ".join(f"{way} {f1(rows, table, out):.2f}" for way, table in found.items())
    return f"F1 {scores}; of {mentions(found['all']).total()} mentions {share(found):.2%}"


if __name__ == "__main__":
    main()
