"""`luke-batch estimate`: a measured sample, and what follows from it."""

import json
from pathlib import Path

import pytest

from luke_batch import cli
from luke_batch.corpus.fragments import Fragment
from luke_batch.corpus.sample import Census
from luke_batch.corpus.storage import Storage
from luke_batch.distributed.estimate import Estimate, Measurement
from luke_batch.distributed.resources import Node
from tests.corpora import documents, put


def known(stages: dict[str, float], actors: dict[str, int], on_cpu: tuple[str, ...], cpus: float) -> Estimate:
    """An estimate from ten documents for a thousand in twenty files."""
    measured = Measurement(stages, 5.0, documents=10, document_bytes=200.0, file_bytes=1000.0)
    file = Fragment("a", "", 0, 1000, "c", 1000, 5000, 0)
    return Estimate(Census(Storage.at("."), ((file, "s"),), 20, ()), measured, Node(cpus, 1), actors, on_cpu, 1)


def test_time_goes_by_the_slowest_stage_or_by_the_cores() -> None:
    """The formulas of the module, worked out by hand."""
    one = known({"text": 1.0, "main": 9.0}, {"main": 4}, ("text", "main"), 4)
    assert one.seconds_per_document == 1.0
    assert (one.seconds(1), one.seconds(10)) == (1005.0, 105.0)
    assert one.seconds_here == 5 + 100 * 10 / 4, "text and models share four cores"
    on_gpu = known({"text": 1.0, "main": 9.0}, {"main": 1}, ("text",), 4)
    assert on_gpu.seconds_here == 5 + 100 * 9, "one GPU is the slowest"
    two = known({"text": 0.0, "a": 2.0, "b": 8.0}, {"a": 2, "b": 2}, ("text", "a", "b"), 16)
    assert two.seconds_here == 5 + 100 * 8 / 2, "b has two actors, and twelve cores are idle"
    assert one.output_bytes == 1000 * 200 + 20 * 1000


def test_command(
    tmp_path: Path,
    multi_head_folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It says what was counted, measured and expected, for people and for programs, and writes nothing."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    put(tmp_path, "in/date=1/a.parquet", documents(32))
    put(tmp_path, "in/date=2/b.parquet", documents(48, first=32))
    before = sorted(tmp_path.rglob("*"))
    model = f"models.main.path={multi_head_folder}"
    command = ["estimate", str(tmp_path / "in"), "--set", model, "--sample", "20"]
    assert cli.run(command) == 0
    out, err = capsys.readouterr()
    assert err == ""
    for part in ("80 documents in 2 files", "32 documents in ", "documents a second", "about", "assumed: "):
        assert part in out
    assert cli.run([*command, "--json", "--where", "date=2"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["documents"], found["files"], found["sample"]["documents"]) == (48, 1, 32)
    assert set(found["sample"]["stages"]) == {"text", "main"}
    assert found["here"]["actors"] == {"main": 1}, "one fragment keeps one actor busy"
    rate, load = found["documents_per_second"], found["sample"]["load_seconds"]
    assert found["by_actors"][1] == {"actors": 2, "seconds": pytest.approx(load + 48 / rate / 2)}
    assert found["output"]["files"] == 1
    assert found["output"]["bytes"] > 48 * 100
    assert found["peak_memory"] > 10**7
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--sample", "much"], "expected a share"),
        (["--set", "input.text_column=body"], "no column 'body'"),
        (["--set", "models.main.num_cpus=4096"], "no node has both"),
        (["--where", "date=1"], "no partition"),
    ],
)
def test_what_is_refused(
    tmp_path: Path,
    multi_head_folder: Path,
    options: list[str],
    reason: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One line, exit code 2."""
    put(tmp_path, "in/a.parquet", documents(2))
    command = ["estimate", str(tmp_path / "in"), "--set", f"models.main.path={multi_head_folder}", *options]
    assert cli.run(command) == 2
    err = capsys.readouterr().err
    assert reason in err
    assert err.count("\n") == 1


def test_a_corpus_without_documents(tmp_path: Path, multi_head_folder: Path) -> None:
    """There is nothing to take a sample of."""
    put(tmp_path, "in/a.parquet", documents(0))
    assert cli.run(["estimate", str(tmp_path / "in"), "--set", f"models.main.path={multi_head_folder}"]) == 2
