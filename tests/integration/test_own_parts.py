"""A head, a proposer and a column that somebody else might bring: each whole in this file, and run from it alone."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import pytest
from pydantic import Field, ValidationError

import luke_batch
from luke_batch.annotate.annotator import Annotator
from luke_batch.base import contracts
from luke_batch.base.arrays import IntArray
from luke_batch.base.errors import ConfigError
from luke_batch.base.section import Section
from luke_batch.config import JobConfig, ProposerConfig
from luke_batch.config.fingerprint import fingerprint, weights_fact
from luke_batch.distributed.run import annotate
from luke_batch.document.state import Document
from luke_batch.heads import registry
from luke_batch.heads.frames import Frames, as_mentions, candidates, group_by_sentence
from luke_batch.heads.head import Annotation, Head, Setup, SpanHeadConfig, ask
from luke_batch.model.files.checkpoint import Checkpoint
from luke_batch.model.inputs.windows import Window
from luke_batch.model.task import Reads, Task
from luke_batch.text import proposers
from luke_batch.text.proposer import Proposer
from tests.corpora import put
from tests.integration.conftest import approximately, documents


class CapitalsConfig(Section):
    """The settings of `spans: capitals`, below `proposers.capitals`."""

    letters: Annotated[int, Field(ge=1)] = 1
    """Least number of letters of a word."""


class CapitalsProposer(Proposer):
    """Words that begin with a capital letter."""

    interface = 1
    name = "capitals"
    section = "capitals"
    settings = CapitalsConfig
    version = 1

    def __init__(self, settings: CapitalsConfig) -> None:
        self._letters = settings.letters

    def find(self, text: str, words: IntArray) -> IntArray:
        """See Proposer."""
        long = [(a, b) for a, b in words.tolist() if text[a].isupper() and b - a >= self._letters]
        return np.array(long, np.int32).reshape(-1, 2)


class LoudnessConfig(SpanHeadConfig):
    """The settings of `head: loudness`."""

    head: Literal["loudness"] = "loudness"
    columns = ("loudness",)
    digits: int = 3
    """Of the numbers that are written."""


class LoudnessHead(Head):
    """How long the vector of each mention is: a column of its own, which the contract does not know."""

    interface = 1
    settings = LoudnessConfig
    version = 1
    task = Task(Reads.ENTITY_STATES, "embeddings")
    contract: ClassVar = {"loudness": {"list": {"struct": {"text": "string", "length": "float32"}}}}

    def __init__(self, config: LoudnessConfig, setup: Setup, checkpoint: Checkpoint) -> None:  # noqa: ARG002 - as heads have it
        self._config = config
        self._setup = setup

    @classmethod
    def require(cls, config: Any, checkpoint: Checkpoint) -> None:
        """Every checkpoint has vectors."""

    def annotate(self, document: Document) -> Annotation:
        """One window a sentence."""
        spans = candidates(document, self._config.spans, self._setup.max_words)
        document.merge_mentions(as_mentions(document, spans, self._config.spans))
        frames = Frames(document, self._setup.builder, whole_document=False)
        nothing = np.empty(0, np.int32)
        parts = frames.split(group_by_sentence(document, spans))
        windows: list[Window] = [self._setup.builder.mention_window(part.tokens, nothing, nothing) for part in parts]
        answer = yield from ask(document, self.task, windows)
        lengths = {
            int(place): round(float(np.linalg.norm(vector)), self._config.digits)
            for part, vectors in zip(parts, answer, strict=True)
            for place, vector in zip(part.which, vectors, strict=True)
        }
        document.results["loudness"] = [
            {"text": document.text[start:end], "length": lengths[place]}
            for place, (start, end) in enumerate(spans.tolist())
        ]


TEXT = "Marie Curie was born in Warsaw. She moved to Paris."
CONFIG = {
    "heads": [
        {"head": "loudness", "spans": "capitals"},
        {"head": "embeddings", "spans": "previous", "of": "mentions"},
    ],
    "proposers": {"capitals": {"letters": 4}},
}
WORDS = ["Marie", "Curie", "Warsaw", "Paris"]


@pytest.fixture
def toys() -> Iterator[None]:
    """Both are known while a test runs."""
    known = [(registry._known, "loudness"), (proposers._known, "capitals"), (contracts._ADDED, "annotations")]
    registry.register(LoudnessHead)
    proposers.register(CapitalsProposer)
    yield
    for table, name in known:
        table.pop(name)
    contracts.load_contract.cache_clear()


@pytest.mark.usefixtures("toys")
def test_a_head_a_proposer_and_a_column_of_one_file_run_in_process(checkpoint: Path) -> None:
    """Nothing but this file says what they are; the column is read back by the head after it."""
    job = _job(checkpoint)
    found = Annotator.from_config(job).annotate(pa.table({"id": ["a", "b"], "text": [TEXT, None]}))
    assert found["error"].null_count == 2
    row = found.slice(0, 1).to_pylist()[0]
    assert [mention["text"] for mention in row["mentions"]] == WORDS
    assert [entry["text"] for entry in row["loudness"]] == WORDS
    for entry, vector in zip(row["loudness"], row["mention_embeddings"], strict=True):
        assert entry["length"] == pytest.approx(float(np.linalg.norm(vector)), abs=2e-3)
    assert found["loudness"][1].as_py() == []
    assert not [name for name in found.column_names if name.startswith("_luke_batch")]


@pytest.mark.usefixtures("toys", "ray_session")
def test_they_run_through_ray_and_back(checkpoint: Path, tmp_path: Path) -> None:
    """Workers and child processes know them; the committed rows are those of the Annotator; settings count."""
    table = documents("toys")
    put(tmp_path / "in", "a.parquet", table)
    job = _job(checkpoint)
    assert annotate(str(tmp_path / "in"), str(tmp_path / "out"), job, quiet=True).exit_code == 0
    found = luke_batch.read(str(tmp_path / "out")).to_table()
    expected = Annotator.from_config(job).annotate(table)
    for name in ("mentions", "loudness"):
        ours, theirs = (sorted(zip(t["id"].to_pylist(), t[name].to_pylist(), strict=True)) for t in (found, expected))
        assert ours == approximately(theirs)
    assert any(found["loudness"].to_pylist())
    facts = {weights_fact(str(checkpoint)): "1"}
    other = job.model_copy(update={"proposers": ProposerConfig.model_validate({"capitals": {"letters": 5}})})
    assert fingerprint(job, facts) != fingerprint(other, facts)


@pytest.mark.usefixtures("toys")
def test_what_they_do_not_know_is_refused_by_name() -> None:
    """Their settings are checked like ours, and what nobody has registered is named."""
    for wrong, message in (
        ({"proposers": {"capitals": {"letters": 0}}}, "letters"),
        ({"proposers": {"capital": {}}}, "capital"),
        ({"heads": [{"head": "loudness", "spans": "given"}]}, "input.mentions_column"),
        ({"heads": [{"head": "loudnes"}]}, "loudness"),
    ):
        with pytest.raises((ValidationError, ConfigError), match=message):
            JobConfig.model_validate(CONFIG | wrong)


_PACKAGE = """\
from typing import Literal
from luke_batch.heads.head import Head, HeadConfig

class EchoConfig(HeadConfig):
    head: Literal["echo"] = "echo"
    columns = ("echo",)

class EchoHead(Head):
    {interface}
    settings, version = EchoConfig, 1
    contract = {{"echo": {{"list": "string"}}}}

    def __init__(self, config, setup, checkpoint):
        pass

    @classmethod
    def tasks(cls, config, checkpoint):
        return []

    @classmethod
    def require(cls, config, checkpoint):
        pass

    def annotate(self, document):
        document.results["echo"] = document.text.split()
        yield from ()
"""


@pytest.mark.parametrize(
    ("interface", "message"),
    [
        ("interface = 1", None),
        ("interface = 99", "made for interface 99"),
        ("", "made for interface None"),
        ("interface = 1 / 0", "cannot be imported"),
    ],
)
def test_a_package_of_its_own_brings_a_head(
    interface: str, message: str | None, checkpoint: Path, tmp_path: Path
) -> None:
    """It is installed beside luke-batch and names the head as an entry point: the command runs it on Ray. One that was
    written for another interface is refused with the reason.
    """
    site = tmp_path / "site"
    (site / "echo-2.0.dist-info").mkdir(parents=True)
    (site / "echo.py").write_text(_PACKAGE.format(interface=interface))
    (site / "echo-2.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: echo\nVersion: 2.0\n")
    (site / "echo-2.0.dist-info" / "entry_points.txt").write_text("[luke_batch.heads]\necho = echo:EchoHead\n")
    put(tmp_path / "in", "a.parquet", pa.table({"id": ["a"], "text": [TEXT]}))
    arguments = ["annotate", str(tmp_path / "in"), str(tmp_path / "out"), "--address", "local", "--quiet"]
    settings = [f"--set=models.main.path={checkpoint}", "--set=heads=[{head: echo}]"]
    code = "import sys; from luke_batch.cli import run; sys.exit(run(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments, *settings],
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    if message is None:
        assert done.returncode == 0, done.stderr
        assert luke_batch.read(str(tmp_path / "out")).to_table()["echo"].to_pylist() == [TEXT.split()]
    else:
        assert done.returncode == 2
        (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        assert "echo 2.0" in line
        assert message in line


def _job(checkpoint: Path) -> JobConfig:
    return JobConfig.model_validate({**CONFIG, "models": {"main": {"path": str(checkpoint), "actors": 1}}})
