"""Measures how well titles are told apart whose rows were not trained but added.

    python recipes/added_entities.py --data DATA

`HELD` titles of the embedded model, those with mentions in both parts of GUM and then others by a fixed seed,
are taken out of its vocabulary and added again: from their mentions in DATA/links/gum/train.parquet, or from
one synthetic sentence that names their coarse type. Prints how often the title of their dev mentions wins
against 29 others of its type with trained rows, without a prior: for rows as `entities.placement` makes them,
for two other closed forms, and for the trained rows.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from luke_batch.base.arrays import FloatArray
from luke_batch.model.files.checkpoint import resolve
from luke_batch.model.inputs.tokenizer import Tokenizer
from luke_batch.model.writing.added_entities import EntitySpace, NewEntities, write_with
from luke_batch.titles.add import KNOWN, known_vectors, placed
from luke_batch.titles.mentions import TitleMentions, of_descriptions, read_mentions
from luke_batch.titles.placement import Placement
from luke_batch.titles.vectors import MeanVectors, MentionReader
from recipes.links import Mention, against_negatives, kinds, read

HELD = 150
RIDGE = 100.0
WORDS = {"PER": "person", "ORG": "organization", "LOC": "place"}
"""For the synthetic descriptions."""

Rows = Callable[[FloatArray], FloatArray]


def drawn(mentions: list[Mention], known: dict[str, str]) -> list[str]:
    """The titles that are taken out, sorted."""
    first = sorted({str(mention.title) for mention in mentions if mention.title in known})
    others = np.random.default_rng(0).permutation(sorted(set(known) - set(first)))
    return sorted([*first, *others.tolist()][:HELD])


def reduced(folder: Path, held: list[str]) -> Path:
    """A copy of the embedded model whose vocabulary lacks the titles."""
    shutil.copytree(resolve("embedded").folder, folder)
    file = folder / "entity_vocab.json"
    vocabulary = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps({t: n for t, n in vocabulary.items() if t not in held}), encoding="utf-8")
    return folder


def ridge(vectors: FloatArray, rows: FloatArray) -> Rows:
    """A regression from z to rows."""
    centre, middle = vectors.mean(0), rows.mean(0)
    seen, wanted = vectors - centre, rows - middle
    weights: FloatArray = np.linalg.solve(seen.T @ seen + RIDGE * np.eye(seen.shape[1]), seen.T @ wanted)

    def place(new: FloatArray) -> FloatArray:
        placed: FloatArray = (middle + (new - centre) @ weights).astype(np.float32)
        return placed

    return place


def least_squares(vectors: FloatArray, rows: FloatArray) -> Rows:
    """The stretch of the least squared error."""
    centre, middle = vectors.mean(0), rows.mean(0)
    stretch = float(((vectors - centre) * (rows - middle)).sum() / np.square(vectors - centre).sum())
    return lambda new: (middle + stretch * (new - centre)).astype(np.float32)


def described(held: list[str], known: dict[str, str]) -> TitleMentions:
    """One sentence for each title: its name and its type."""
    sentences = [f"{title.split(' (')[0]} is a well-known {WORDS.get(known[title], 'thing')}." for title in held]
    return of_descriptions(pa.array(held, pa.large_string()), pa.array(sentences, pa.large_string()), Counter())


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    options = parser.parse_args()
    folder = options.data / "links/gum"
    dev, _ = read(folder / "dev.parquet")
    full = Tokenizer.load(resolve("embedded").folder).entity_vocab
    known = {title: kind for title, kind in kinds(folder / "train.parquet").items() if title in full}
    held = drawn(dev, known)
    inside = [mention for mention in dev if mention.title in held]
    print(f"{len(held)} titles taken out, {len(inside)} dev mentions of them")
    print(f"trained rows: {100 * against_negatives(inside, known, excluded=held):.1f}")
    titles = pa.array(held, pa.large_string())
    with tempfile.TemporaryDirectory() as temporary:
        path = reduced(Path(temporary) / "reduced", held)
        checkpoint = resolve(str(path))
        vocabulary = Tokenizer.load(path).entity_vocab
        space = EntitySpace(checkpoint)
        reader = MentionReader(str(path), "cpu", space)
        sources: dict[str, MeanVectors] = {
            "mentions": reader.means(read_mentions(str(folder / "train.parquet"), "text", Counter()), titles),
            "a description": reader.means([described(held, known)], titles),
        }
        vectors, rows, bias = known_vectors(vocabulary, reader, space, KNOWN)
        few = known_vectors(vocabulary, reader, space, 200)
        placement = Placement.fit(vectors, rows, bias, str(path))
        forms: dict[str, Rows] = {
            "placement": placement.rows,
            "placement by 200 known titles": Placement.fit(*few, str(path)).rows,
            "least squares": least_squares(vectors, rows),
            f"ridge {RIDGE:g}": ridge(vectors, rows),
        }
        for number, (form, place) in enumerate(forms.items()):
            for source, means in sources.items():
                new = placed(titles, means, placement)
                new = NewEntities(new.titles, place(means.vectors[means.counts > 0]), new.bias)
                out = Path(temporary) / f"{number} {source}"
                write_with(checkpoint, vocabulary, new, out)
                found = 100 * against_negatives(inside, known, str(out), held)
                print(f"{form}, from {source}: {found:.1f}")
                shutil.rmtree(out)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
