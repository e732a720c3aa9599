"""The figures of `python -m manual.size`, counted by hand on a toy house."""

import re
import sys
from pathlib import Path

import pytest

from manual.size import ROOT, Entered, Figures, measure, table, traced

_FILES = {
    "__init__.py": '"""A house."""\n',
    "loose.py": "from luke_batch.heads import choice\n",
    "heads/__init__.py": "",
    "heads/choice.py": "from luke_batch.text.words import words\n\n\ndef run():\n    return words\n",
    "heads/build.py": (
        "from typing import TYPE_CHECKING\n\nfrom luke_batch.heads.choice import run\n\n"
        "if TYPE_CHECKING:\n    from luke_batch.heads.ring import first\n"
    ),
    "heads/ring.py": "def first():\n    import luke_batch.heads.knot\n    return luke_batch\n",
    "heads/knot.py": "import luke_batch.heads.ring, luke_batch.heads.build\n" + "x = 1\n" * 70,
    "text/words.py": 'words = "a text of choice"\n',
    "text/columns.py": 'COLUMNS = ("choice", "mention_embeddings")\n',
}


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A checkout of nine files."""
    for name, text in _FILES.items():
        path = tmp_path / "luke_batch" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    return tmp_path


def test_files_rooms_and_imports_are_counted(house: Path) -> None:
    """A folder with modules is a room, as a module beside the folders is; imports are those of files as written."""
    figures = measure(house)
    assert figures["files"] == 9
    assert figures["lines"] == sum(text.count("\n") for text in _FILES.values())
    assert figures["rooms"] == 3
    assert figures["imports between rooms"] == 2  # loose -> heads, heads -> text
    assert figures["files under 60 lines"] == 8
    assert figures["longest file"] == "71 (heads/knot.py)"
    assert figures["longest function"] == "3 (ring.first)"


def test_an_import_for_types_makes_no_circle(house: Path) -> None:
    """Build needs ring for its types alone, while ring and knot need one another."""
    figures = measure(house)
    assert figures["circles between files"] == 1
    # words by choice, knot by ring, build by knot; choice has two importers, ring build and knot
    assert figures["files with one importer"] == 3


def test_what_names_a_thing_touches_it(house: Path) -> None:
    """By its path, an import of it, a whole string; a word of a longer text does not count."""
    figures = measure(house)
    assert figures["files that head choice touches"] == 4  # itself, build, columns, loose
    assert figures["files that column mention_embeddings touches"] == 1
    assert figures["files that head cloze touches"] == 0


def test_functions_are_noted_and_imports_are_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each function once, neither what an import runs nor the bodies of classes, nor what lies elsewhere."""
    (tmp_path / "toy_house.py").write_text(
        "def decorate(cls):\n    return cls\n\n@decorate\nclass Room:\n    def enter(self):\n"
        "        return [outside(each) for each in range(2)]\n\ndef outside(number):\n    return number\n",
        "utf-8",
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    entered = Entered(tmp_path)
    before = sys.getprofile()
    with entered:
        from toy_house import Room  # pyright: ignore[reportMissingImports]: made above

        Room().enter()
    assert {name for _, _, name in entered.functions} == {"Room.enter", "outside"}
    assert sys.getprofile() is before


def test_a_sentence_is_traced_through_this_checkout() -> None:
    """In a process of its own: loading enters more than annotating alone, and a file has more than one function. The
    page that tells the way of a sentence names every file of it.
    """
    figures, files = traced(ROOT)
    found = {name: int(figure) for name, figure in figures.items()}
    told = (ROOT / "docs" / "architecture.md").read_text("utf-8").split("\n## ")[1]
    named = re.findall(r"^    ([\w/]+\.py)  ", told, re.M)
    assert set(files) <= set(named), "see `python -m manual.size --way`"
    assert not [file for file in named if not (ROOT / "luke_batch" / file).exists()]
    assert len(files) == found["files entered by a sentence"]
    assert 0 < found["files entered by a sentence"] < found["files entered, loading included"]
    assert found["files entered by a sentence"] < found["functions entered by a sentence"]
    assert found["functions entered by a sentence"] < found["functions entered, loading included"]


def test_two_checkouts_stand_side_by_side() -> None:
    """Before and after in the same order, numbers with separators."""
    before: Figures = {"lines": 33418, "longest file": "346 (run.py)"}
    after: Figures = {"lines": 26000, "longest file": "500 (encoder.py)"}
    assert [line.split() for line in table(after, before).splitlines()] == [
        ["before", "after"],
        ["lines", "33,418", "26,000"],
        ["longest", "file", "346", "(run.py)", "500", "(encoder.py)"],
    ]
