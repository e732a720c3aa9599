"""Builds the alias table inside the package from the linked training data and the model's own titles.

    python recipes/aliases.py --data DATA

Names and counts are those of the linked mentions in DATA/links/gum/train.parquet; every title of the entity
vocabulary of luke_batch/embedded/model is a name of its own besides. Run it after recipes/entities.py, once
the model is in its place.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from luke_batch.config import EMBEDDED
from luke_batch.text.names.alias_files import EMBEDDED_FILE
from luke_batch.text.names.aliases import AliasTable, load_aliases
from luke_batch.titles.alias_table import build_aliases
from luke_batch.training.start import ENTITY_VOCABULARY

_ROOT = Path(__file__).resolve().parent.parent
_TITLES = _ROOT / "luke_batch" / "embedded" / "model" / "entity_vocab.json"


def titles() -> list[str]:
    """The titles that the embedded model knows, without its special entries."""
    vocabulary: dict[str, int] = json.loads(_TITLES.read_text(encoding="utf-8"))
    return sorted(set(vocabulary) - set(ENTITY_VOCABULARY))


def recall(file: Path, table: AliasTable) -> tuple[int, float, float]:
    """Linked mentions of a file, and the percentages whose title is a candidate, and the first one."""
    ranks: list[int] = []
    for row in pq.read_table(file, columns=["text", "links"]).to_pylist():
        for link in row["links"] or []:
            found = table.candidates(row["text"][link["start"] : link["end"]], 30).titles
            ranks.append(found.index(link["title"]) if link["title"] in found else 30)
    among, first = (sum(rank < most for rank in ranks) / len(ranks) for most in (30, 1))
    return len(ranks), round(100 * among, 1), round(100 * first, 1)


def main() -> None:
    """Write the table, say what is in it and how far it goes on the dev part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    options = parser.parse_args()
    known = titles()
    with tempfile.TemporaryDirectory() as folder:
        anchors = f"{folder}/titles.parquet"
        # of no link: they are there to be known
        pq.write_table(pa.table({"name": known, "title": known, "count": [0] * len(known)}), anchors)
        built = build_aliases(str(EMBEDDED_FILE), [str(options.data / "links/gum/train.parquet")], [anchors], [])
        table = load_aliases(EMBEDDED, Path(folder))
        dev = recall(options.data / "links/gum/dev.parquet", table)
    print(built)
    print("links of dev, % with their title among 30 candidates, % with it first:", *dev)
    print(f"{EMBEDDED_FILE.relative_to(_ROOT)}: {EMBEDDED_FILE.stat().st_size} bytes")


if __name__ == "__main__":
    main()
