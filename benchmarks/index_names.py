"""What the neighbours of entities are: `python -m benchmarks.index_names INDEX`, of news in twelve languages.

    labels    for the entities of most mentions, how many of their ten nearest have their label
    scripts   for names in two scripts, the place of the other one among the ten nearest, from each side

The index is that of NTREX in docs/index.md. The first list is not chosen by hand; the pairs are those of the
entities of most mentions whose name also occurs in another script.
"""

import argparse
import unicodedata

from luke_batch.index.keys import comparable
from luke_batch.index.search import EntityIndex

_ENTITIES = 20
_NEAREST = 10
PAIRS = (
    ("Kavanaugh", "Кавано"),
    ("Palu", "Палу"),
    ("Trump", "Трамп"),
    ("Arizona", "أريزونا"),
    ("Rangers", "Рейнджерс"),
    ("NATO", "НАТО"),
    ("China", "中国"),
    ("USA", "США"),
    ("Macedonia", "マケドニア"),
    ("Indonesia", "インドネシア"),
)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description="Neighbours of entities by label and by script.")
    parser.add_argument("index", metavar="INDEX")
    index = EntityIndex.open(parser.parse_args().index)
    majorities = labels(index)
    print(f"{majorities} of {_ENTITIES} entities have a majority of their own label among the ten nearest\n")
    found = scripts(index)
    print(f"{found} of {len(PAIRS)} names find the other one among the ten nearest")


def labels(index: EntityIndex) -> int:
    """Entities with a majority of their own label."""
    table = index.entities(["key", "name", "label", "count"]).read_all()
    top = table.sort_by([("count", "descending"), ("key", "ascending")]).slice(0, _ENTITIES).to_pylist()
    majorities = 0
    print(f"{'entity':<20}{'label':<7}{'mentions':>8}{'same label':>12}   nearest")
    for row in top:
        found = index.search([row["key"]], _NEAREST).to_pylist()
        same = sum(hit["label"] == row["label"] for hit in found)
        majorities += same > _NEAREST // 2
        nearest = ", ".join(hit["name"] for hit in found[:5])
        print(f"{_padded(row['name'], 20)}{row['label']:<7}{row['count']:>8}{same:>9}/10   {nearest}")
    return majorities


def scripts(index: EntityIndex) -> int:
    """Pairs whose first name finds the other."""
    hits = 0
    print(f"{'name':<14}{'in another script':<20}{'place from the one':>18}{'from the other':>16}")
    for one, other in PAIRS:
        places = [_place(index, one, other), _place(index, other, one)]
        hits += places[0] is not None
        shown = ["-" if place is None else str(place) for place in places]
        print(f"{_padded(one, 14)}{_padded(other, 20)}{shown[0]:>18}{shown[1]:>16}")
    return hits


def _place(index: EntityIndex, query: str, wanted: str) -> int | None:
    """Place of the entity of that name, whatever its label, among the nearest."""
    names = [comparable(hit["name"]) for hit in index.search([query], _NEAREST).to_pylist()]
    return names.index(comparable(wanted)) + 1 if comparable(wanted) in names else None


def _padded(text: str, width: int) -> str:
    """Columns of a terminal: wide characters take two."""
    taken = sum(
        0 if unicodedata.combining(character) else 2 if unicodedata.east_asian_width(character) in "WF" else 1
        for character in text
    )
    return text + " " * max(1, width - taken)


if __name__ == "__main__":
    main()
