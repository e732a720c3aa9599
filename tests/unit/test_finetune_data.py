"""The data of fine-tuning: rows, labels, the order of examples, and scores."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.random import Generator

from luke_batch.base.errors import InputError
from luke_batch.heads.head import Labels
from luke_batch.model.inputs.windows import Window
from luke_batch.training.batches import Example, PooledBatches
from luke_batch.training.corpus import Row, read_corpus
from luke_batch.training.examples import relation_places
from luke_batch.training.labels import gives_unrelated, longest_span, read_labels
from luke_batch.training.model import HeadSpec
from luke_batch.training.outputs import HeadOutputs
from luke_batch.training.parallel import WorkerGroup
from luke_batch.training.scoring import calibrated, labels_of, score, threshold_of, written
from luke_batch.training.settings import FinetuneConfig
from tests.annotated_rows import annotated_rows, put_rows

NER = FinetuneConfig(heads=("ner",))


def rows_of(tmp_path: Path, rows: list[dict[str, Any]]) -> list[Row]:
    """The rows as a corpus reads them."""
    return read_corpus("TRAIN", put_rows(tmp_path / "r.parquet", rows)).rows


def sentence(entities: list[tuple[int, int, str | None]], relations: list[tuple[int, int, str]]) -> dict[str, Any]:
    """A row about "Ada met Bo in Rome"."""
    return {
        "text": "Ada met Bo in Rome",
        "entities": [{"start": a, "end": b, "label": label} for a, b, label in entities],
        "relations": [{"head": a, "tail": b, "label": label} for a, b, label in relations],
    }


ADA, BO, ROME = (0, 3), (8, 10), (14, 18)


# Data and labels


def test_unusable_rows_are_counted_by_reason(tmp_path: Path) -> None:
    """Nulls, offsets out of range, relations to nothing and empty texts cost their row, and no other."""
    good = sentence([(*ADA, "PER"), (*BO, "PER")], [(0, 1, "met")])
    rows = [
        good,
        {**good, "text": None},
        {**good, "entities": [{"start": None, "end": 3, "label": "PER"}], "relations": []},
        {**good, "entities": [None], "relations": []},
        {**good, "entities": [{"start": 0, "end": 19, "label": "PER"}], "relations": []},
        {**good, "relations": [{"head": 0, "tail": 2, "label": "met"}]},
        {**good, "relations": [{"head": 0, "tail": 1, "label": None}]},
    ]
    corpus = read_corpus("TRAIN", put_rows(tmp_path / "rows.parquet", rows))
    assert len(corpus.rows) == 1
    assert corpus.skipped == {
        "empty text": 1,
        "offset out of range": 3,
        "relation to no entity": 1,
        "relation without a label": 1,
    }


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (pa.table({"text": ["x"]}), "no column entities"),
        (pa.table({"text": ["x"], "entities": ["x"]}), "'entities' is string"),
        (pa.table({"text": ["x"], "entities": [[{"start": 0}]]}), "list<struct<start, end"),
        (pa.table({"text": ["x"], "entities": [[{"start": 0.5, "end": 1.5}]]}), "list<struct<start, end"),
        (pa.table({"text": ["  "], "entities": [[]]}), "no usable row \\(empty text: 1\\)"),
        (
            pa.table({"text": pa.array([], pa.string()), "entities": pa.array([], pa.null())}),
            "files are empty",
        ),
    ],
)
def test_a_file_that_cannot_be_used_is_refused(tmp_path: Path, table: pa.Table, message: str) -> None:
    """Missing columns, other types and no usable row: an error that names file and cause."""
    pq.write_table(table, tmp_path / "bad.parquet")
    with pytest.raises(InputError, match=message):
        read_corpus("TRAIN", str(tmp_path / "bad.parquet"))


def test_no_file_and_a_broken_file_are_refused(tmp_path: Path) -> None:
    """The message calls the argument by its name."""
    with pytest.raises(InputError, match=r"^DEV .* does not exist"):
        read_corpus("DEV", str(tmp_path / "none.parquet"))
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(InputError, match=r"^TRAIN .*broken\.parquet cannot be read"):
        read_corpus("TRAIN", str(tmp_path))


def test_licences_come_from_a_column_or_a_file(tmp_path: Path) -> None:
    """The card names what the data says of itself."""
    rows = annotated_rows(2)
    put_rows(tmp_path / "a" / "one.parquet", [{**row, "license": "CC0"} for row in rows])
    put_rows(tmp_path / "b" / "two.parquet", rows)
    (tmp_path / "b" / "LICENSE").write_text("\nMIT License\n\nPermission…\n")
    put_rows(tmp_path / "c" / "three.parquet", rows)
    corpus = read_corpus("TRAIN", str(tmp_path))
    assert [(item.name, item.licence) for item in corpus.files] == [
        ("a/one.parquet", "CC0"),
        ("b/two.parquet", "MIT License"),
        ("c/three.parquet", ""),
    ]


def test_label_sets_come_from_the_data(tmp_path: Path) -> None:
    """NIL and no_relation are no labels of their own; several labels of a span or pair: multi-label."""
    plain = rows_of(
        tmp_path,
        [sentence([(*ADA, "PER"), (*BO, "NIL"), (*ROME, "LOC")], [(0, 2, "in"), (2, 0, "no_relation")])],
    )
    assert read_labels("ner", plain, NER).spec == HeadSpec("span", ("NIL", "LOC", "PER"), False, "NIL")
    assert read_labels("types", plain, NER).spec == HeadSpec("entity", ("LOC", "PER"), False, None)
    related = read_labels("relations", plain, NER).spec
    assert related == HeadSpec("pair", ("no_relation", "in"), False, "no_relation")
    several = rows_of(
        tmp_path,
        [sentence([(*ADA, "PER"), (*ADA, "poet"), (*ROME, "LOC")], [(0, 2, "in"), (0, 2, "born")])],
    )
    assert read_labels("types", several, NER).spec.multi_label
    assert read_labels("relations", several, NER).spec == HeadSpec("pair", ("born", "in"), True, None)
    forced = FinetuneConfig(heads=("types",), multi_label="no")
    assert not read_labels("types", several, forced).spec.multi_label
    with pytest.raises(InputError, match="no example of the head ner"):
        read_labels("ner", rows_of(tmp_path, [sentence([(*ADA, None)], [])]), NER)


def test_pairs_without_relation_are_all_or_the_given_ones(tmp_path: Path) -> None:
    """Where the data says `no_relation`, only its pairs are examples; else every ordered pair is."""
    entities: list[tuple[int, int, str | None]] = [(*ADA, "PER"), (*BO, "PER"), (*ROME, "LOC")]
    told = rows_of(tmp_path, [sentence(entities, [(0, 2, "in"), (1, 2, "no_relation")])])
    assert gives_unrelated(told, NER)
    spec = read_labels("relations", told, NER).spec
    pairs = relation_places(told, spec, given=True)
    assert [(*pair.entities, set(pair.labels)) for pair in pairs] == [(0, 2, {"in"}), (1, 2, set())]
    silent = rows_of(tmp_path, [sentence(entities, [(0, 2, "in")])])
    assert not gives_unrelated(silent, NER)
    assert len(relation_places(silent, spec, given=False)) == 6


def test_balanced_weights_favour_rare_labels(tmp_path: Path) -> None:
    """An example of a label that is three times as rare counts three times as much."""
    rows = [sentence([(*ADA, "PER"), (*BO, "PER"), (*ROME, "LOC")], [])] * 2
    labels = read_labels("ner", rows_of(tmp_path, [*rows, sentence([(*ADA, "PER"), (*BO, "PER")], [])]), NER)
    none, place, person = labels.weights().tolist()
    assert none == 1
    assert place == pytest.approx(3 * person)


def test_the_longest_span_covers_the_mentions(tmp_path: Path) -> None:
    """In words, not in characters."""
    assert longest_span(rows_of(tmp_path, [sentence([(*ADA, "PER"), (0, 10, "X")], [])])) == 3


# Batches


class Numbers:
    """Examples that are their number."""

    name = "numbers"

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def at(self, number: int, rng: Generator, share: float) -> Example:  # noqa: ARG002 - a protocol's
        """A window of a few tokens; its target is the number."""
        size = 3 + int(rng.integers(4))
        window = Window(np.zeros(size, np.int32), np.zeros(1, np.int32), np.zeros((1, 2), np.int32))
        return Example(window, np.array([number]))


def drawn(source: PooledBatches, batches: int) -> list[list[int]]:
    """The numbers of the next batches."""
    return [[int(example.targets[0]) for example in source.next()] for _ in range(batches)]


@given(count=st.integers(3, 60), size=st.integers(1, 3), pool=st.integers(1, 20))
def test_a_pass_shows_every_example_once(count: int, size: int, pool: int) -> None:
    """Over all processes together, whatever the pools."""
    seen: list[int] = []
    for rank in range(size):
        source = PooledBatches(Numbers(count), 40, pool, 7, rank=rank, size=size)
        own = len(range(rank, count, size))
        found: list[int] = []
        while len(found) < own:
            found += drawn(source, 1)[0]
        seen += found[:own]
    assert sorted(seen) == list(range(count))


@given(before=st.integers(0, 30), after=st.integers(1, 12))
def test_a_source_goes_on_where_its_state_was_taken(before: int, after: int) -> None:
    """The state is two numbers; passes differ in their order."""
    source = PooledBatches(Numbers(25), 40, 10, 3)
    drawn(source, before)
    state = json.loads(json.dumps(source.state()))
    expected = drawn(source, after)
    resumed = PooledBatches(Numbers(25), 40, 10, 3)
    resumed.restore(state)
    assert drawn(resumed, after) == expected


def test_one_process_is_a_group() -> None:
    """Nothing is exchanged, and the gradients stay."""
    group = WorkerGroup()
    parameter = torch.nn.Parameter(torch.ones(2))
    parameter.grad = torch.full((2,), 3.0)
    group.average_gradients([parameter])
    assert parameter.grad.tolist() == [3, 3]
    assert group.leads
    assert group.gather("x") == ["x"]
    assert group.agree(True)


# Scores


def outputs(logits: list[list[float]], gold: list[list[int]], missed: int = 0) -> HeadOutputs:
    """At places of rows of their own."""
    names = tuple(f"row {number}" for number in range(len(logits)))
    return HeadOutputs(np.array(logits, np.float32), np.array(gold, bool), names, missed)


def test_scores_count_what_inference_would_write() -> None:
    """One label: the best one unless it is none. Places that nobody reached count as misses."""
    spec = HeadSpec("span", ("NIL", "PER", "LOC"), none_label="NIL")
    found = outputs([[0, 2, 1], [0, 1, 2], [3, 1, 0]], [[0, 1, 0], [0, 1, 0], [0, 0, 1]], missed=1)
    scores = score(found, labels_of(spec))
    assert (scores.precision, scores.recall, scores.support) == (1 / 2, 1 / 4, 4)
    assert scores.f1 == pytest.approx(1 / 3)


@given(
    logits=st.lists(st.lists(st.floats(-8, 8, width=32), min_size=3, max_size=3), min_size=1, max_size=8),
    multi=st.booleans(),
    threshold=st.floats(0.05, 0.95),
    temperature=st.floats(0.2, 5),
)
def test_what_is_written_is_what_labels_decode(
    logits: list[list[float]], multi: bool, threshold: float, temperature: float
) -> None:
    """The scores see exactly the decisions of the heads."""
    labels = Labels(("none", "a", "b"), -1 if multi else 0, multi, temperature, threshold)
    places, numbers = written(outputs(logits, [[0, 0, 0]] * len(logits)), labels)
    for place, row in enumerate(logits):
        decoded = {label for label, _ in labels.decode(np.array(row, np.float32))}
        assert {labels.names[number] for number in numbers[places == place]} == decoded


def test_a_threshold_reaches_its_precision() -> None:
    """Without a floor the best F1 wins; with one, the best F1 among thresholds that are precise enough."""
    spec = HeadSpec("pair", ("a",), multi_label=True)
    found = outputs([[4], [3], [2], [1], [-3]], [[1], [0], [1], [1], [0]])
    free = threshold_of(found, labels_of(spec), None)
    strict = threshold_of(found, labels_of(spec), 0.9)
    assert score(found, labels_of(spec, threshold=free)).recall == 1
    assert score(found, labels_of(spec, threshold=strict)).precision == 1


def test_calibration_brings_scores_nearer_to_what_is_right() -> None:
    """On the half that nothing was fitted on, where labels are rare to different degrees."""
    rng = np.random.default_rng(0)
    gold = rng.random((800, 3)) < np.array([0.5, 0.2, 0.05])
    logits = (3 * (2 * gold - 1) + 4 * rng.normal(size=gold.shape)).astype(np.float32)
    spec = HeadSpec("pair", ("a", "b", "c"), multi_label=True)
    settings = calibrated(outputs(logits.tolist(), gold.tolist()), spec, None, is_typing=False)
    assert settings.outcome == "fitted"
    assert settings.temperature > 1.2
    assert settings.ece_after < settings.ece_before
    assert settings.offsets[0] > settings.offsets[1] > settings.offsets[2]
