"""What a proposer is: a finder of candidate spans in a text, before any model is asked."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from luke_batch.base.arrays import IntArray
from luke_batch.base.section import Section


class Proposer(ABC):
    """Finds spans in texts, with settings of its own below `proposers` in the configuration.

    `interface` is what a proposer of another package was written for.
    """

    interface: ClassVar[int] = 1
    name: ClassVar[str]
    """What `spans` says to have it."""
    section: ClassVar[str]
    """The key of its settings below `proposers`."""
    settings: ClassVar[type[Section]]
    version: ClassVar[int]
    """Raised by hand whenever the same text would give other spans; part of the fingerprint."""

    @abstractmethod
    def __init__(self, settings: Any) -> None:
        """Load what it needs. Raises a UsageError where that cannot be used."""

    @abstractmethod
    def find(self, text: str, words: IntArray) -> IntArray:
        """(n, 2) int32 of [start, end) code points, ascending; `words` (m, 2) are those of the text."""
