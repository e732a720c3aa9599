"""The command line: what it prints, where, and its exit codes. What commands run is replaced by fakes."""

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from pyarrow.dataset import dataset

from luke_batch import cli
from luke_batch.base.errors import IncompleteError, InputError, LukeBatchError
from luke_batch.config import JobConfig
from luke_batch.corpus import reader
from luke_batch.corpus.drift import Drift, KindDrift
from luke_batch.corpus.leftovers import Removed
from luke_batch.corpus.manifest import Forecast
from luke_batch.corpus.statistics import Statistics
from luke_batch.distributed import run as runner

_ROOT = Path(__file__).parents[2]


class _FakeRun:
    """Stands in for `distributed.run.annotate`: records its arguments, then returns a report or raises."""

    def __init__(self) -> None:
        self.called_with: tuple[Any, ...] = ()
        self.error: BaseException | None = None
        self.report: dict[str, Any] = {}

    def __call__(
        self,
        input: str,
        output: str,
        config: JobConfig,
        address: str | None,
        *,
        where: Sequence[str] = (),
        quiet: bool = False,
        confirm_vanished: bool = False,
    ) -> SimpleNamespace:
        """As the real one."""
        self.confirmed = confirm_vanished
        self.called_with = (input, output, config, address, quiet, *where)
        if self.error is not None:
            raise self.error
        return _report(**self.report)


def _report(
    *,
    exit_code: int = 0,
    missing: tuple[str, ...] = (),
    dead: int = 0,
    warnings: tuple[str, ...] = (),
    nothing: bool = False,
    forecast: dict[str, Any] | None = None,
    drift: Drift | None = None,
) -> SimpleNamespace:
    states = {"new": SimpleNamespace(rows=10), "done": SimpleNamespace(rows=0)}
    output = SimpleNamespace(url="s3://user:hunter2@bucket/out")
    outcome = SimpleNamespace(documents=10, fragments=2, dead_documents=dead, dead_files=0, missing=missing)
    return SimpleNamespace(
        run_id="the-run",
        exit_code=exit_code,
        plan=SimpleNamespace(output=output, tallies=states),
        outcome=outcome,
        tally=SimpleNamespace(
            documents=10 - dead,
            failures=[],
            statistics=Statistics(labels={"mentions": {"PER": [3], "LOC": [0, 1]}, "relations": {}}),
        ),
        warnings=list(warnings),
        seconds=2.0,
        nothing_to_do=nothing,
        forecast=forecast,
        drift=drift,
        removed=Removed(),
    )


@pytest.fixture
def fake_run(monkeypatch: pytest.MonkeyPatch) -> _FakeRun:
    """A run without Ray, models or files."""
    fake = _FakeRun()
    monkeypatch.setattr(runner, "annotate", fake)
    monkeypatch.delenv("LUKE_BATCH_DEBUG", raising=False)
    return fake


Captured = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Captured:
    """Runs a command: exit code, standard output, standard error."""

    def call(*arguments: str) -> tuple[int, str, str]:
        code = cli.run(arguments)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def test_annotate_hands_over_what_it_was_told(
    fake_run: _FakeRun, command: Captured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """File, environment and --set reach the run as one configuration, and the address as it is."""
    path = tmp_path / "job.yaml"
    path.write_text("input: {text_column: body}")
    monkeypatch.setenv("LUKE_BATCH__INPUT__LANG_COLUMN", "lang")
    options = ["--config", str(path), "--set", "output.max_rows=5", "--set", "heads.0.decode=nested"]
    assert command("annotate", "IN", "OUT", *options, "--address", "host:6379")[0] == 0
    config = fake_run.called_with[2]
    assert fake_run.called_with[:2] == ("IN", "OUT")
    assert fake_run.called_with[3:] == ("host:6379", False)
    assert (config.input.text_column, config.input.lang_column, config.output.max_rows) == ("body", "lang", 5)
    assert config.heads[0].decode == "nested"


def test_annotate_hands_over_the_confirmation(fake_run: _FakeRun, command: Captured) -> None:
    """Of what has vanished, for this run alone."""
    assert command("annotate", "IN", "OUT", "--confirm-vanished")[0] == 0
    assert fake_run.confirmed
    assert command("annotate", "IN", "OUT")[0] == 0
    assert not fake_run.confirmed


def test_annotate_hands_over_the_restriction(fake_run: _FakeRun, command: Captured) -> None:
    """`--where` may be repeated."""
    assert command("annotate", "IN", "OUT", "--where", "date=1", "--where", "date=2")[0] == 0
    assert fake_run.called_with[5:] == ("date=1", "date=2")


def test_a_run_ends_with_a_summary(fake_run: _FakeRun, command: Captured) -> None:
    """Counts, rate, dead letters, place and verdict are on standard output; passwords are not."""
    fake_run.report = {"dead": 1, "warnings": ("INPUT has a column mentions",)}
    code, out, err = command("annotate", "IN", "OUT")
    assert (code, err) == (0, "")
    for part in (
        "10 in INPUT (10 new)",
        "9 in 2.0 s, 4.5 a second",
        "1 documents, 0 files",
        "s3://bucket/out",
    ):
        assert part in out
    assert "warning: INPUT has a column mentions" in out
    assert "hunter2" not in out
    assert "\x1b" not in out, "colours are for terminals"


def test_a_run_says_how_good_its_forecast_was(fake_run: _FakeRun, command: Captured) -> None:
    """Forecast, actual time and their ratio, and which run it came from; without a forecast, nothing."""
    fake_run.report = {"forecast": Forecast(4.0, 2.5, "run-0", 50, True).compared(5.0)}
    assert "4.0 s, took 5.0 s: 1.25 times as long (by run run-0, 50 documents)" in command("annotate", "IN", "OUT")[1]
    found = json.loads(command("annotate", "IN", "OUT", "--json")[1])["forecast"]
    assert (found["seconds"], found["actual_seconds"], found["ratio"]) == (4.0, 5.0, 1.25)
    fake_run.report = {"forecast": Forecast(4.0, 2.5, "run-0", 50, False).compared(5.0)}
    assert "50 documents, which had another model or settings)" in command("annotate", "IN", "OUT")[1]
    fake_run.report = {}
    assert "forecast" not in command("annotate", "IN", "OUT")[1]


def test_a_run_says_what_it_found_and_how_that_differs(fake_run: _FakeRun, command: Captured) -> None:
    """Labels with their shares, most first; the drift from the run before, and code 5 beyond the limit."""
    drift = Drift("run-0", True, {"mentions": KindDrift(0.25, 0.01, 400, 300)})
    fake_run.report = {"drift": drift}
    out = command("annotate", "IN", "OUT")[1]
    assert "mentions      4 (PER 75%, LOC 25%)" in out
    assert "drift         label shares differ from run run-0: mentions by 0.250" in out
    assert "luke-batch report s3://bucket/out --html FILE" in out
    fake_run.report = {"drift": drift, "exit_code": 5}
    code, out, err = command("annotate", "IN", "OUT", "--quiet")
    assert (code, out) == (5, "")
    assert err == (
        "error: complete, but label shares differ from run run-0: mentions by 0.250: more than"
        " output.drift_limit allows\n"
    )
    found = json.loads(command("annotate", "IN", "OUT", "--json")[1])
    assert found["drift"]["kinds"]["mentions"]["distance"] == 0.25
    assert found["labels"] == {"mentions": {"PER": 3, "LOC": 1}, "relations": {}}


def test_a_run_with_nothing_to_do_says_so(fake_run: _FakeRun, command: Captured) -> None:
    """A second run tells that all is done."""
    fake_run.report = {"nothing": True}
    assert command("annotate", "IN", "OUT")[1].startswith("Nothing to do: all 10 documents are committed")


@pytest.mark.parametrize(
    ("report", "verdict"),
    [
        ({"exit_code": 3, "dead": 4}, "more than output.error_budget allows"),
        ({"exit_code": 4, "missing": ("a.parquet rows 0-5",)}, "1 fragments are not committed"),
    ],
)
def test_the_exit_code_is_that_of_the_run(
    fake_run: _FakeRun, command: Captured, report: dict[str, Any], verdict: str
) -> None:
    """Codes 3 and 4 come with their reason, in quiet mode on standard error alone."""
    fake_run.report = report
    code, out, _ = command("annotate", "IN", "OUT")
    assert code == report["exit_code"]
    assert verdict in out
    code, out, err = command("annotate", "IN", "OUT", "--quiet")
    assert (code, out) == (report["exit_code"], "")
    assert err.startswith("error: ")
    assert verdict in err


def test_a_quiet_run_prints_nothing(fake_run: _FakeRun, command: Captured) -> None:
    """Silence means success."""
    assert command("annotate", "IN", "OUT", "--quiet") == (0, "", "")
    assert fake_run.called_with[-1] is True


def test_a_program_reads_one_json_object(fake_run: _FakeRun, command: Captured) -> None:
    """With --json, standard output is one object and nothing else."""
    fake_run.report = {"dead": 1}
    code, out, _ = command("annotate", "IN", "OUT", "--json")
    found = json.loads(out)
    assert code == 0
    assert (found["annotated"], found["documents"], found["dead_documents"]) == (9, 10, 1)
    assert found["planned"] == {"new": 10, "done": 0}
    assert "hunter2" not in out


def test_the_demo_annotates_the_embedded_corpus_and_shows_it(
    fake_run: _FakeRun, command: Captured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The corpus of the package goes into the given folder; an excerpt and the place of the files are
    shown.
    """
    row = {
        "lang": "en",
        "title": "A title",
        "text": "Some text.",
        "sentences": [],
        "mentions": [],
        "relations": [],
    }
    monkeypatch.setattr(reader, "read", lambda _: dataset(pa.Table.from_pylist([row])))
    code, out, _ = command("demo", "--output", str(tmp_path))
    corpus, output, config, address, _ = fake_run.called_with
    assert (code, output, address) == (0, str(tmp_path), "local")
    assert config.heads == JobConfig().heads
    assert set(pq.read_schema(corpus).names) == {"id", "lang", "title", "text"}
    assert "A title (en)" in out
    assert "Some text." in out
    assert f"{tmp_path}/data/**/*.parquet" in out


def test_an_incomplete_demo_says_so(fake_run: _FakeRun, command: Captured, tmp_path: Path) -> None:
    """Without its output there is nothing to show an excerpt of."""
    fake_run.report = {"exit_code": 4, "missing": ("corpus.parquet rows 0-5",)}
    code, out, _ = command("demo", "--output", str(tmp_path))
    assert code == 4
    assert "missing: corpus.parquet rows 0-5" in out


@pytest.mark.parametrize(
    ("error", "code"),
    [(InputError("no file at IN"), 2), (IncompleteError("stopped"), 4), (LukeBatchError("a defect"), 1)],
)
def test_an_error_of_ours_is_one_line_with_its_code(
    fake_run: _FakeRun, command: Captured, error: LukeBatchError, code: int
) -> None:
    """No traceback, and the message as it is."""
    fake_run.error = error
    assert command("annotate", "IN", "OUT") == (code, "", f"error: {error}\n")


def test_an_unexpected_error_is_one_line_unless_asked(
    fake_run: _FakeRun, command: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--debug, wherever it stands, and LUKE_BATCH_DEBUG show where it happened."""
    fake_run.error = ZeroDivisionError("some\nthing")
    code, _, err = command("annotate", "IN", "OUT")
    assert (code, err) == (1, "error: unexpected ZeroDivisionError: some thing; --debug shows where\n")
    assert "Traceback" in command("annotate", "IN", "OUT", "--debug")[2]
    assert "Traceback" in command("--debug", "annotate", "IN", "OUT")[2]
    monkeypatch.setenv("LUKE_BATCH_DEBUG", "1")
    assert "Traceback" in command("annotate", "IN", "OUT")[2]


def test_an_interrupted_run_is_incomplete(fake_run: _FakeRun, command: Captured) -> None:
    """Ctrl-C ends with exit code 4 and says how to go on."""
    fake_run.error = KeyboardInterrupt()
    code, _, err = command("annotate", "IN", "OUT")
    assert code == 4
    assert "run the same command again" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["annotate", "IN"], "Missing argument 'OUTPUT'"),
        (["annotate", "IN", "OUT", "--nope"], "No such option"),
        (["nope"], "No such command 'nope'"),
        (["config"], "Missing command"),
        (["annotate", "IN", "OUT", "--set", "input.text_colum=x"], "did you mean `text_column`?"),
        (["annotate", "IN", "OUT", "--config", "nope.yaml"], "nope.yaml: cannot read the configuration"),
        (["models", "convert", "/no/such/folder", "DST"], "/no/such/folder"),
    ],
)
def test_bad_usage_ends_with_two(command: Captured, fake_run: _FakeRun, arguments: list[str], message: str) -> None:
    """One line names what is wrong, and nothing has run."""
    code, out, err = command(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert message in err
    assert message in err.splitlines()[0], "beside it, that there is no INPUT"
    assert fake_run.called_with == ()


def test_the_shown_configuration_gives_itself(command: Captured, tmp_path: Path) -> None:
    """What `config show` prints is a configuration file with the same meaning."""
    code, out, _ = command("config", "show", "--set", "heads.1.threshold=0.3")
    assert code == 0
    assert JobConfig.model_validate(yaml.safe_load(out)).heads[1] != JobConfig().heads[1]
    path = tmp_path / "job.yaml"
    path.write_text(out)
    assert command("config", "show", "--config", str(path))[1] == out


def test_the_schema_describes_every_key(command: Captured) -> None:
    """The JSON schema of the configuration has a description for every field."""
    schema = json.loads(command("config", "schema")[1])
    sections = [schema, *schema["$defs"].values()]
    assert {"JobConfig"} | set(schema["$defs"]) >= {"NerConfig", "OutputConfig", "ModelConfig"}
    for section in sections:
        assert section["additionalProperties"] is False
        assert section["description"]


def test_help_and_version_succeed(command: Captured) -> None:
    """No arguments mean help."""
    assert command("--help") == command()
    assert command("--version")[1].startswith("luke-batch ")


def test_the_job_takes_the_arguments_of_annotate() -> None:
    """`python jobs/annotate.py` is `luke-batch annotate` and ends with its exit code."""
    program = [sys.executable, str(_ROOT / "jobs" / "annotate.py")]
    done = subprocess.run([*program, "IN"], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 2
    assert "Missing argument 'OUTPUT'" in done.stderr
