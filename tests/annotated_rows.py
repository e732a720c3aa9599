"""Annotated sentences for fine-tuning, made of a few names, and files of them."""

import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

_PEOPLE = ("Ada Byron", "Bo Chen", "Marie", "Otto Hahn", "Lise")
_PLACES = ("Rome", "Oslo", "Lima", "Cairo", "New York")
_FIRMS = ("Acme", "Globex", "Initech")


def annotated_rows(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Sentences with three entities and two relations each."""
    rng = random.Random(seed)
    return [_row(f"{seed}-{number}", rng) for number in range(count)]


def _row(name: str, rng: random.Random) -> dict[str, Any]:
    person, place, firm = rng.choice(_PEOPLE), rng.choice(_PLACES), rng.choice(_FIRMS)
    text = f"{person} lives in {place} and works for {firm} since {rng.randint(1900, 1999)} ."
    entities = [
        {"start": text.index(surface), "end": text.index(surface) + len(surface), "label": label}
        for surface, label in ((person, "PER"), (place, "LOC"), (firm, "ORG"))
    ]
    relations = [
        {"head": 0, "tail": 1, "label": "residence"},
        {"head": 0, "tail": 2, "label": "employer"},
    ]
    return {"id": name, "lang": "en", "text": text, "entities": entities, "relations": relations}


def put_rows(file: Path, rows: list[dict[str, Any]]) -> str:
    """Write the rows as Parquet; the file's path."""
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), file)
    return str(file)
