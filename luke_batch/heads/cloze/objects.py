"""What may fill the gap of a prompt: candidates as the model knows them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from luke_batch.base.arrays import IntArray
from luke_batch.config import ClozeConfig
from luke_batch.document.state import Document
from luke_batch.heads.cloze.prompts import candidates_of
from luke_batch.heads.titles import Titles
from luke_batch.model.inputs.windows import InputBuilder, gap_lead, in_gap


@dataclass(frozen=True, slots=True)
class Objects:
    """The candidates of one document that the model can be asked about."""

    texts: list[str]
    pieces: list[IntArray]
    """(t,) token ids of each, at least one."""
    entities: IntArray
    """(n,) ids; -1 where the model knows none."""
    dropped: dict[str, int]
    """How many were left out, by the reasons of coverage."""

    def by_length(self) -> list[NDArray[np.intp]]:
        """Those that share a window: equally many pieces, the fewest first."""
        lengths = np.array([len(piece) for piece in self.pieces])
        return [np.flatnonzero(lengths == length) for length in np.unique(lengths)]


class ObjectReader:
    """Reads the candidates of documents; those of the configuration once."""

    def __init__(self, config: ClozeConfig, builder: InputBuilder, titles: Titles | None) -> None:
        """`titles`: None where no entities are asked."""
        self._config = config
        self._builder = builder
        self._titles = titles
        self._shared: dict[str, Objects] = {}

    def read(self, document: Document, left: str) -> Objects:
        """The candidates for a gap after `left`; what is left out is counted in coverage."""
        lead = gap_lead(self._builder, left)
        if self._config.candidates_column is not None:
            objects = self._known(document, lead)
        else:
            objects = self._shared[lead] = self._shared.get(lead) or self._known(document, lead)
        for reason, count in objects.dropped.items():
            document.coverage.drop(reason, count)
        return objects

    def _known(self, document: Document, lead: str) -> Objects:
        texts = candidates_of(self._config, document)
        pieces = in_gap(self._builder, lead, texts)
        lengths = np.array([len(piece) for piece in pieces], np.int32)
        fits = lengths <= self._builder.max_tokens - 2
        kept = np.flatnonzero(fits & (lengths > 0)).tolist()
        found = [None if self._titles is None else self._titles.find(texts[place]) for place in kept]
        entities = np.array([-1 if number is None else number for number in found], np.int32)
        dropped = {
            "missing_candidates": int(not texts),
            "candidate_longer_than_window": int((~fits).sum()),
            "candidate_without_token": int((lengths == 0).sum()),
            "candidate_without_entity": 0 if self._titles is None else int((entities < 0).sum()),
        }
        return Objects([texts[place] for place in kept], [pieces[place] for place in kept], entities, dropped)
