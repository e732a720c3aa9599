"""Builds the embedded demo corpus: reads recipes/corpus/*.jsonl, checks it and writes one small Parquet file.

The documents were written for this project; the Parquet file is what the package carries.
"""

from __future__ import annotations

import json
import unicodedata
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

_ROOT = Path(__file__).resolve().parent.parent
_SOURCE = _ROOT / "recipes" / "corpus"
_TARGET = _ROOT / "luke_batch" / "embedded" / "corpus.parquet"
_COLUMNS = ("id", "lang", "title", "text")
_LEAST_DOCUMENTS = 160
_LEAST_LANGUAGES = 8


def _checked(line: str, place: str) -> dict[str, str]:
    """The document on one line; place says in messages where the line stands."""
    row = json.loads(line)
    if not isinstance(row, dict) or tuple(row) != _COLUMNS:
        msg = f"{place}: expected an object with exactly {', '.join(_COLUMNS)}, in this order"
        raise ValueError(msg)
    document: dict[str, str] = {}
    for column in _COLUMNS:
        value = row[column]
        if not isinstance(value, str) or not value:
            msg = f"{place}: {column} is empty or not a string"
            raise ValueError(msg)
        if value != value.strip():
            msg = f"{place}: {column} has outer white space"
            raise ValueError(msg)
        if not unicodedata.is_normalized("NFC", value):
            msg = f"{place}: {column} is not in NFC"
            raise ValueError(msg)
        document[column] = value
    return document


def documents() -> list[dict[str, str]]:
    """All documents, in the sorted order of their files."""
    documents: list[dict[str, str]] = []
    for path in sorted(_SOURCE.glob("*.jsonl")):
        # Not splitlines: that would also break at separators a text may legally hold.
        lines = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
        for number, line in enumerate(lines, start=1):
            document = _checked(line, f"{path.name}:{number}")
            if document["lang"] != path.stem:
                msg = f"{path.name}:{number}: lang {document['lang']} does not match the file's name"
                raise ValueError(msg)
            documents.append(document)
    return documents


def _check_whole(documents: list[dict[str, str]]) -> None:
    """Checks what only all documents together can show."""
    repeated = [name for name, times in Counter(row["id"] for row in documents).items() if times > 1]
    if repeated:
        msg = f"ids used more than once: {', '.join(repeated)}"
        raise ValueError(msg)
    languages = {row["lang"] for row in documents}
    if len(documents) < _LEAST_DOCUMENTS or len(languages) < _LEAST_LANGUAGES:
        msg = (
            f"{len(documents)} documents in {len(languages)} languages, "
            f"expected at least {_LEAST_DOCUMENTS} in {_LEAST_LANGUAGES}"
        )
        raise ValueError(msg)


def main() -> None:
    """Checks the sources and writes the Parquet file."""
    found = documents()
    _check_whole(found)
    schema = pa.schema([pa.field(column, pa.string()) for column in _COLUMNS])
    table = pa.Table.from_pylist(found, schema=schema)
    _TARGET.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, _TARGET, compression="zstd", row_group_size=len(found))
    languages = Counter(row["lang"] for row in found)
    counts = ", ".join(f"{language} {count}" for language, count in languages.items())
    print(f"{len(found)} documents ({counts})")
    print(f"{_TARGET.relative_to(_ROOT)}: {_TARGET.stat().st_size} bytes")


if __name__ == "__main__":
    main()
