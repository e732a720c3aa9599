"""Measures the entity head on linked dev mentions, and settles its calibration.

    python recipes/links.py --data DATA [--settle]

Prints, for the mentions of DATA/links/gum/dev.parquet whose title is in the embedded model's vocabulary: how
often the title wins against 29 others of its coarse type, without a prior; how often it wins among the
candidates of the alias table, by the prior alone and by model and prior; and the F1 of "no title" (NIL) over
all annotated mentions. Every figure of the second kind is of the job itself. With --settle the weight of the
prior, the temperature and the score of NIL are fitted on the documents of even number, shown on the others,
fitted on all, and written into the model's luke_batch.json.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.optimize import minimize

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from luke_batch.annotate.annotator import Annotator
from luke_batch.base.arrays import FloatArray
from luke_batch.config import JobConfig, ModelConfig
from luke_batch.heads.links import Options, Scale, candidate_ids
from luke_batch.heads.titles import Titles
from luke_batch.model.engine.engine import load_engine
from luke_batch.model.files.checkpoint import resolve
from luke_batch.model.files.facts import MANIFEST
from luke_batch.model.inputs.tokenizer import Tokenizer
from luke_batch.model.inputs.windows import InputBuilder
from luke_batch.model.task import Task
from luke_batch.text.names.aliases import load_aliases

NEGATIVES = 29
MENTION = pa.struct([("start", pa.int32()), ("end", pa.int32()), ("candidates", pa.list_(pa.string()))])
_NONE = np.empty(0, np.int32)


@dataclass(frozen=True, slots=True)
class Mention:
    """An annotated mention; `title` is None where it has no link."""

    row: int
    text: str
    start: int
    end: int
    title: str | None


@dataclass(frozen=True, slots=True)
class Scored:
    """The candidates of a mention with the model's logits; -1 where the right one is none of them."""

    document: str
    logits: FloatArray
    priors: FloatArray
    right: int


def read(file: Path) -> tuple[list[Mention], list[str]]:
    """All annotated mentions, linked or not, and the document of each row."""
    mentions: list[Mention] = []
    rows = pq.read_table(file).to_pylist()
    for number, row in enumerate(rows):
        titles = {(link["start"], link["end"]): link["title"] for link in row["links"] or []}
        spans = {(item["start"], item["end"]) for item in row["entities"] or []} | set(titles)
        mentions += [Mention(number, row["text"], *span, titles.get(span)) for span in sorted(spans)]
    return mentions, [row["doc_id"] for row in rows]


def kinds(file: Path) -> dict[str, str]:
    """The coarse type that most mentions of each title have in a file."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for row in pq.read_table(file, columns=["entities", "links"]).to_pylist():
        labels = {(item["start"], item["end"]): item["label"] for item in row["entities"] or []}
        for link in row["links"] or []:
            counts[link["title"]][labels.get((link["start"], link["end"]), "")] += 1
    return {title: count.most_common(1)[0][0] for title, count in counts.items()}


def linked(
    mentions: list[Mention],
    candidates: list[list[str] | None],
    head: dict[str, Any],
    model: str = "embedded",
) -> list[str | None]:
    """The title that the job gives to each mention."""
    texts = {mention.row: mention.text for mention in mentions}
    numbers = {row: number for number, row in enumerate(texts)}
    given: list[list[dict[str, Any]]] = [[] for _ in texts]
    for mention, titles in zip(mentions, candidates, strict=True):
        given[numbers[mention.row]].append({"start": mention.start, "end": mention.end, "candidates": titles})
    table = pa.table({"text": list(texts.values()), "given": pa.array(given, pa.list_(MENTION))})
    job = JobConfig.model_validate(
        {
            "input": {"mentions_column": "given"},
            "heads": [{"head": "links", "model": model, "spans": "given", **head}],
        }
    )
    annotated = Annotator.from_config(job).annotate(table)["mentions"].to_pylist()
    found = [{(item["start"], item["end"]): item["title"] for item in row} for row in annotated]
    return [found[numbers[mention.row]][mention.start, mention.end] for mention in mentions]


def against_negatives(
    mentions: list[Mention],
    known: dict[str, str],
    model: str = "embedded",
    excluded: Collection[str] = (),
) -> float:
    """Share of mentions whose title wins against `NEGATIVES` of its type, drawn with a fixed seed; `excluded`
    titles are none of these.
    """
    alike: dict[str, list[str]] = defaultdict(list)
    for title, kind in sorted(known.items()):
        if title not in excluded:
            alike[kind].append(title)
    rng = np.random.default_rng(0)
    candidates: list[list[str] | None] = []
    for mention in mentions:
        others = [title for title in alike[known[str(mention.title)]] if title != mention.title]
        drawn = rng.choice(others, min(NEGATIVES, len(others)), replace=False).tolist()
        candidates.append(rng.permutation([*drawn, str(mention.title)]).tolist())
    head = {"candidates": "given", "prior_weight": 0, "threshold": 0}
    found = linked(mentions, candidates, head, model)
    return float(np.mean([title == mention.title for title, mention in zip(found, mentions, strict=True)]))


def scored(mentions: list[Mention], documents: list[str]) -> list[Scored]:
    """The mentions that have candidates, each by itself in its text, with their logits."""
    checkpoint = resolve("embedded")
    tokenizer = Tokenizer.load(checkpoint.folder)
    builder, titles, table = InputBuilder(tokenizer), Titles.of(tokenizer, "en"), load_aliases("embedded")
    engine = load_engine(ModelConfig(), checkpoint, [Task.LINKS], "cpu")
    windows, options, kept = [], [], []
    for mention in mentions:
        found = table.candidates(mention.text[mention.start : mention.end], 30)
        ids = [titles.find(title) for title in found.titles]
        if not ids or None in ids:
            continue
        option = Options(found.titles, found.qids, [int(entity or 0) for entity in ids], found.priors)
        tokens = builder.tokenize(mention.text, np.array([[mention.start, mention.end]], np.int32))
        if len(tokens.ids) > builder.max_tokens - 2:
            continue
        mask = np.array([tokenizer.entity_mask_id], np.int32)
        windows.append(builder.entity_window(tokens, _NONE, _NONE, mask, candidate_ids([option])))
        options.append(option)
        kept.append(mention)
    answers = engine.run(Task.LINKS, windows)
    return [
        Scored(
            documents[mention.row],
            logits[0],
            option.priors,
            option.titles.index(mention.title) if mention.title in option.titles else -1,
        )
        for mention, option, logits in zip(kept, options, answers, strict=True)
    ]


def loss(parameters: FloatArray, items: list[Scored]) -> float:
    """Mean negative logarithm of the probability of what is right, "none of them" included."""
    scale = Scale(float(np.exp(parameters[0])), float(parameters[1]), float(parameters[2]), 0.0)
    total = 0.0
    for item in items:
        found = scale.probabilities(item.logits, item.priors)
        right = found[item.right] if item.right >= 0 else 1 - found.sum()
        total -= float(np.log(max(float(right), 1e-9)))
    # A weak pull towards the start: the items are few.
    return total / len(items) + 1e-3 * float(np.square(parameters - np.array([0, 1, 0])).sum())


def fitted(items: list[Scored]) -> Scale:
    """Temperature, weight of the prior and score of NIL of the least loss."""
    start = np.array([0.0, 1.0, 0.0])
    bounds = [(-2, 3), (0, 10), (-30, 30)]
    best = minimize(loss, start, args=(items,), method="Powell", bounds=bounds).x
    return Scale(round(float(np.exp(best[0])), 4), round(float(best[1]), 4), round(float(best[2]), 4), 0.0)


def accuracy(items: list[Scored], scale: Scale) -> float:
    """Share of mentions with the right title among the candidates for which it is the best."""
    found = [
        int(scale.probabilities(item.logits, item.priors).argmax()) == item.right for item in items if item.right >= 0
    ]
    return float(np.mean(found))


def settle(items: list[Scored]) -> None:
    """Fit on half of the documents, show what that gives on the other, fit on all and write."""
    names = sorted({item.document for item in items})
    first = set(names[::2])
    half, other = ([item for item in items if (item.document in first) is wanted] for wanted in (True, False))
    scale = fitted(half)
    parameters = np.array([np.log(scale.temperature), scale.prior_weight, scale.nil_score or 0.0])
    print(f"fitted on {len(half)}: {scale}; on {len(other)} others loss {loss(parameters, other):.3f},")
    print(f"  accuracy {100 * accuracy(other, scale):.1f}")
    scale = fitted(items)
    path = Path(__file__).resolve().parent.parent / "luke_batch/embedded/model" / MANIFEST
    manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    manifest["heads"]["links"] = {
        "temperature": scale.temperature,
        "prior_weight": scale.prior_weight,
        "nil_score": scale.nil_score,
    }
    path.write_text(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"written: {manifest['heads']['links']}")


def nil_f1(mentions: list[Mention], found: list[str | None], vocabulary: set[str]) -> float:
    """F1 of "no title", which is right for a mention without a link, or with one outside the vocabulary."""
    right = [mention.title not in vocabulary for mention in mentions]
    said = [title is None for title in found]
    hits = sum(a and b for a, b in zip(right, said, strict=True))
    return 2 * hits / max(1, sum(right) + sum(said))


def main() -> None:
    """Print the figures, and settle first where that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--file", default="dev.parquet", help="Of DATA/links/gum.")
    parser.add_argument("--settle", action="store_true")
    options = parser.parse_args()
    folder = options.data / "links/gum"
    mentions, documents = read(folder / options.file)
    vocabulary = {title for title in Tokenizer.load(resolve("embedded").folder).entity_vocab if title[0] != "["}
    if options.settle:
        settle(scored(mentions, documents))
    known = {title: kind for title, kind in kinds(folder / "train.parquet").items() if title in vocabulary}
    inside = [mention for mention in mentions if mention.title in known]
    print(f"mentions {len(mentions)}, linked {sum(m.title is not None for m in mentions)}, known {len(inside)}")
    print(f"title against {NEGATIVES} of its type, no prior: {100 * against_negatives(inside, known):.1f}")
    nothing: list[list[str] | None] = [None] * len(mentions)
    found = linked(mentions, nothing, {})
    table = load_aliases("embedded")
    by_prior = [next(iter(table.candidates(m.text[m.start : m.end], 1).titles), None) for m in mentions]
    for name, titles in (("prior alone", by_prior), ("model and prior", found)):
        right = [title == m.title for title, m in zip(titles, mentions, strict=True) if m.title in known]
        share, nil = 100 * float(np.mean(right)), 100 * nil_f1(mentions, titles, set(known))
        print(f"{name}: {share:.1f} of all known, NIL F1 {nil:.1f}")


if __name__ == "__main__":
    main()
