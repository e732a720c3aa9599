"""What can be computed for a window, and with which weights of a checkpoint. Imports nothing."""

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar


class Reads(StrEnum):
    """Which states of a window an answer is made of, and the shape of that answer.

    e entities, t words, m gaps. Most are followed by a linear layer of the checkpoint, which the task names.
    """

    BOUNDS = "bounds"
    """(t, 2) probabilities that a mention begins and ends at each token, by the checkpoint's span scorer."""
    SPANS = "spans"
    """(e, labels) layer over [h_start; h_end; h_entity] of each entity."""
    ENTITY = "entity"
    """(labels,) layer over the first entity."""
    PAIR = "pair"
    """(labels,) layer without a bias over the first two entities side by side."""
    FIRST_WORD = "first word"
    """(labels,) layer over the pooled first word."""
    WORDS = "words"
    """(t, labels) layer over each word, special tokens included."""
    CANDIDATES = "candidates"
    """(e, k) logits of each entity's candidates by the entity head, -inf where these are padded."""
    GAPS = "gaps"
    """(m + e, k) log-probabilities of the candidates for each gap and entity, over the whole vocabulary, -inf
    where these are padded; without candidates (m + e, best, 2) ids, exact as float32, and log-probabilities.
    """
    ENTITY_STATES = "mentions"
    """(e, hidden) last hidden states of the entities."""
    WORD_STATES = "text"
    """(t, hidden) last hidden states of the words, special tokens included; entities are optional."""
    JOINT = "joint"
    """(e + 1, hidden) last hidden states of the entities, of which there may be none, and in the last row the mean of
    those of the words between `<s>` and `</s>`.
    """

    @property
    def states(self) -> int:
        """How many hidden states the linear layer reads side by side; 0 where there is no such layer."""
        return {"spans": 3, "entity": 1, "pair": 2, "first word": 1, "words": 1}.get(self.value, 0)


@dataclass(frozen=True, slots=True)
class Task:
    """What is computed for a window: which states are read, and by which head of the checkpoint.

    The constants are those of transformers' classes.
    """

    reads: Reads
    head: str
    """Its name in `Checkpoint.heads`; the name of its linear layer in a checkpoint of several heads."""

    BOUNDS: ClassVar["Task"]
    NER: ClassVar["Task"]
    TYPES: ClassVar["Task"]
    RELATIONS: ClassVar["Task"]
    LINKS: ClassVar["Task"]
    CLOZE: ClassVar["Task"]
    SEQUENCE: ClassVar["Task"]
    TOKENS: ClassVar["Task"]
    QA: ClassVar["Task"]
    CHOICE: ClassVar["Task"]
    MENTIONS: ClassVar["Task"]
    TEXT: ClassVar["Task"]
    JOINT: ClassVar["Task"]

    def __str__(self) -> str:
        return self.reads.value if self.head == "embeddings" else self.head


Task.BOUNDS = Task(Reads.BOUNDS, "spans")
Task.NER = Task(Reads.SPANS, "ner")
Task.TYPES = Task(Reads.ENTITY, "types")
Task.RELATIONS = Task(Reads.PAIR, "relations")
Task.LINKS = Task(Reads.CANDIDATES, "links")
Task.CLOZE = Task(Reads.GAPS, "cloze")
Task.SEQUENCE = Task(Reads.FIRST_WORD, "sequence")
Task.TOKENS = Task(Reads.WORDS, "tokens")
Task.QA = Task(Reads.WORDS, "qa")
Task.CHOICE = Task(Reads.FIRST_WORD, "choice")
Task.MENTIONS = Task(Reads.ENTITY_STATES, "embeddings")
Task.TEXT = Task(Reads.WORD_STATES, "embeddings")
Task.JOINT = Task(Reads.JOINT, "embeddings")
