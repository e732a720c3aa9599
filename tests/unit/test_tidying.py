"""Tidying is bounded in time and goes on the next night; what cannot be removed is said, and hides nothing else."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pytest

from luke_batch import cli
from luke_batch.base.errors import FragmentError
from luke_batch.corpus import leftovers as module
from luke_batch.corpus.footers import Footer, inspect_all
from luke_batch.corpus.leftovers import Leftovers, find_leftovers, tidy
from luke_batch.corpus.manifest import latest_manifest
from luke_batch.corpus.outcome import reconcile
from luke_batch.corpus.storage import Storage, StoredFile
from luke_batch.distributed import run as runner
from tests import run_without_ray
from tests.corpora import context, documents, put, run
from tests.unit.test_sweep import plan_of


def failing(count: int, first: int, row: int) -> pa.Table:
    """Documents of which one fails."""
    table = documents(count, first)
    texts = ["FAIL" if number == row else text for number, text in enumerate(table["text"].to_pylist())]
    return table.set_column(1, "text", pa.array(texts))


def pruned(folder: Path) -> Leftovers:
    """What is to be removed of five files of four documents, of which one failed each; the last four are gone."""
    for number in range(5):
        put(folder, f"in/{number}.parquet", failing(4, 4 * number, row=1))
    run(plan_of(folder), context())
    for number in range(1, 5):
        (folder / f"in/{number}.parquet").unlink()
    return leftovers_of(folder)


def leftovers_of(folder: Path) -> Leftovers:
    """What a run finds at its end."""
    plan = plan_of(folder, vanished="prune")
    return find_leftovers(plan, reconcile(plan, "run1"))


def outputs(folder: Path) -> int:
    """Output files that are there."""
    return len(list((folder / "out/data").rglob("*.parquet")))


def test_cut_off_and_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each night counts what it has removed, with its documents; before, a night that was cut off said 0 documents."""
    found = pruned(tmp_path)
    output = Storage.at(str(tmp_path / "out"))
    assert tidy(output, found, seconds=0).left == len(found.removable) == 8
    assert outputs(tmp_path) == 5
    monkeypatch.setattr(module, "_AT_ONCE", 1)
    clock = iter(range(100))
    monkeypatch.setattr(module.time, "monotonic", lambda: float(next(clock)))
    first = tidy(output, found, seconds=2.5)
    assert (first.vanished, first.vanished_documents, first.vanished_letters, first.left) == (2, 3, 1, 6)
    second = tidy(output, leftovers_of(tmp_path))
    assert (second.vanished, second.vanished_documents, second.left) == (6, 9, 0)
    assert outputs(tmp_path) == 1
    assert not leftovers_of(tmp_path)


def test_moving_and_showing_are_bounded_too(tmp_path: Path) -> None:
    """Before, foreign files and letters were treated without a look at the clock."""
    put(tmp_path, "in/a.parquet", failing(4, 0, row=1))
    run(plan_of(tmp_path), context())
    (letters,) = (tmp_path / "out/_dead_letters").iterdir()
    letters.unlink()
    put(tmp_path, "out/data/theirs.parquet", documents(1))
    output = Storage.at(str(tmp_path / "out"))
    removed = tidy(output, leftovers_of(tmp_path), seconds=0)
    assert (removed.foreign, removed.left) == (0, 2)
    assert not letters.exists()
    removed = tidy(output, leftovers_of(tmp_path))
    assert (removed.foreign, removed.left) == (1, 0)
    assert letters.exists()


def test_what_cannot_be_removed_is_counted(tmp_path: Path) -> None:
    """A folder stands for a file that may not be deleted: the others go. Before, the first one ended the run."""
    found = pruned(tmp_path)
    (tmp_path / "out/data/stays.parquet").mkdir()
    found.vanished = {"data/stays.parquet": (4, 0)} | found.vanished
    removed = tidy(Storage.at(str(tmp_path / "out")), found)
    assert (removed.refused, removed.vanished, removed.vanished_documents) == (1, 8, 12)
    assert "stays.parquet" in removed.cause
    assert outputs(tmp_path) == 2


def test_a_run_that_cannot_remove_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 4 after the manifest is written; once it can, the same command ends with 0."""
    monkeypatch.setattr(runner, "_annotate_items", run_without_ray.annotate_items)
    put(tmp_path, "in/a.parquet", documents(4))
    put(tmp_path, "in/b.parquet", documents(4, first=4))
    command = ["annotate", str(tmp_path / "in"), str(tmp_path / "out"), "--set", "output.on_vanished=prune", "--json"]
    assert cli.run(command) == 0
    (tmp_path / "in/b.parquet").unlink()
    capsys.readouterr()
    with monkeypatch.context() as patch:
        patch.setattr(Storage, "remove_all", lambda _, paths: dict.fromkeys(paths, "AccessDenied"))
        assert cli.run(command) == 4
    said = json.loads(capsys.readouterr().out)
    assert said["removed"]["refused"] == 1
    assert "cannot be removed" in said["verdict"]
    manifest = latest_manifest(Storage.at(str(tmp_path / "out")), lambda run: run.finished is not None)
    assert manifest is not None
    assert manifest.exit_code == 4
    assert manifest.figures["removed"]["cause"] == "AccessDenied"
    assert cli.run(command) == 0
    assert json.loads(capsys.readouterr().out)["removed"]["vanished_documents"] == 4


def test_a_file_of_letters_is_opened_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before, every run opened all of them."""
    monkeypatch.setattr(runner, "_annotate_items", run_without_ray.annotate_items)
    put(tmp_path, "in/a.parquet", failing(4, 0, row=1))
    command = ["annotate", str(tmp_path / "in"), str(tmp_path / "out"), "--quiet"]
    cli.run([*command, "--set", "output.error_budget=1"])
    opened: list[str] = []

    def noted(storage: Storage, files: Sequence[StoredFile]) -> Iterator[Footer | FragmentError]:
        opened.extend(file.path for file in files)
        return inspect_all(storage, files)

    monkeypatch.setattr(module, "inspect_all", noted)
    put(tmp_path, "in/b.parquet", documents(4, first=4))
    cli.run([*command, "--set", "output.error_budget=1"])
    assert opened == []
    (letters,) = (tmp_path / "out/_dead_letters").iterdir()
    letters.write_bytes(letters.read_bytes())
    cli.run([*command, "--set", "output.error_budget=1"])
    assert opened == [f"_dead_letters/{letters.name}"]
