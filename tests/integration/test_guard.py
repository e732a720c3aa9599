"""Documents that hang or end their process: each is failed, alone, and with its reason."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pyarrow as pa
import pytest

from luke_batch.annotate.annotator import with_error
from luke_batch.base import meters
from luke_batch.base.errors import CheckpointError, ResourceError, UsageError
from luke_batch.config import GazetteerConfig, IsolationConfig, JobConfig, ModelConfig, ProposerConfig
from luke_batch.isolation.guard import Guard, memory_limit
from luke_batch.isolation.messages import from_stream, to_stream

PATIENCE = 1.5
"""Seconds: short for a test, long for a process on a busy core."""
POISON = str(Path(__file__).parents[1] / "poison")


@pytest.fixture(autouse=True)
def poisonous(monkeypatch: pytest.MonkeyPatch) -> None:
    """Child processes obey `POISON(deed@stage)`."""
    monkeypatch.syspath_prepend(POISON)


@pytest.fixture
def guard() -> Iterator[Guard]:
    """The text stages, with little patience and memory."""
    config = JobConfig(isolation=IsolationConfig(seconds=PATIENCE, memory_gb=1))
    with Guard(config, None) as made:
        yield made


def run(guard: Guard, *texts: str | None) -> list[tuple[str, str] | None]:
    """(error class, message) of each text, or None; the good ones have their sentences."""
    table = pa.table({"text": pa.array(texts, pa.string())})
    done = with_error(from_stream(guard(to_stream(table)))).to_pylist()
    assert [row["text"] for row in done] == list(texts)
    assert [row["sentences"] is None for row in done] == [row["error"] is not None for row in done]
    return [row["error"] and (row["error"]["error_class"], row["error"]["message"]) for row in done]


@pytest.mark.parametrize(
    ("deed", "error_class", "reason"),
    [
        ("raise", "ZeroDivisionError", "a defect"),
        ("end", "CrashError", "exit status 7"),
        ("kill", "CrashError", "SIGKILL"),
        ("hang", "HangError", "no progress for 1.5 seconds"),
        ("hold", "HangError", "isolation.seconds is 1.5"),
        ("allocate", "MemoryError", "nable to allocate"),
        ("abort", "CrashError", "SIGABRT"),
    ],
)
def test_one_among_good_ones(guard: Guard, deed: str, error_class: str, reason: str) -> None:
    """The others have their results, and the next table too."""
    errors = run(guard, "One. Two.", f"POISON({deed}@segment)", None, "Three.")
    assert [error is None for error in errors] == [True, False, True, True]
    assert errors[1] is not None
    assert errors[1][0] == error_class
    assert reason in errors[1][1]
    assert run(guard, "Four.", "") == [None, None]


def test_several_of_all_kinds(guard: Guard) -> None:
    """Each has its own reason."""
    errors = run(guard, *(f"POISON({deed}@segment)" for deed in ("kill", "raise", "hang", "end")), "Good.")
    classes = [error and error[0] for error in errors]
    assert classes == ["CrashError", "ZeroDivisionError", "HangError", "CrashError", None]


def test_a_process_that_is_killed_from_outside_fails_nobody(guard: Guard) -> None:
    """Between tables, and in the middle of one."""
    os.kill(guard.process_id, signal.SIGKILL)
    assert run(guard, "One.") == [None]
    os.kill(guard.process_id, signal.SIGKILL)
    assert run(guard) == []
    killer = subprocess.Popen(
        [sys.executable, "-c", f"import os, time; time.sleep(0.05); os.kill({guard.process_id}, 9)"]
    )
    assert not any(run(guard, *["A sentence. " * 40] * 2000))
    assert killer.wait() == 0


def test_counts_come_with_the_answers(guard: Guard) -> None:
    """What a child has counted is counted here; of one that is lost, the time and its successor's start."""
    meters.take()
    run(guard, "One. Two.", "Three.")
    counted = meters.take()
    assert counted["sentences"] == 3
    assert counted["seconds/segment"] > 0
    assert counted["memory_bytes"] > 10**7
    run(guard, "POISON(end@segment)", "Four.")
    counted = meters.take()
    assert counted["sentences"] == 1, "the first answer was lost with its counts"
    assert counted["loads"] == 3
    assert counted["seconds/load"] > 0
    assert counted["seconds/lost"] > 0


def test_patience_grows_with_the_text() -> None:
    """It is that of each 1,000 characters of the longest text, three times."""
    started = time.monotonic()
    with Guard(JobConfig(isolation=IsolationConfig(seconds=0.5)), None) as guard:
        errors = run(guard, "POISON(hang@segment)" + "." * 1980)
    assert errors[0] is not None
    assert "no progress for 1 seconds" in errors[0][1]
    assert time.monotonic() - started >= 3


@pytest.mark.parametrize("deed", ["hang", "hold"])
def test_the_child_does_not_outlive_its_parent(deed: str) -> None:
    """Even in native code that holds the interpreter, and after a kill -9."""
    code = f"""
import pyarrow as pa
from luke_batch.config import JobConfig
from luke_batch.isolation.guard import Guard
from luke_batch.isolation.messages import to_stream
guard = Guard(JobConfig(), None)
print(guard.process_id, flush=True)
guard(to_stream(pa.table({{"text": ["POISON({deed}@segment)"]}})))
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment)
    assert parent.stdout is not None
    with parent.stdout:
        child = psutil.Process(int(parent.stdout.readline()))
    time.sleep(0.3)
    parent.kill()
    parent.wait()
    with suppress(psutil.NoSuchProcess):
        child.wait(timeout=5)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def test_what_is_the_job_s_is_raised(tmp_path: Path) -> None:
    """With its own class, and the child is gone."""
    missing = ProposerConfig(gazetteer=GazetteerConfig(path=str(tmp_path / "names.csv")))
    config = JobConfig.model_validate({"proposers": missing, "heads": [{"head": "ner", "spans": "gazetteer"}]})
    with pytest.raises(UsageError, match=r"names\.csv"):
        Guard(config, None)
    with pytest.raises(CheckpointError, match="no-model"):
        Guard(JobConfig(models={"main": ModelConfig(path=str(tmp_path / "no-model"))}), 0)


def test_too_little_memory_for_the_model(checkpoint: Path) -> None:
    """It is not a document's: the message names the setting."""
    models = {"main": ModelConfig(path=str(checkpoint))}
    with pytest.raises(ResourceError, match=r"cannot be loaded.*isolation\.memory_gb"):
        Guard(JobConfig(models=models, isolation=IsolationConfig(memory_gb=0.05)), 0)


def test_memory_limit() -> None:
    """Gigabytes, half of what there is, or none."""
    assert memory_limit(1.5) == 1_500_000_000
    assert memory_limit(None) is None
    automatic = memory_limit("auto")
    assert automatic is not None
    assert 0 < automatic <= psutil.virtual_memory().total / 2
