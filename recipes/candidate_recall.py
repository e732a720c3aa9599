"""Of the gold spans of every NER dev set, those that `spans: auto` proposes and the span scorer leaves.

python recipes/candidate_recall.py --data DATA --model OUT/trained --out FIGURES
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from recipes.embedded_data import ner_dev
from recipes.settle import load


def candidate_recall(data: Path, model: Path) -> dict[str, dict[str, float]]:
    """Of each set the percent of gold spans among the candidates, the gold spans, candidates a sentence."""
    _, _, likely = load(model)
    gold: dict[str, int] = defaultdict(int)
    found: dict[str, int] = defaultdict(int)
    candidates: dict[str, int] = defaultdict(int)
    sentences: dict[str, int] = defaultdict(int)
    for row in ner_dev(data):
        spans = set(map(tuple, likely(row).tolist()))
        known = [(item.start, item.end) for item in row.entities if item.label is not None]
        gold[row.source] += len(known)
        found[row.source] += sum(span in spans for span in known)
        candidates[row.source] += len(spans)
        sentences[row.source] += 1
    return {
        name: {
            "recall": round(100 * found[name] / count, 1),
            "gold": count,
            "candidates_a_sentence": round(candidates[name] / sentences[name], 1),
        }
        for name, count in sorted(gold.items())
        if count
    }


def main() -> None:
    """Write candidates.json beside the other figures, and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = candidate_recall(options.data, options.model)
    (options.out / "candidates.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    for name, figures in found.items():
        print(f"{name}: {figures}")


if __name__ == "__main__":
    main()
