"""Gives a folder with marked relations a pair scorer, for `pairs: auto`: which pairs are worth a window of their own.

    python recipes/pair_scorer.py --data DATA --model OUT/trained

It is a joint head `pairs` with one label, trained on the encoder's frozen states of Re-DocRED's mentions, all of a
sentence in one window. Its threshold keeps the share below of the relations that the model itself writes with
`pairs: all` between the mentions of the dev sentences. How many pairs that leaves depends on what the states know.
Those of the embedded model before joint heads know who a mention is, and little of what is said of it: 90% of dev's
pairs keep 99% (83% keep 98%, but 95% of the relations of the demo's documents), which does not pay. Of an encoder that
was trained on relations jointly, 64% of the pairs hold 98% of the right relations.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from luke_batch.annotate.annotator import Annotator
from luke_batch.base.arrays import FloatArray, IntArray
from luke_batch.config import JobConfig
from luke_batch.model.files.checkpoint import HEADS_FILE, resolve
from luke_batch.model.files.facts import MANIFEST, PAIR_SCORER
from luke_batch.model.files.weights import encoder_state
from luke_batch.model.inputs.tokenizer import Tokenizer
from luke_batch.model.inputs.windows import InputBuilder
from luke_batch.training.corpus import Row
from luke_batch.training.encoder import EncoderConfig
from luke_batch.training.model import HeadSpec, MultiTaskModel, PairHead
from luke_batch.training.outputs import joint_logits
from recipes.rows import read_rows

KEPT = 0.99
"""Of the relations of `pairs: all` on dev."""
_NAMED = frozenset({"PER", "ORG", "LOC", "MISC"})
_WIDTH, _ROUNDS, _BATCH, _RATE = 64, 12, 64, 1e-3

States = list[tuple[Row, IntArray, FloatArray]]
"""Rows with their mentions, (n, 2), and the states of these, (n, hidden)."""


def states(folder: Path, rows: Sequence[Row]) -> States:
    """One window a row."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    model = MultiTaskModel(EncoderConfig.from_luke(config), {PAIR_SCORER: HeadSpec("vector", ())})
    model.encoder.load_state_dict(encoder_state(resolve(str(folder))))
    return list(joint_logits(model.eval(), PAIR_SCORER, rows, InputBuilder(Tokenizer.load(folder))))


def named(rows: Sequence[Row]) -> list[Row]:
    """The rows without numbers and times, which `ner` does not find."""
    found: list[Row] = []
    for row in rows:
        places = [number for number, item in enumerate(row.entities) if item.label in _NAMED]
        new = {old: number for number, old in enumerate(places)}
        relations = tuple(
            type(item)(new[item.head], new[item.tail], item.label)
            for item in row.relations
            if item.head in new and item.tail in new
        )
        entities = tuple(row.entities[place] for place in places)
        found.append(Row(row.id, row.lang, row.source, row.text, entities, relations, row.doc_id))
    return found


def related(row: Row, spans: IntArray) -> Tensor:
    """(n, n) 1 where head and tail have a relation, 0 where none, NaN where they overlap."""
    places = {(start, end): number for number, (start, end) in enumerate(spans.tolist())}
    starts, ends = spans.T
    apart = np.maximum(starts[:, None], starts) >= np.minimum(ends[:, None], ends)
    found = np.where(apart, 0, np.nan)
    for item in row.relations:
        head, tail = places.get(row.entities[item.head].span), places.get(row.entities[item.tail].span)
        if head is not None and tail is not None and apart[head, tail]:
            found[head, tail] = 1
    return torch.tensor(found, dtype=torch.float32)


def train(shown: States) -> PairHead:
    """The head, by cross-entropy over the pairs of sentences in random order."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    examples = [(torch.tensor(values)[None], related(row, spans)) for row, spans, values in shown if len(spans) > 1]
    net = PairHead(examples[0][0].shape[-1], 1, _WIDTH)
    optimizer = torch.optim.AdamW(net.parameters(), lr=_RATE, weight_decay=0.01)
    for _ in range(_ROUNDS):
        for batch in np.array_split(rng.permutation(len(examples)), max(1, len(examples) // _BATCH)):
            losses: list[Tensor] = []
            for number in batch.tolist():
                values, targets = examples[number]
                known = ~targets.isnan()
                logits = net(functional.dropout(values, 0.2))[0, ..., 0]
                losses.append(
                    functional.binary_cross_entropy_with_logits(logits[known], targets[known], reduction="sum")
                )
            optimizer.zero_grad()
            (torch.stack(losses).sum() / len(batch)).backward()  # pyright: ignore[reportUnknownMemberType]
            optimizer.step()
    return net.eval()


def written(folder: Path, rows: Sequence[Row]) -> list[set[tuple[tuple[int, int], tuple[int, int]]]]:
    """The pairs of spans of each row between which the model writes a relation with `pairs: all`."""
    job = JobConfig.model_validate(
        {
            "input": {"mentions_column": "given"},
            "models": {"main": {"path": str(folder)}},
            "heads": [{"head": "relations", "spans": "given", "pairs": "all", "max_pairs": 2000}],
        }
    )
    given = [[{"start": item.start, "end": item.end, "label": item.label} for item in row.entities] for row in rows]
    table = pa.table({"id": [row.id for row in rows], "text": [row.text for row in rows], "given": given})
    found: list[set[tuple[tuple[int, int], tuple[int, int]]]] = []
    for row in Annotator.from_config(job).annotate(table).to_pylist():
        spans = [(item["start"], item["end"]) for item in row["mentions"] or []]
        found.append({(spans[item["head"]], spans[item["tail"]]) for item in row["relations"] or []})
    return found


def least(net: PairHead, shown: States, pairs: Sequence[set[Any]]) -> tuple[float, float]:
    """The probability that keeps the share KEPT of the pairs; and the share of all pairs that reach it."""
    right: list[float] = []
    every: list[float] = []
    with torch.inference_mode():
        for (_, spans, values), wanted in zip(shown, pairs, strict=True):
            if len(spans) < 2:
                continue
            scores = torch.sigmoid(net(torch.tensor(values)[None])[0, ..., 0]).tolist()
            places = [(start, end) for start, end in spans.tolist()]
            for head, one in enumerate(places):
                for tail, two in enumerate(places):
                    if max(one[0], two[0]) >= min(one[1], two[1]):
                        every.append(scores[head][tail])
                        if (one, two) in wanted:
                            right.append(scores[head][tail])
    bound = float(np.clip(np.quantile(right, 1 - KEPT, method="lower"), 1e-6, 1 - 1e-6))
    return bound, float(np.mean(np.array(every) >= bound))


def main() -> None:
    """Train, find the threshold, add both to the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True, help="exported folder with marked relations")
    options = parser.parse_args()
    torch.set_num_threads(1)
    folder: Path = options.model
    rows, dev = (
        named(read_rows([options.data / f"relations/redocred/{part}.parquet"], None)) for part in ("train", "dev")
    )
    net = train(states(folder, rows))
    bound, share = least(net, states(folder, dev), written(folder, dev))
    heads = {f"{PAIR_SCORER}.{name}": item.detach().clone() for name, item in net.state_dict().items()}
    save_file({**load_file(folder / HEADS_FILE), **heads}, folder / HEADS_FILE)
    path = folder / MANIFEST
    manifest = json.loads(path.read_text(encoding="utf-8"))
    manifest["heads"][PAIR_SCORER] = {
        "labels": ["related"],
        "multi_label": True,
        "input": "joint",
        "threshold": round(bound * 0.999, 6),
    }
    path.write_text(json.dumps(manifest, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    print(f"threshold {bound:.4f}: {100 * share:.1f}% of the pairs of dev keep {100 * KEPT:.0f}% of its relations")


if __name__ == "__main__":
    main()
