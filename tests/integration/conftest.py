"""One local Ray and one annotated corpus for all tests that need them: both take tens of seconds to make."""

import logging
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray

from luke_batch import Annotator, JobConfig
from luke_batch.distributed.cluster import own_token
from luke_batch.distributed.run import RunReport, annotate
from tests.checkpoints import make_multi_head
from tests.corpora import put

LANGUAGES = {
    "en": "Marie Curie was born in Warsaw. She moved to Paris and met Pierre Curie.",
    "de": "Johann Wolfgang von Goethe lebte in Weimar. Er schrieb dort den Faust.",
    "fr": "Victor Hugo est né à Besançon. Il a vécu sur l'île de Guernesey.",
    "ja": "夏目漱石は東京で生まれた。ロンドンに留学した。",
    "ar": "ولد نجيب محفوظ في القاهرة. حصل على جائزة نوبل.",
    "pl": "Wisława Szymborska mieszkała w Krakowie. 🙂 Dostała Nagrodę Nobla.",
}
COLUMNS = ("sentences", "mentions", "relations", "mention_embeddings", "text_embedding", "coverage")


def pytest_configure(config: pytest.Config) -> None:
    """Warnings of Ray's making: deprecated settings of its own, and processes whose end it does not await."""
    config.addinivalue_line("filterwarnings", "ignore::DeprecationWarning:ray.data.context")
    config.addinivalue_line("filterwarnings", "ignore:subprocess .* is still running:ResourceWarning")


@dataclass(frozen=True)
class Annotated:
    """A corpus that was annotated once; tests only read it."""

    input: Path
    output: Path
    config: JobConfig
    report: RunReport
    good: pa.Table
    """The documents of INPUT that can be annotated, in the order of files and rows."""


@pytest.fixture(scope="session", autouse=True)
def ray_folder() -> Iterator[None]:
    """Every Ray of these tests is their own, whatever clusters are here or were, and leaves nothing behind."""
    folder = tempfile.mkdtemp(prefix="lb", dir="/tmp")  # sockets below it allow no long path
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_TMPDIR", folder)
        patch.delenv("RAY_ADDRESS", raising=False)
        yield
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def ray_session(ray_folder: None) -> Iterator[None]:  # noqa: ARG001 - it lies there
    """A local Ray with two cores and two logical GPUs, which exist in its books alone."""
    with pytest.MonkeyPatch.context() as patch, own_token():
        patch.setenv("RAY_worker_niceness", "0")  # other work on the machine would starve the workers
        patch.setenv("RAY_metrics_report_interval_ms", "500")  # a test waits for what is reported
        ray.init(
            address="local",
            num_cpus=2,
            num_gpus=2,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
        logging.getLogger("ray.data").setLevel(logging.WARNING)  # pages of it in the report of a failure
        yield
        ray.shutdown()


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small checkpoint with three heads, whose random weights find several labels."""
    return make_multi_head(tmp_path_factory.mktemp("checkpoint"), seed=1)


@pytest.fixture(scope="session")
def config(checkpoint: Path) -> JobConfig:
    """All four heads on that checkpoint, in one actor; fragments of four documents."""
    return config_for(checkpoint)


def config_for(folder: Path, **model: Any) -> JobConfig:
    """Four heads on the checkpoint in `folder`."""
    return JobConfig.model_validate(
        {
            "input": {"lang_column": "lang"},
            "models": {"main": {"path": str(folder), "actors": 1, **model}},
            "output": {"max_rows": 4},
        }
    )


def documents(prefix: str) -> pa.Table:
    """One document for each language, with a pass-through column."""
    return pa.table(
        {
            "id": [f"{prefix}-{language}" for language in LANGUAGES],
            "lang": list(LANGUAGES),
            "text": list(LANGUAGES.values()),
            "year": pa.array(range(2000, 2000 + len(LANGUAGES)), pa.int16()),
        }
    )


def sorted_rows(table: pa.Table) -> list[dict[str, Any]]:
    """Rows by id."""
    return sorted(table.to_pylist(), key=lambda row: row["id"])


def assert_same_annotations(found: pa.Table, table: pa.Table, config: JobConfig) -> None:
    """`found` holds exactly what the in-process Annotator makes of `table`, floats within 1e-5."""
    assert_same_rows(found, Annotator.from_config(config).annotate(table))


def assert_same_rows(found: pa.Table, expected: pa.Table) -> None:
    """The same documents, each once, with the same annotations, floats within 1e-5."""
    ours, theirs = (sorted_rows(rows.select(["id", *COLUMNS])) for rows in (found, expected))
    assert [row["id"] for row in ours] == [row["id"] for row in theirs]
    for mine, other in zip(ours, theirs, strict=True):
        for column in COLUMNS:
            assert mine[column] == approximately(other[column]), (mine["id"], column)


def approximately(value: Any) -> Any:
    """The same nested value, with floats compared within a tolerance."""
    if isinstance(value, float):
        return pytest.approx(value, abs=1e-5)
    if isinstance(value, dict):
        return {name: approximately(member) for name, member in value.items()}
    if isinstance(value, list):
        return [approximately(member) for member in value]
    return value


@pytest.fixture(scope="session")
def annotated(
    tmp_path_factory: pytest.TempPathFactory,
    ray_session: None,  # noqa: ARG001 - it runs there
    config: JobConfig,
) -> Annotated:
    """Two good files, one without rows, four bad ones of different kinds, and one text that is not UTF-8."""
    folder = tmp_path_factory.mktemp("corpus")
    input, output = folder / "in", folder / "out"
    first, second = documents("first"), documents("second")
    put(input, "a/first.parquet", first)
    put(input, "b/second.parquet", with_broken_text(second))
    put(input, "empty.parquet", first.slice(0, 0))
    put(input, "no_text.parquet", first.drop_columns(["text"]))
    put(input, "binary.parquet", first.set_column(2, "text", first["text"].cast(pa.binary())))
    (input / "zero_bytes.parquet").touch()
    whole = (input / "a" / "first.parquet").read_bytes()
    (input / "truncated.parquet").write_bytes(whole[: len(whole) // 2])
    report = annotate(str(input), str(output), config, quiet=True)
    good = pa.concat_tables([first, second.slice(1)])
    return Annotated(input, output, config, report, good)


def with_broken_text(table: pa.Table) -> pa.Table:
    """`table` with bytes that are not UTF-8 as the text of its first row."""
    values = [b"caf\xe9", *(text.as_py().encode() for text in table["text"][1:])]
    broken = pa.array(values, pa.binary()).view(pa.string())
    return table.set_column(table.schema.get_field_index("text"), "text", broken)


def read_data(output: Path) -> pa.Table:
    """All committed rows, file by file in the order of their names."""
    return pa.concat_tables([pq.read_table(path) for path in sorted(output.rglob("data/**/*.parquet"))])
