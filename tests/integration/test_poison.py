"""Documents that raise, hang, allocate without end or kill their process, among 1,000 good ones."""

import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds

import luke_batch
from tests.corpora import put

POISON = str(Path(__file__).parents[1] / "poison")
GOOD = 1000
EXPECTED = {
    "raise@segment": ("segment", "ZeroDivisionError"),
    "kill@segment": ("segment", "CrashError"),
    "hang@segment": ("segment", "HangError"),
    "raise@ner": ("ner", "ZeroDivisionError"),
    "kill@ner": ("ner", "CrashError"),
    "end@types": ("types", "CrashError"),
    "hang@relations": ("relations", "HangError"),
    "allocate@ner": ("ner", "MemoryError"),
    "abort@embeddings": ("embeddings", "CrashError"),
}
"""Deed and stage, and what the dead letter says."""


def corpus() -> pa.Table:
    """Poison after every hundred good documents, the last two side by side."""
    rows = [(f"good-{number}", f"Ada Byron met Charles Babbage {number} times.") for number in range(GOOD)]
    for place, deed in enumerate(EXPECTED, 1):
        rows.insert(min(place, 8) * 100, (deed, f"Ada Byron met POISON({deed}) in London."))
    return pa.table({"id": [name for name, _ in rows], "text": [text for _, text in rows]})


def annotate(folder: Path, checkpoint: Path, budget: float) -> subprocess.CompletedProcess[str]:
    """A run of its own, whose child processes obey."""
    settings = {
        "models.main.path": checkpoint,
        "models.main.actors": 1,
        "output.max_rows": 250,
        "output.error_budget": budget,
        "isolation.seconds": 4,
        "isolation.memory_gb": 4,
    }
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([POISON, *filter(None, sys.path)])}
    command = [Path(sys.executable).parent / "luke-batch", "annotate", folder / "in", folder / "out"]
    options = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
    return subprocess.run(
        [*map(str, command), *options, "--address", "local", "--quiet"],
        capture_output=True,
        text=True,
        env=environment,
        timeout=400,
        check=False,
    )


def test_poison_among_good_ones(tmp_path: Path, checkpoint: Path) -> None:
    """All good rows are committed, each poison has its letter with the reason; the budget decides."""
    put(tmp_path / "in", "a.parquet", corpus())
    first = annotate(tmp_path, checkpoint, budget=len(EXPECTED))
    assert first.returncode == 0, first.stderr
    assert "Traceback" not in first.stderr
    found = luke_batch.read(str(tmp_path / "out")).to_table(columns=["id", "mentions", "text_embedding"])
    assert sorted(found["id"].to_pylist()) == sorted(f"good-{number}" for number in range(GOOD))
    assert found["mentions"].null_count == found["text_embedding"].null_count == 0
    letters = ds.dataset(tmp_path / "out" / "_dead_letters").to_table().to_pylist()
    assert {letter["id"]: (letter["stage"], letter["error_class"]) for letter in letters} == EXPECTED
    assert all(letter["message"] for letter in letters)
    second = annotate(tmp_path, checkpoint, budget=len(EXPECTED) - 1)
    assert (second.returncode, len(second.stderr.splitlines())) == (3, 1), second.stderr
