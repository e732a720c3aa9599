"""Gives a trained and settled model an entity vocabulary: titles, their rows, and the head that finds them.

    python recipes/entities.py --data DATA --model OUT/trained

The titles are those of the linked training data and of corpus_titles.tsv beside this file (surfaces in the
English documents of `luke-batch demo` and what they mean). Each title is learnt from its mentions and from
its own name. The encoder and its other heads stay as they are.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from luke_batch.annotate.annotator import Annotator
from luke_batch.config import JobConfig
from luke_batch.model.files.checkpoint import resolve
from luke_batch.model.files.weights import encoder_tables
from luke_batch.training.corpus import Row
from luke_batch.training.start import ENTITY_VOCABULARY
from recipes.build_corpus import documents
from recipes.entity_head import EntityHeadConfig, train
from recipes.export import add_entities
from recipes.links import NEGATIVES, kinds
from recipes.rows import read_linked

MASK = ENTITY_VOCABULARY["[MASK]"]
_QUALIFIER = re.compile(r" \(.*\)$|, .*$")
"""What tells a title from others of its name: "(film)", ", Ohio"."""


@dataclass(frozen=True, slots=True)
class Mention:
    """A mention with its title: `text[start:end]`."""

    text: str
    start: int
    end: int
    title: str


def linked(rows: Iterable[Row]) -> list[Mention]:
    """The linked mentions of rows, whose labels are titles."""
    return [
        Mention(row.text, item.start, item.end, item.label)
        for row in rows
        for item in row.entities
        if item.label is not None
    ]


def corpus_mentions() -> Iterator[Mention]:
    """Where the documents of the demo name what corpus_titles.tsv knows."""
    lines = (Path(__file__).parent / "corpus_titles.tsv").read_text(encoding="utf-8").splitlines()
    texts = [item["text"] for item in documents() if item["lang"] == "en"]
    for surface, title in (line.split("\t") for line in lines):
        for text in texts:
            for found in re.finditer(rf"\b{re.escape(surface)}\b", text):
                yield Mention(text, *found.span(), title)


def names(titles: Iterable[str]) -> Iterator[Mention]:
    """Each title's name, alone."""
    for title in titles:
        name = _QUALIFIER.sub("", title)
        yield Mention(name, 0, len(name), title)


def states(mentions: list[Mention], model: str) -> Tensor:
    """(n, width) vectors of the mentions, those of one text together in its windows."""
    spans: dict[str, list[int]] = defaultdict(list)
    for number, mention in enumerate(mentions):
        spans[mention.text].append(number)
    kind = pa.list_(pa.struct([("start", pa.int32()), ("end", pa.int32())]))
    given = [[{"start": mentions[n].start, "end": mentions[n].end} for n in numbers] for numbers in spans.values()]
    table = pa.table({"text": list(spans), "given": pa.array(given, kind)})
    job = JobConfig.model_validate(
        {
            "input": {"mentions_column": "given"},
            "models": {"main": {"path": model}},
            "heads": [{"head": "embeddings", "spans": "given", "of": "mentions"}],
        }
    )
    found = torch.zeros(len(mentions), 0)
    for numbers, row in zip(spans.values(), Annotator.from_config(job).annotate(table).to_pylist(), strict=True):
        places = {(item["start"], item["end"]): place for place, item in enumerate(row["mentions"])}
        for number in numbers:
            vector = row["mention_embeddings"][places[mentions[number].start, mentions[number].end]]
            if not found.shape[1]:
                found = torch.zeros(len(mentions), len(vector))
            found[number] = torch.tensor(vector)
    return found


def accuracy(head: torch.nn.Module, rows: Tensor, seen: Tensor, titles: Tensor, kinds: list[str]) -> float:
    """Percent of mentions whose title scores above `NEGATIVES` others of its kind, drawn with a seed."""
    rng = np.random.default_rng(0)
    alike = np.array(kinds)
    right = 0
    with torch.inference_mode():
        logits = head(seen, rows)
    for scores, title in zip(logits, titles.tolist(), strict=True):
        others = np.setdiff1d(np.flatnonzero(alike == alike[title]), [title])
        drawn = torch.from_numpy(rng.choice(others, min(NEGATIVES, len(others)), replace=False))
        right += bool(scores[title] > scores[drawn].max())
    return 100 * right / len(titles)


def main() -> None:
    """Add the entities to the model's folder and print how well its dev mentions are told apart."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    options = parser.parse_args()
    folder = options.data / "links/gum"
    mentions = linked(read_linked([folder / "train.parquet"], Counter())) + list(corpus_mentions())
    titles = sorted({mention.title for mention in mentions})
    mentions += names(titles)
    number = {title: place for place, title in enumerate(titles)}
    model = str(options.model)
    mask = encoder_tables(resolve(model))[1].rows(torch.tensor([MASK]))[0]
    wanted = torch.tensor([number[mention.title] for mention in mentions])
    head, added = train(states(mentions, model), wanted, len(titles), EntityHeadConfig())
    dev = [item for item in linked(read_linked([folder / "dev.parquet"], Counter())) if item.title in number]
    known = torch.tensor([number[mention.title] for mention in dev])
    coarse = kinds(folder / "train.parquet")
    types = [coarse.get(title, "") for title in titles]
    figure = accuracy(head, added, states(dev, model), known, types)
    add_entities(options.model, titles, mask + added, head.state_dict())
    found = {"titles": len(titles), "dev_mentions": len(dev), "accuracy_of_30": round(figure, 1)}
    (options.model / "entities.json").write_text(json.dumps(found) + "\n", encoding="utf-8")
    print(found)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
