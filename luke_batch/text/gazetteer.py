"""Spans of known names: one Aho-Corasick automaton over all of them, whatever their number.

Names and text are compared as they are written: no Unicode normalisation, white space literally. Linear in the text
and the number of matches.
"""

import hashlib
from collections.abc import Iterable
from typing import Literal, cast

import numpy as np
from ahocorasick_rs import AhoCorasick
from numpy.typing import NDArray

from luke_batch.arrays import IntArray
from luke_batch.text.breaks import without_surrogates

VERSION = 1
"""Raised by hand whenever the same names would match differently; part of the fingerprint."""

Case = Literal["exact", "fold", "smart"]

_SHORT = 3
"""Under `smart`, names of at most this many characters keep their case: "It" and "us" are words as well."""


class Gazetteer:
    """Finds names in texts.

    `case`: "exact" compares as written; "fold" without regard to case (Unicode folding: "STRASSE" finds "Straße");
    "smart" folds, save for names in capitals and names of up to 3 characters, which must match exactly. `labels`, one
    for each name, stay with the names; empty names are left out, of equal names the first one counts.
    """

    def __init__(self, names: Iterable[str], labels: Iterable[str | None] | None = None, case: Case = "smart") -> None:
        listed = list(names)
        listed_labels = [None] * len(listed) if labels is None else list(labels)
        pairs = zip(listed, listed_labels, strict=True)
        kept: dict[str, str | None] = {}
        for name, label in pairs:
            if name.strip():
                kept.setdefault(without_surrogates(name), label)
        self._labels = kept
        self._case: Case = case
        exact = [name for name in kept if case == "exact" or (case == "smart" and _keeps_case(name))]
        folded = dict.fromkeys(fold for name in kept.keys() - set(exact) if (fold := name.casefold()))
        self._exact = AhoCorasick(exact)
        self._folded = AhoCorasick(sorted(folded))
        self._folds = bool(folded)

    def __len__(self) -> int:
        return len(self._labels)

    @property
    def fingerprint(self) -> str:
        """A hash of the names, their labels and the policy; their order does not matter."""
        entries = sorted(f"{name}\x00{label or ''}" for name, label in self._labels.items())
        content = "\n".join([f"{VERSION}/{self._case}", *entries])
        return hashlib.sha256(content.encode()).hexdigest()[:32]
