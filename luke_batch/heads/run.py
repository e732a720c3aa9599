"""Runs heads over many documents at once, and keeps the failure of one from touching the others."""

from collections import defaultdict
from collections.abc import Sequence

from luke_batch.base import meters
from luke_batch.base.errors import DeviceError, UsageError
from luke_batch.document.state import Document, Failure
from luke_batch.heads.head import Annotation, Answer, Ask, Head
from luke_batch.model.engine.engine import Engine
from luke_batch.model.inputs.windows import Window
from luke_batch.model.task import Task

_ON_CPU, _ON_GPU = 16_000, 200_000
"""Documents are advanced side by side up to so many characters: enough for full batches of the default
budget, little enough for memory, which holds the windows and outputs of all of them.
"""

_NOT_A_DOCUMENT_S = (KeyboardInterrupt, SystemExit, GeneratorExit, UsageError, DeviceError)
"""What fails no document: requests to stop the process, and a checkpoint that cannot be used or a lost GPU,
which would fail every later one alike. All else does, a native library's panic (a BaseException) too.
"""


def run_head(head: Head, documents: Sequence[Document], engine: Engine, device: str) -> None:
    """Annotate every document that has not failed; one that fails now says so in `failure`. `device` is the
    engine's.

    Raises a UsageError where the checkpoint cannot be used, and DeviceError where the GPU is lost.
    """
    group: list[Document] = []
    size, most = 0, _ON_CPU if device == "cpu" else _ON_GPU
    for document in documents:
        if document.failure is not None:
            continue
        if group and size + len(document.text) > most:
            _run_together(head, group, engine)
            group, size = [], 0
        group.append(document)
        size += len(document.text)
    if group:
        _run_together(head, group, engine)


def _run_together(head: Head, documents: Sequence[Document], engine: Engine) -> None:
    """Advance the heads of all documents; after each round every one that asks gets its outputs."""
    running: list[tuple[Document, Annotation, Ask]] = []
    meters.beat(head.name)
    for document in documents:
        annotation = head.annotate(document)
        question = _advance(head, document, annotation, None)
        if question is not None:
            running.append((document, annotation, question))
    while running:
        answers = _answer(head, [(document, question) for document, _, question in running], engine)
        following: list[tuple[Document, Annotation, Ask]] = []
        for (document, annotation, _), answer in zip(running, answers, strict=True):
            question = None if answer is None else _advance(head, document, annotation, answer)
            if question is not None:
                following.append((document, annotation, question))
        running = following


def _advance(head: Head, document: Document, annotation: Annotation, answer: Answer | None) -> Ask | None:
    """The next question of a head; None where it is done or its document has failed."""
    meters.beat()
    try:
        with meters.spending("build" if answer is None else "decode"):
            return next(annotation) if answer is None else annotation.send(answer)
    except StopIteration:
        return None
    except _NOT_A_DOCUMENT_S:
        raise
    except BaseException as error:
        document.failure = Failure.of(error, head.name)
        return None


def _answer(head: Head, asked: Sequence[tuple[Document, Ask]], engine: Engine) -> list[Answer | None]:
    """Outputs for each document; None where its own windows make the engine fail."""
    try:
        return list(_forward([question for _, question in asked], engine))
    except _NOT_A_DOCUMENT_S:
        raise
    except BaseException as error:
        if len(asked) == 1:
            asked[0][0].failure = Failure.of(error, head.name)
            return [None]
    return [answer for pair in asked for answer in _answer(head, [pair], engine)]


def _forward(asks: Sequence[Ask], engine: Engine) -> list[Answer]:
    """One call of the engine for each task, over the windows of all who ask for it."""
    places: dict[Task, list[int]] = defaultdict(list)
    for place, question in enumerate(asks):
        places[question.task].append(place)
    answers: list[Answer] = [[] for _ in asks]
    for task, members in places.items():
        windows = [window for place in members for window in asks[place].windows]
        with meters.spending("forward"):
            outputs = iter(engine.run(task, windows))
        _count(task, windows)
        for place in members:
            answers[place] = [next(outputs) for _ in asks[place].windows]
    return answers


def _count(task: Task, windows: Sequence[Window]) -> None:
    """Count what the model has read."""
    entities = sum(len(window.entity_ids) for window in windows)
    meters.count("windows", len(windows))
    meters.count("tokens", sum(len(window.token_ids) for window in windows))
    meters.count("entities", entities)
    if task == Task.NER:
        meters.count("spans", entities)
    elif task == Task.RELATIONS:
        meters.count("pairs", len(windows))
