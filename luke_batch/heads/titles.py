"""Which entity of a checkpoint's vocabulary a Wikipedia title means."""

from collections.abc import Mapping
from typing import Self

from luke_batch.model.inputs.tokenizer import SPECIAL_ENTRIES, Tokenizer


class Titles:
    """Finds titles in an entity vocabulary whose entries may name a language (`en:Paris`) or not (`Paris`).

    `language`: that of titles and entries which name none. "_" in a title is a space.
    """

    def __init__(self, vocabulary: Mapping[str, int], language: str) -> None:
        self._vocabulary = vocabulary
        self._prefix = f"{language}:"

    @classmethod
    def of(cls, tokenizer: Tokenizer, language: str) -> Self:
        """Those of a checkpoint."""
        return cls(tokenizer.entity_vocab, language)

    def key(self, title: str) -> str:
        """One form for all that name the same entity."""
        return title.replace("_", " ").removeprefix(self._prefix)

    def find(self, title: str | None) -> int | None:
        """The entity's id; None for a title that the vocabulary lacks. Special entries are no titles."""
        if title is None:
            return None
        title = title.replace("_", " ")
        if title in SPECIAL_ENTRIES:
            return None
        for name in (title, self._prefix + title, title.removeprefix(self._prefix)):
            if name in self._vocabulary and name not in SPECIAL_ENTRIES:
                return self._vocabulary[name]
        return None
