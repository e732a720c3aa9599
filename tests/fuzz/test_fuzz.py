"""Input that nobody would write: no crash, no lost row, no hang.

`make test` tries a few hundred cases; `make fuzz` at least 20,000 (LUKE_BATCH_FUZZ=CASES), with new ones
every time. The whole way of a run is walked but for Ray: plan, read, segment, propose, heads, commit,
judgement.
"""

import io
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from luke_batch import Annotator, JobConfig
from luke_batch.base.errors import ConfigError
from luke_batch.config import InputConfig, OutputConfig
from luke_batch.config.loading import load_config
from luke_batch.corpus.commit import RunContext
from luke_batch.corpus.outcome import reconcile, report_bad_files
from luke_batch.corpus.plan import make_plan
from luke_batch.corpus.read import read_item
from luke_batch.corpus.sources import Restriction
from luke_batch.corpus.storage import Storage
from tests.checkpoints import make_multi_head
from tests.corpora import FINGERPRINT, WRITTEN, commit
from tests.raw_texts import any_text, languages

CASES = int(os.environ.get("LUKE_BATCH_FUZZ", "200"))
SHARES = {"configuration": 0.55, "bytes": 0.15, "documents": 0.15, "spans": 0.15}
"""Of the cases; a configuration is tried in a millisecond, a document in ten."""
LONG = CASES > 1000
Test = Callable[..., None]


def fuzz(share: str) -> Callable[[Test], Test]:
    """So many cases, the same ones every time unless there are many."""
    return settings(
        max_examples=max(1, round(CASES * SHARES[share])),
        derandomize=not LONG,
        deadline=30_000,  # a hang, on whatever machine
        database=None,
        suppress_health_check=[
            HealthCheck.too_slow,
            HealthCheck.data_too_large,
            HealthCheck.large_base_example,
        ],
    )


# Configurations: valid ones with parts replaced by anything that YAML can say.
_KEYS = st.sampled_from(sorted({*JobConfig.model_fields, "head", "spans", "main", "path", "actors", "max_rows"}))
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(["all", "ner"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS | st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
_DEFAULTS = JobConfig().model_dump(mode="json")


@st.composite
def configurations(draw: st.DrawFn) -> object:
    """Anything, or a section of the defaults with one value replaced."""
    if draw(st.integers(0, 3)) == 0:
        return draw(_VALUES)
    name = draw(st.sampled_from(sorted(_DEFAULTS)))
    section = _DEFAULTS[name]
    if isinstance(section, list):
        entry = dict(draw(st.sampled_from(section)))
        entry[draw(st.sampled_from(sorted(entry)) | _KEYS)] = draw(_VALUES)
        return {name: [entry]}
    return {name: {**section, draw(st.sampled_from(sorted(section)) | _KEYS): draw(_VALUES)}}


@fuzz("configuration")
@given(tree=configurations(), assignment=st.none() | st.text(max_size=30))
def test_configurations_are_taken_or_refused(tree: object, assignment: str | None) -> None:
    """A valid one survives being written down; of any other is said what is wrong with it."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "job.yaml"
        path.write_text(yaml.safe_dump(tree, allow_unicode=True), encoding="utf-8")
        config, refusal = _load(path, [] if assignment is None else [assignment])
    if config is None:
        assert refusal.strip()
        assert "Traceback" not in refusal
        return
    assert JobConfig.model_validate_json(config.model_dump_json()) == config


def _load(path: Path, assignments: list[str]) -> tuple[JobConfig | None, str]:
    """The configuration, or what is said against it."""
    try:
        return load_config(str(path), assignments, {}), ""
    except ConfigError as error:
        return None, str(error)


# Parquet: a real file, damaged.
@cache
def parquet_file() -> bytes:
    """Ten documents in three row groups, with statistics and a dictionary."""
    table = pa.table(
        {
            "id": [f"d{row}" for row in range(10)],
            "text": [f"Łódź grows. Row {row} ends." for row in range(10)],
            "kind": pa.array(["a", "b"] * 5).dictionary_encode(),
        }
    )
    sink = io.BytesIO()
    pq.write_table(table, sink, row_group_size=4)
    return sink.getvalue()


@st.composite
def damaged_files(draw: st.DrawFn) -> bytes:
    """Bytes changed, cut, repeated or inserted; the footer is hit as often as the data."""
    content = bytearray(parquet_file())
    for _ in range(draw(st.integers(1, 4))):
        half = len(content) // 2
        place = draw(st.integers(0, half) | st.integers(half, max(half, len(content) - 1)))
        match draw(st.integers(0, 3)):
            case 0:
                content[place : place + 1] = bytes([draw(st.integers(0, 255))])
            case 1:
                del content[place : place + draw(st.integers(1, 64))]
            case 2:
                content[place:place] = draw(st.binary(min_size=1, max_size=16))
            case _:
                content = content[: draw(st.integers(0, len(content)))]
    return bytes(content)


@fuzz("bytes")
@given(content=damaged_files())
def test_damaged_parquet_loses_no_row(content: bytes) -> None:
    """Whatever the bytes: the run ends complete, and each row that the footer promises is committed or has a
    dead letter.
    """
    with TemporaryDirectory() as folder:
        source = Path(folder) / "in"
        source.mkdir()
        (source / "a.parquet").write_bytes(content)
        pq.write_table(pa.table({"id": ["x"], "text": ["A good file."]}), source / "b.parquet")
        outcome, rows = _run(source, Path(folder) / "out", JobConfig(output=OutputConfig(max_rows=3)))
        assert outcome.complete, outcome.missing
        assert rows + outcome.dead_documents >= 1
        if not outcome.dead_files and not outcome.unreadable:
            assert rows + outcome.dead_documents == outcome.documents


def _run(source: Path, output: Path, config: JobConfig) -> tuple[Any, int]:
    """Plan, read and commit in this process, annotations made without a model; the judgement and the rows."""
    storage = Storage.at(str(output))
    plan = make_plan(str(source), storage, config, FINGERPRINT, Restriction.parse([]))
    context = RunContext("fuzz", FINGERPRINT, WRITTEN, config.input)
    rows = 0
    for item in plan.items:
        read = read_item(plan.source, item, config.input)
        rows += sum(done.rows for done in commit(plan, read, context))
    report_bad_files(plan, "fuzz")
    return reconcile(plan, "fuzz"), rows


# Documents and given spans, through all heads.
GIVEN = pa.list_(pa.struct([("start", pa.int64()), ("end", pa.int64()), ("label", pa.string())]))
PAIRS = pa.list_(pa.struct([("head", pa.int64()), ("tail", pa.int64())]))


@pytest.fixture(scope="module")
def annotator(tmp_path_factory: pytest.TempPathFactory) -> Annotator:
    """Three heads with random weights, on given mentions and on those that they propose."""
    folder = make_multi_head(tmp_path_factory.mktemp("checkpoint"))
    return Annotator.from_config(
        JobConfig.model_validate(
            {
                "input": InputConfig(
                    lang_column="lang", mentions_column="given", relations_column="pairs"
                ).model_dump(),
                "models": {"main": {"path": str(folder)}},
                "heads": [
                    {"head": "ner", "spans": ["given", "auto"]},
                    {"head": "types"},
                    {"head": "relations", "pairs": "given"},
                    {"head": "embeddings"},
                ],
            }
        )
    )


def _check(annotator: Annotator, table: pa.Table) -> None:
    """Every document comes back once and in its place, annotated within its text or with its error."""
    done = annotator.annotate(table).to_pylist()
    assert [row["text"] for row in done] == table["text"].to_pylist()
    for row in done:
        if row["error"] is not None:
            assert row["mentions"] is None
            assert row["error"]["error_class"] in {"DocumentError"}, row["error"]
            continue
        for mention in row["mentions"]:
            assert row["text"][mention["start"] : mention["end"]] == mention["text"] != ""
        for relation in row["relations"] or ():
            assert 0 <= relation["head"] < len(row["mentions"]) > relation["tail"] >= 0


def _table(rows: list[tuple[str | None, str | None, Any, Any]]) -> pa.Table:
    texts, tongues, given_mentions, pairs = zip(*rows, strict=True)
    return pa.table(
        {
            "text": pa.array(texts, pa.string()),
            "lang": pa.array(tongues, pa.string()),
            "given": pa.array(given_mentions, GIVEN),
            "pairs": pa.array(pairs, PAIRS),
        }
    )


@fuzz("documents")
@given(texts=st.lists(st.tuples(st.none() | any_text, languages), min_size=1, max_size=2))
def test_any_document_is_annotated(annotator: Annotator, texts: list[tuple[str | None, str | None]]) -> None:
    """Texts of any characters: none of them fails."""
    table = _table([(text, language, [], []) for text, language in texts])
    _check(annotator, table)
    assert annotator.annotate(table)["error"].null_count == len(texts)


_OFFSETS = st.integers(-2, 40) | st.sampled_from([2**31 - 1, 2**31, -(2**31) - 1, 2**63 - 1]) | st.none()
_MENTIONS = st.lists(
    st.none() | st.fixed_dictionaries({"start": _OFFSETS, "end": _OFFSETS, "label": st.none() | st.text(max_size=3)}),
    max_size=5,
)
_PAIRED = st.lists(st.fixed_dictionaries({"head": _OFFSETS, "tail": _OFFSETS}), max_size=4)


@fuzz("spans")
@given(
    bad=st.tuples(any_text, st.just("en"), st.none() | _MENTIONS, st.none() | _PAIRED),
    good=st.integers(0, 8),
)
def test_given_spans_are_taken_or_fail_their_document_alone(
    annotator: Annotator, bad: tuple[str, str, Any, Any], good: int
) -> None:
    """Whatever the offsets: their document is annotated or failed, and its neighbour is annotated."""
    neighbour = (
        "Marie Curie was born in Warsaw.",
        "en",
        [{"start": good, "end": good + 3, "label": None}],
        [],
    )
    _check(annotator, _table([bad, neighbour]))
    assert annotator.annotate(_table([bad, neighbour]))["error"][1].as_py() is None
