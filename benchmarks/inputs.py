"""Model inputs as a job makes them: what the heads ask for over the documents of the embedded corpus."""

from collections import defaultdict
from collections.abc import Sequence
from importlib.resources import files

import numpy as np
import pyarrow.parquet as pq

from luke_batch.annotator import model_stages
from luke_batch.arrays import FloatArray
from luke_batch.config import InputConfig, JobConfig, ModelConfig
from luke_batch.document.reading import read_documents
from luke_batch.heads.build import build_head
from luke_batch.heads.run import run_head
from luke_batch.model.checkpoint import resolve
from luke_batch.model.engine import Engine, Task, load_engine
from luke_batch.model.tokenizer import Tokenizer
from luke_batch.model.windows import InputBuilder, Window
from luke_batch.preparation import Preparation

TASKS = (Task.ENTITY, Task.PAIR, Task.MENTIONS, Task.SPANS)
MAX_WORDS = 16
"""Of a span in NER, as in the published code for CoNLL-2003."""


class _Recorder:
    """An engine that keeps what it is asked."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.seen: dict[Task, list[Window]] = defaultdict(list)

    def run(self, task: Task, windows: Sequence[Window]) -> list[FloatArray]:
        """As the engine."""
        self.seen[task] += windows
        return self._engine.run(task, windows)


def windows_of_corpus(documents: int) -> dict[Task, list[Window]]:
    """The windows of each of `TASKS` over `documents` texts of the embedded corpus, evenly taken from it.

    The embedded model finds the mentions; spans of NER are all those of up to `MAX_WORDS` words.
    """
    config = JobConfig(input=InputConfig(lang_column="lang"))
    everything = JobConfig.model_validate(
        {
            **config.model_dump(exclude={"heads", "proposers"}),
            "proposers": {"max_words": MAX_WORDS},
            "heads": [{"head": "ner", "spans": "all"}],
        }
    )
    table = pq.read_table(str(files("luke_batch.embedded") / "corpus.parquet"))
    rows = np.linspace(0, len(table), documents, endpoint=False).astype(int)
    checkpoint = resolve("embedded")
    builder = InputBuilder(Tokenizer.load(checkpoint.folder))
    recorder = _Recorder(load_engine(ModelConfig(), checkpoint, (Task.BOUNDS, *TASKS), "cpu"))
    found: dict[Task, list[Window]] = {}
    for job in (config, everything):
        recorder.seen.clear()
        texts = read_documents(Preparation(job)(table.take(rows)), job.input.text_column, [])
        for number in model_stages(job)[0].heads:
            run_head(build_head(job, number, checkpoint, builder), texts, recorder)
        assert not any(text.failure for text in texts)
        found |= recorder.seen
    return found


def evenly(windows: Sequence[Window], count: int) -> list[Window]:
    """`count` windows out of all, or all where there are fewer."""
    places = np.linspace(0, len(windows), min(count, len(windows)), endpoint=False).astype(int)
    return [windows[place] for place in places]
