"""The data of the embedded model: which files, what each row counts, and how foreign labels are mapped."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from luke_batch.training.corpus import GoldEntity, Row
from recipes.identities import Group, Names, guessed, linked
from recipes.letters import lines
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
    "stockmark": 0.4,
    "germeval2014": 1.6,
    "factrueval2016": 1.3,
    "wikiner_ru_silver": 0.6,
    "europeana_fr_ocr": 0.25,
    "il_ner_hi": 0.5,
    "hiner_val": 0.5,
    "ud_japanese_gsd_ne": 0.7,
    "litbank": 0.5,
    "lines": 0.5,
}
_LINES = 4000
"""Lists, signatures and captions that are made of mentions."""
_EMPTY_WEIGHT = 0.5
"""A sentence without mentions teaches less: it counts half."""


@dataclass
class TrainingRows:
    """Everything that the three heads learn from."""

    ner: list[Row]
    ner_weights: list[float]
    types: list[Row]
    relations: list[Row]
    of_fewrel: frozenset[str]
    """The labels that FewRel has."""
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
    more = read_rows(sorted((data / "ner_more/train").glob("*.parquet")), skipped)
    ner = [without_handles(row) for row in english] + others + [_from_japanese(row) for row in japanese] + more
    ner += lines(ner, _LINES, np.random.default_rng(0))
    fewrel = read_rows([data / "relations/fewrel_wiki/train.parquet"], skipped)
    redocred = read_rows([data / "relations/redocred/train.parquet"], skipped)
    names: Names = {}
    identities = _identities(data, others + english, names, skipped)
    return TrainingRows(
        ner=ner,
        ner_weights=[_weight(row) for row in ner],
        types=read_rows([data / "typing/crossner/train.parquet"], skipped)
        + crossner_dev(data, skipped, held_out=False),
        relations=fewrel + redocred,
        of_fewrel=frozenset(item.label for row in fewrel for item in row.relations),
        identities=identities,
        names=list(names),
    )


def ner_dev(data: Path) -> list[Row]:
    """The NER dev sentences of all languages, those of `ner/uner/dev` left out that are in the training data."""
    english = read_rows([data / "ner/open_ner_en/dev.parquet"], None)
    others = read_rows([data / "ner/uner/dev.parquet"], None)
    more = read_rows(sorted((data / "ner_more/dev").glob("*.parquet")), None)
    return [without_handles(row) for row in english] + [row for row in others if row.lang != "en"] + more


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
