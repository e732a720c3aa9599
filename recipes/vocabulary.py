"""Pruning a Unigram vocabulary.

A multilingual vocabulary is four fifths of a small model. Kept are every single character (so that text in
any language still runs), the pieces that the given texts use, those seen more often first, and, if there is
room, of the rest the most frequent ones (a Unigram vocabulary is sorted by frequency) in the scripts of the
texts.

The pruned tokenizer differs from its source in one more thing: it never puts "▁" before a piece of its own
accord. Input building cuts a text at span boundaries; a piece that starts in the middle of a word, or
anywhere in Chinese, must not look like the start of a word.
"""

from __future__ import annotations

import copy
import json
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer

CONTROL_PIECES = ("<s>", "<pad>", "</s>", "<unk>")
"""The first ids of the pruned vocabulary, in this order."""
ADDED_PIECES = ("<mask>", "<ent>", "<ent2>")
"""Its last ids: the mask and the two markers of mentions."""
_MARKER_SOURCES = {"<ent>": "@", "<ent2>": "#"}
"""The pieces whose rows the markers start from, as in LUKE's own code."""
_NEVER = -100.0
"""A score so low that text which spells a special token is cut into ordinary pieces."""
_OFTEN = 3
"""A piece seen so many times is no accident."""


@dataclass(frozen=True)
class PrunedVocabulary:
    """A pruned vocabulary: its tokenizer.json, and for each new id the row of the source model."""

    tokenizer: dict[str, Any]
    sources: list[int]


def prune(tokenizer: dict[str, Any], texts: Iterable[str], size: int) -> PrunedVocabulary:
    """The `size` pieces of a Unigram tokenizer.json that serve `texts` best, as a tokenizer of its own."""
    pieces: list[tuple[str, float]] = [(piece, score) for piece, score in tokenizer["model"]["vocab"]]
    special = {*CONTROL_PIECES, *ADDED_PIECES}
    ids = {piece: number for number, (piece, _) in enumerate(pieces)}
    used, scripts = _used(_without_prefix(tokenizer), texts, pieces)
    kept = {number for number, (piece, _) in enumerate(pieces) if len(piece) == 1 and piece not in special}
    for number in _by_use(pieces, used, scripts):
        if len(kept) >= size - len(special):
            break
        kept.add(number)
    ordinary = sorted(kept)
    vocabulary: list[list[str | float]] = [[piece, _NEVER] for piece in CONTROL_PIECES]
    vocabulary += [[pieces[number][0], pieces[number][1]] for number in ordinary]
    vocabulary += [[piece, _NEVER] for piece in ADDED_PIECES]
    sources = [ids[piece] for piece in CONTROL_PIECES] + ordinary
    sources += [ids[_MARKER_SOURCES.get(piece, piece)] for piece in ADDED_PIECES]
    pruned = _without_prefix(tokenizer)
    pruned["model"] = {**tokenizer["model"], "vocab": vocabulary, "unk_id": CONTROL_PIECES.index("<unk>")}
    numbers = {str(piece): number for number, (piece, _) in enumerate(vocabulary)}
    pruned["added_tokens"] = [_added(piece, numbers[piece]) for piece in (*CONTROL_PIECES, *ADDED_PIECES)]
    return PrunedVocabulary(pruned, sources)


def _by_use(pieces: list[tuple[str, float]], used: Counter[int], scripts: set[str]) -> list[int]:
    """The ids by their worth: seen often, twice, once, never; in each the frequent ones first."""
    control = {*CONTROL_PIECES, *ADDED_PIECES}
    fitting = (
        number
        for number, (piece, _) in enumerate(pieces)
        if piece not in control and (used[number] or _scripts(piece) <= scripts)
    )
    return sorted(fitting, key=lambda number: (-min(used[number], _OFTEN), number))


def _without_prefix(tokenizer: dict[str, Any]) -> dict[str, Any]:
    """The tokenizer without a "▁" of its own accord before a piece, and without a split at white space."""
    changed = copy.copy(tokenizer)
    metaspace = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "never", "split": True}
    changed.update(pre_tokenizer=metaspace, decoder=metaspace, truncation=None, padding=None)
    return changed


def _used(
    tokenizer: dict[str, Any], texts: Iterable[str], pieces: list[tuple[str, float]]
) -> tuple[Counter[int], set[str]]:
    """How often the texts use each id, and the scripts that they are written in."""
    backend = Tokenizer.from_str(json.dumps(tokenizer))
    used: Counter[int] = Counter()
    spaced = [" " + text for text in texts]
    for start in range(0, len(spaced), 512):
        for encoding in backend.encode_batch(spaced[start : start + 512], add_special_tokens=False):
            used.update(encoding.ids)
    scripts: set[str] = set()
    for number, count in used.items():
        # A letter or a word may be a quotation in a foreign script.
        if len(pieces[number][0]) > 2 and count >= _OFTEN:
            scripts |= _scripts(pieces[number][0])
    return used, scripts


def _scripts(piece: str) -> set[str]:
    """The scripts of a piece's letters, by the first word of their Unicode names ("LATIN", "CJK", ...)."""
    return {unicodedata.name(letter, "?").split(" ")[0] for letter in piece if letter.isalpha()}


def _added(piece: str, number: int) -> dict[str, Any]:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {"id": number, "content": piece, **flags}
