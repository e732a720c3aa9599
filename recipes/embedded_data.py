"""The data of the embedded model: which files, what each row counts, and how foreign labels are mapped."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow.parquet as pq

from luke_batch.training.corpus import GoldEntity, Row
from luke_batch.training.examples import MarkedPlace, pair_places
from recipes.identities import Group, Names, guessed, linked
from recipes.rows import read_clusters, read_linked, read_rows, relabel

NER_LABELS = ("NIL", "PER", "ORG", "LOC")

# Languages whose pieces the vocabulary keeps, as NTREX names them (some with a script or a country behind).
_NTREX = (
    *("eng", "deu", "fra", "spa", "por", "ita", "nld", "swe", "dan"),
    *("hrv", "srp", "slk", "rus", "jpn", "zho", "arb", "hin"),
)

# stockmark's eight types: persons, firms, political and other organisations, places. Facilities are LOC in
# some guidelines and ORG in others: nothing is learnt from them. Products and events are no mentions here.
_JAPANESE: dict[str, str | None] = {
    "人名": "PER",
    "法人名": "ORG",
    "政治的組織名": "ORG",
    "その他の組織名": "ORG",
    "地名": "LOC",
}
_JAPANESE_UNSURE = frozenset({"施設名"})

# What a sentence of each source counts when one is drawn. Clean edited text and web text with the guidelines
# of Universal NER count more; tweets less; the two scripts of the same Chinese sentences share one weight.
_WEIGHTS = {
    "uner_en_ewt": 3.0,
    "wikigold": 2.5,
    "gum": 1.3,
    "crossner": 0.8,
    "wnut17": 0.6,
    "btc": 0.45,
    "uner_zh": 0.6,
    "uner_sk": 0.7,
    "uner_hr": 0.8,
    "stockmark": 0.5,
}
_EMPTY_WEIGHT = 0.5
"""A sentence without mentions teaches less: it counts half."""


@dataclass(frozen=True)
class TrainingRows:
    """Everything that the three heads learn from."""

    ner: list[Row]
    ner_weights: list[float]
    types: list[Row]
    pairs: list[MarkedPlace]
    identities: list[tuple[float, list[Group]]]
    """Kinds of groups, and how often a batch is drawn from each."""
    names: list[str]
    """All surfaces in `identities`, in the order of their places."""


def vocabulary_texts(data: Path, extra: list[Path]) -> Iterator[str]:
    """Texts in the promised languages: all training and dev sentences, and documents where there are any."""
    for file in sorted(data.glob("*/*/*.parquet")):
        yield from _texts(file)
    news = data / "documents" / "ntrex.parquet"
    if news.exists():
        table = pq.read_table(news, columns=["lang", "text"])
        for lang, text in zip(table["lang"].to_pylist(), table["text"].to_pylist(), strict=True):
            if lang.split("-")[0] in _NTREX:
                yield text
    for file in extra:
        yield from _texts(file)


def _texts(file: Path) -> Iterator[str]:
    yield from pq.read_table(file, columns=["text"])["text"].to_pylist()


def training_rows(data: Path, skipped: Counter[str]) -> TrainingRows:
    """Reads the training files below `data` (the layout of the README beside this file)."""
    english = read_rows([data / "ner/open_ner_en/train.parquet"], skipped)
    others = read_rows([data / "ner/uner/train.parquet"], skipped)
    japanese = read_rows([data / "ner/ja_wiki_ner/train.parquet"], skipped)
    ner = [without_handles(row) for row in english] + others + [_from_japanese(row) for row in japanese]
    fewrel = read_rows([data / "relations/fewrel_wiki/train.parquet"], skipped)
    redocred = read_rows([data / "relations/redocred/train.parquet"], skipped)
    known = frozenset(item.label for row in fewrel for item in row.relations)
    names: Names = {}
    identities = _identities(data, others + english, names, skipped)
    return TrainingRows(
        ner=ner,
        ner_weights=[_weight(row) for row in ner],
        types=read_rows([data / "typing/crossner/train.parquet"], skipped)
        + crossner_dev(data, skipped, held_out=False),
        pairs=fewrel_pairs(fewrel, known) + [pair for row in redocred for pair in pair_places(row)],
        identities=identities,
        names=list(names),
    )


def ner_dev(data: Path) -> list[Row]:
    """The NER dev sentences, those of `ner/uner/dev` left out that are in the training data."""
    english = read_rows([data / "ner/open_ner_en/dev.parquet"], None)
    others = read_rows([data / "ner/uner/dev.parquet"], None)
    return [without_handles(row) for row in english] + [row for row in others if row.lang != "en"]


def crossner_dev(data: Path, skipped: Counter[str] | None, *, held_out: bool) -> list[Row]:
    """A fifth of CrossNER's dev sentences, held out for the figures, or the others: train has only 700."""
    rows = read_rows([data / "typing/crossner/dev.parquet"], skipped)
    return [row for row in rows if is_held_out(row.id) == held_out]


def is_held_out(name: str) -> bool:
    """Whether a row is in the fifth that no training sees, by its id."""
    return zlib.crc32(name.encode()) % 5 == 0


def _identities(data: Path, ner: list[Row], names: Names, skipped: Counter[str]) -> list[tuple[float, list[Group]]]:
    wikified = read_linked([data / "links/gum/train.parquet"], skipped)
    fewrel = read_linked([data / "relations/fewrel_wiki/train.parquet"], skipped)
    clustered = read_clusters(data / "relations/redocred/train.parquet")
    named = ((f"{row.source} {row.doc_id}", row) for row in ner if row.doc_id not in ("", "None"))
    return [
        (0.40, linked(((row.doc_id, row) for row in wikified), names)),
        (0.20, linked(((row.doc_id, row) for row in clustered), names)),
        (0.10, linked(((item.label or "", row) for row in fewrel for item in row.entities), names)),
        (0.30, guessed(named, names)),
    ]


def fewrel_pairs(rows: list[Row], known: frozenset[str]) -> list[MarkedPlace]:
    """FewRel's one pair a sentence. Of relations other than its own sixteen it says nothing."""
    return [
        MarkedPlace(row, (item.head, item.tail), frozenset({item.label}), known)
        for row in rows
        for item in row.relations
    ]


def without_handles(row: Row) -> Row:
    """Broad Twitter labels @handles as PER, the other tweets do not: nothing is learnt from them."""
    if row.source != "btc":
        return row
    return replace(row, entities=tuple(_unsure(item) if _is_handle(row.text, item) else item for item in row.entities))


def _is_handle(text: str, entity: GoldEntity) -> bool:
    return text[entity.start] == "@" or text[max(entity.start - 1, 0)] == "@"


def _unsure(entity: GoldEntity) -> GoldEntity:
    return replace(entity, label=None)


def _from_japanese(row: Row) -> Row:
    known = [item for item in row.entities if item.label in _JAPANESE or item.label in _JAPANESE_UNSURE]
    return relabel(replace(row, entities=tuple(known)), _JAPANESE)


def _weight(row: Row) -> float:
    weight = next((value for prefix, value in _WEIGHTS.items() if row.source.startswith(prefix)), 1.0)
    return weight * (1.0 if row.entities else _EMPTY_WEIGHT)
