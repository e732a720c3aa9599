"""Model inputs as a job makes them: what the heads ask for over the documents of the embedded corpus."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.resources import files

import numpy as np
import pyarrow.parquet as pq

from luke_batch.annotate.annotator import model_stages
from luke_batch.annotate.preparation import Preparation
from luke_batch.base.arrays import FloatArray
from luke_batch.config import InputConfig, JobConfig, ModelConfig
from luke_batch.document.columns import read_documents
from luke_batch.heads.registry import build_head, head_class
from luke_batch.heads.run import run_head
from luke_batch.model.engine.engine import Engine, load_engine
from luke_batch.model.files.checkpoint import Checkpoint, resolve
from luke_batch.model.inputs.tokenizer import Tokenizer
from luke_batch.model.inputs.windows import InputBuilder, Window
from luke_batch.model.task import Task

TASKS = (Task.TYPES, Task.RELATIONS, Task.MENTIONS, Task.NER)
_MARKED = {Task.TYPES, Task.RELATIONS}


def tasks_of(checkpoint: Checkpoint) -> list[Task]:
    """Those that the checkpoint has: joint heads have no windows of their own, they read those of mentions."""
    joint = {name for name, facts in checkpoint.heads.items() if facts.input == "joint"}
    return [task for task in TASKS if task == Task.MENTIONS or task.head not in joint]


_EVERY_SPAN = {"heads": [{"head": "ner", "spans": "all"}], "proposers": {"max_words": 16}}
"""Up to the words of a span in the published code for CoNLL-2003."""


@dataclass(frozen=True, slots=True)
class Sentences:
    """The windows of NER, for the same sentences."""

    count: int
    all: list[Window]
    """With every span: at most 128 a window, so a sentence may have several."""
    scored: list[Window]
    """What the span scorer reads: one of each sentence."""
    kept: list[Window]
    """With the spans that the scorer leaves."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """What all tasks are timed on."""

    windows: dict[Task, list[Window]]
    """Of the tasks but NER."""
    sentences: Sentences


class _Recorder:
    """An engine that keeps what it is asked."""

    def __init__(self, engine: Engine, checkpoint: Checkpoint) -> None:
        self._engine = engine
        self._checkpoint = checkpoint
        self.seen: dict[Task, list[Window]] = defaultdict(list)

    def run(self, task: Task, windows: Sequence[Window]) -> list[FloatArray]:
        """As the engine; marked windows, for which it may have no weights, say nothing."""
        self.seen[task] += windows
        if task in _MARKED:
            return [np.zeros(len(self._checkpoint.heads[task.head].labels), np.float32) for _ in windows]
        return self._engine.run(task, windows)


def inputs_of_corpus(documents: int, items: int, sentences: int) -> Inputs:
    """Windows over `documents` texts of the embedded corpus, evenly taken: `items` of each task, and those of
    `sentences` sentences for NER.

    The embedded model finds the mentions; its own settings and its scorer leave out spans. Types and relations have the
    windows of marked heads.
    """
    joint = resolve("embedded")
    heads = {name: facts.model_copy(update={"input": "marked"}) for name, facts in joint.heads.items()}
    embedded = replace(joint, heads=heads)
    # As transformers has it: nothing tells likely spans from others, and all of a sentence share its windows.
    unscored = replace(embedded, heads={name: embedded.heads[name] for name in embedded.heads if name != "spans"})
    usual = _asked(embedded, documents, JobConfig())
    every = _asked(unscored, documents, JobConfig.model_validate(_EVERY_SPAN))
    windows = {task: _evenly(usual[task], items) for task in TASKS if task != Task.NER}
    scored = _evenly(usual[Task.BOUNDS], sentences)
    texts = {window.token_ids.tobytes() for window in scored}

    def of_these(found: Sequence[Window]) -> list[Window]:
        return [window for window in found if window.token_ids.tobytes() in texts]

    return Inputs(windows, Sentences(len(scored), of_these(every[Task.NER]), scored, of_these(usual[Task.NER])))


def _asked(checkpoint: Checkpoint, documents: int, job: JobConfig) -> dict[Task, list[Window]]:
    """All windows that the heads of `job` ask for."""
    job = job.model_copy(update={"input": InputConfig(lang_column="lang")})
    table = pq.read_table(str(files("luke_batch.embedded") / "corpus.parquet"))
    rows = np.linspace(0, len(table), documents, endpoint=False).astype(int)
    builder = InputBuilder(Tokenizer.load(checkpoint.folder))
    tasks = {task for head in job.heads for task in head_class(head).tasks(head, checkpoint)} - _MARKED
    recorder = _Recorder(load_engine(ModelConfig(), checkpoint, tasks, "cpu"), checkpoint)
    texts = read_documents(Preparation(job)(table.take(rows)), job.input.text_column, [])
    for number in model_stages(job)[0].heads:
        run_head(build_head(job.heads[number], job.proposers, checkpoint, builder), texts, recorder, "cpu")
    assert not any(text.failure for text in texts)
    return recorder.seen


def _evenly(windows: Sequence[Window], count: int) -> list[Window]:
    """`count` windows out of all, or all where there are fewer."""
    places = np.linspace(0, len(windows), min(count, len(windows)), endpoint=False).astype(int)
    return [windows[place] for place in places]
