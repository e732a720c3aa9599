"""Whole jobs on Ray, one checkpoint of each transformers class that looks at spans, against these classes.

LukeModel, LukeForEntitySpanClassification, LukeForEntityClassification, LukeForEntityPairClassification and
LukeForMaskedLM (its entity head), in one job for each engine; what they should say is computed here, one
window at a time.
"""

from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import transformers
import yaml

import luke_batch
from luke_batch import cli
from luke_batch.base.arrays import FloatArray
from luke_batch.heads.titles import Titles
from luke_batch.model.engine.engine import Task
from luke_batch.model.inputs.tokenizer import Tokenizer
from luke_batch.model.inputs.windows import InputBuilder, Window
from tests.checkpoints import HEADS, LABELS, Recipe, with_head
from tests.corpora import put
from tests.references import reference

pytestmark = pytest.mark.usefixtures("ray_session")

Folders = Callable[[Recipe], Path]

TEXTS = [
    "Beyoncé left Los Angeles for the sea.",
    "The European Central Bank is older than Beyoncé, says Los Angeles.",
    "Los Angeles, Los Angeles.",
]
NAMES = ("Beyoncé", "European Central Bank", "Los Angeles")
CANDIDATES = ["Los Angeles", "Beyoncé", 'The "[MASK]" (film)']
"""Of every mention; both vocabularies of the tests have them."""
TASKS = {"ner": Task.NER, "types": Task.TYPES, "relations": Task.RELATIONS, "links": Task.LINKS}
MENTION = pa.struct([("start", pa.int32()), ("end", pa.int32()), ("candidates", pa.list_(pa.string()))])
NOTHING = np.empty(0, np.int32)


def spans_of(text: str) -> list[tuple[int, int]]:
    """Where the names are."""
    found = {(place, place + len(name)) for name in NAMES for place in range(len(text)) if text.startswith(name, place)}
    return sorted(found)


@dataclass(frozen=True)
class Job:
    """What a job wrote, and the checkpoints that it used."""

    rows: list[dict[str, Any]]
    folders: dict[str, Path]
    builder: InputBuilder
    mentions: dict[str, list[tuple[int, int]]]

    def reference(self, head: str, window: Window) -> FloatArray:
        """What the class of `head` gives for one window."""
        architecture = HEADS.get(head, "LukeModel")
        model = getattr(transformers, architecture).from_pretrained(self.folders[head]).eval()
        return reference(model, TASKS.get(head, Task.MENTIONS), window)

    def mention_window(self, text: str) -> Window:
        """All mentions of a text, which is one sentence."""
        spans = np.array(self.mentions[text], np.int32)
        return self.builder.mention_window(self.builder.tokenize(text, spans), NOTHING, NOTHING)


@pytest.fixture(
    scope="module",
    params=[("fast", "luke"), ("transformers", "luke"), ("fast", "mluke")],
    ids="-".join,
)
def job(request: pytest.FixtureRequest, checkpoint_folder: Folders, tmp_path_factory: pytest.TempPathFactory) -> Job:
    """One run of `luke-batch annotate` with five models."""
    engine, kind = request.param
    plain = Recipe(kind=kind, entity_aware=kind == "luke", seed=7)
    folders = {head: checkpoint_folder(with_head(head, plain)) for head in TASKS}
    folders["embeddings"] = checkpoint_folder(plain)
    folder = tmp_path_factory.mktemp("classes")
    rows = [[{"start": a, "end": b, "candidates": CANDIDATES} for a, b in spans_of(text)] for text in TEXTS]
    table = {"id": ["a", "b", "c"], "text": TEXTS, "given": pa.array(rows, pa.list_(MENTION))}
    put(folder / "in", "x.parquet", pa.table(table))
    config = {
        "input": {"mentions_column": "given"},
        "models": {
            head: {"path": str(path), "engine": engine, "actors": 1, "num_cpus": 0.2} for head, path in folders.items()
        },
        "heads": [
            {"head": "ner", "model": "ner", "spans": "given", "context": "none", "none_label": "NIL"},
            {"head": "types", "model": "types"},
            {"head": "relations", "model": "relations", "none_label": "no_relation"},
            {"head": "links", "model": "links", "candidates": "given"},
            {"head": "embeddings", "model": "embeddings", "of": ["mentions", "entities", "text"]},
        ],
    }
    (folder / "job.yaml").write_text(yaml.safe_dump(config))
    with redirect_stdout(StringIO()) as printed:
        code = cli.run(
            [
                "annotate",
                str(folder / "in"),
                str(folder / "out"),
                "--config",
                str(folder / "job.yaml"),
                "--json",
            ]
        )
    assert code == 0, printed.getvalue()
    found = luke_batch.read(str(folder / "out")).to_table().sort_by("id").to_pylist()
    builder = InputBuilder(Tokenizer.load(folders["embeddings"]))
    return Job(found, folders, builder, {text: spans_of(text) for text in TEXTS})


def test_spans_are_labelled_as_by_the_class(job: Job) -> None:
    """LukeForEntitySpanClassification: the argmax and its softmax, NIL left out."""
    for row in job.rows:
        logits = job.reference("ner", job.mention_window(row["text"]))
        for mention, scores in zip(row["mentions"], logits, strict=True):
            best = int(scores.argmax())
            assert mention["label"] == (None if best == 0 else LABELS["ner"][best])
            if best:
                assert mention["score"] == pytest.approx(_softmax(scores)[best], abs=1e-5)


def test_mentions_are_typed_as_by_the_class(job: Job) -> None:
    """LukeForEntityClassification: the argmax and its softmax."""
    for row in job.rows:
        for mention in row["mentions"]:
            span = np.array([[mention["start"], mention["end"]]], np.int32)
            window = job.builder.typing_window(job.builder.tokenize(row["text"], span), NOTHING, NOTHING)
            scores = job.reference("types", window)
            best = int(scores.argmax())
            assert mention["types"] == [
                {"label": LABELS["types"][best], "score": pytest.approx(_softmax(scores)[best], abs=1e-5)}
            ]


def test_pairs_are_related_as_by_the_class(job: Job) -> None:
    """LukeForEntityPairClassification: every ordered pair of the sentence, no_relation left out."""
    for row in job.rows:
        wanted: list[dict[str, Any]] = []
        for head, tail in np.ndindex(len(row["mentions"]), len(row["mentions"])):
            if head == tail:
                continue
            pair = [(row["mentions"][n]["start"], row["mentions"][n]["end"]) for n in (head, tail)]
            tokens = job.builder.tokenize(row["text"], np.array(pair, np.int32))
            scores = job.reference("relations", job.builder.pair_window(tokens, NOTHING, NOTHING))
            best = int(scores.argmax())
            if best:
                score = pytest.approx(_softmax(scores)[best], abs=1e-5)
                label = LABELS["relations"][best]
                wanted.append({"head": head, "tail": tail, "label": label, "score": score})
        assert row["relations"] == wanted
    assert any(row["relations"] for row in job.rows)


def test_mentions_are_linked_as_by_the_class(job: Job) -> None:
    """LukeForMaskedLM: the softmax over the candidates' logits out of the whole row."""
    titles = Titles.of(job.builder.tokenizer, "en")
    known = [title for title in CANDIDATES if titles.find(title) is not None]
    ids = [titles.find(title) for title in known]
    for row in job.rows:
        window = job.mention_window(row["text"])
        candidates = np.tile(np.array(ids, np.int32), (len(row["mentions"]), 1))
        asked = Window(window.token_ids, window.entity_ids, window.entity_spans, candidates)
        for mention, scores in zip(row["mentions"], job.reference("links", asked), strict=True):
            best = int(scores.argmax())
            assert mention["title"] == known[best]
            assert mention["title_score"] == pytest.approx(_softmax(scores)[best], abs=1e-5)


def test_vectors_are_those_of_the_class(job: Job) -> None:
    """LukeModel: [MASK] entities, the entities that mentions were linked to, and the mean of the words."""
    titles = Titles.of(job.builder.tokenizer, "en")
    model = transformers.LukeModel.from_pretrained(job.folders["embeddings"]).eval()
    for row in job.rows:
        window = job.mention_window(row["text"])
        assert row["mention_embeddings"] == _near(job.reference("embeddings", window))
        ids = np.array([titles.find(mention["title"]) for mention in row["mentions"]], np.int32)
        entities = Window(window.token_ids, ids, window.entity_spans)
        assert row["entity_embeddings"] == _near(job.reference("embeddings", entities))
        words = job.builder.text_window(job.builder.tokenize(row["text"], np.empty((0, 2), np.int32)).ids)
        assert row["text_embedding"] == pytest.approx(reference(model, Task.TEXT, words)[1:-1].mean(0), abs=1e-4)
    assert np.abs(np.array(job.rows[0]["mention_embeddings"]) - job.rows[0]["entity_embeddings"]).max() > 0.1


def _softmax(scores: FloatArray) -> FloatArray:
    exponents = np.exp(scores - scores.max())
    return exponents / exponents.sum()


def _near(vectors: FloatArray) -> list[Any]:
    return [pytest.approx(vector, abs=1e-4) for vector in vectors]
