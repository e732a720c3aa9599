"""How the ids of an open prediction read: words and entities that may stand in a gap."""

from collections.abc import Mapping

import numpy as np

from luke_batch.base.arrays import IntArray
from luke_batch.model.inputs.tokenizer import SPECIAL_ENTRIES, Tokenizer


class Fillers:
    """Texts of words and entities by their ids, and the ids that have none."""

    def __init__(self, tokenizer: Tokenizer, language: str, words: int, entities: int) -> None:
        """`words`, `entities`: rows of the model's tables; 0 where these are not asked."""
        self.words: Mapping[int, str] = {
            number: text for number, text in enumerate(tokenizer.word_texts() if words else []) if text
        }
        self.entities: Mapping[int, str] = entity_names(tokenizer.entity_vocab, language) if entities else {}
        self.never = _others(self.words, words), _others(self.entities, entities)
        """Ids of words and of entities that are never predicted."""


def entity_names(vocabulary: Mapping[str, int], language: str) -> dict[int, str]:
    """The title of each entity, without special entries: in `language` where it has one in it, and then
    without the prefix that names it (`Paris` for `en:Paris`), else the first one (`ja:東京`).
    """
    prefix = f"{language}:"
    names: dict[int, str] = {}
    foreign: dict[int, str] = {}
    for title, number in vocabulary.items():
        if title.startswith(prefix):
            names.setdefault(number, title.removeprefix(prefix))
        elif title not in SPECIAL_ENTRIES:
            foreign.setdefault(number, title)
    return foreign | names


def _others(names: Mapping[int, str], count: int) -> IntArray:
    missing = np.ones(count, bool)
    missing[[number for number in names if number < count]] = False
    return np.flatnonzero(missing).astype(np.int32)
