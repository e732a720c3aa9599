"""Documents among which some fail: in every run, until somebody mends what they need, or once.

The last two fail as processes tell them to that obey texts (`tests/poison`), by files in a folder that the
environment names: so one corpus is ill for one run and well for the next, and documents stay what they are.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from tests.corpora import put
from tests.integration.conftest import documents

FILES = 20
FRAGMENTS = 2 * FILES
"""Of three documents each."""
POISON = Path(__file__).parents[1] / "poison"
_OUTSIDE = [{"start": 0, "end": 10_000}]
"""A given mention that no text here is long enough for."""


@dataclass(frozen=True)
class Corpus:
    """INPUT, a checkpoint, and what an undisturbed run makes of them while nothing is ill."""

    input: Path
    model: Path
    documents: pa.Table
    annotated: pa.Table

    def ids(self, kind: str = "") -> set[str]:
        """All documents, or those that fail `always`, while `ill`, or `once`."""
        return {name for name in self.documents["id"].to_pylist() if name.endswith(kind)}


def make_corpus(folder: Path, files: int = FILES) -> pa.Table:
    """Write so many source files; their documents. Each fragment has one or two that may fail."""
    tables = [_with_failures(documents(f"{number:02}"), number) for number in range(files)]
    for number, table in enumerate(tables):
        put(folder, f"{number:02}.parquet", table)
    return pa.concat_tables(tables)


def _with_failures(table: pa.Table, number: int) -> pa.Table:
    ids, texts = table["id"].to_pylist(), table["text"].to_pylist()
    given: list[list[dict[str, int]]] = [[] for _ in ids]
    texts[1] += " POISON(ill@ner)"
    ids[1] += "-ill"
    texts[4] += f" POISON(once_{number}@ner)"
    ids[4] += "-once"
    if number % 3 == 0:
        given[0] = _OUTSIDE
        ids[0] += "-always"
    spans = pa.array(given, pa.list_(pa.struct({"start": pa.int64(), "end": pa.int64()})))
    return table.set_column(0, "id", [ids]).set_column(2, "text", [texts]).append_column("given", spans)


def poisoned(folder: Path | None) -> dict[str, str]:
    """An environment in which texts are obeyed, with the state of the illness in `folder`; None: all are well."""
    return {"PYTHONPATH": str(POISON), "LUKE_BATCH_POISON": "" if folder is None else str(folder)}


def fall_ill() -> None:
    """Each `ill` document fails from now on, and each `once` document once more."""
    folder = _folder()
    folder.mkdir(exist_ok=True)
    for mark in folder.iterdir():
        mark.unlink()


def get_well(*, for_good: bool = True) -> None:
    """The `ill` documents no longer fail; for good: nor do those that have not failed once."""
    (_folder() / "well").touch()
    for number in range(FILES if for_good else 0):
        (_folder() / str(number)).touch()


def _folder() -> Path:
    return Path(os.environ["LUKE_BATCH_POISON"])
