"""The heads of LukeForMaskedLM over their whole vocabularies: what words and entities fill gaps.

The word head is RoBERTa's, z = LayerNorm(gelu(W h)) and z . E[word] + bias[word]; the entity head that of
`entity_head.py`. Scores are log-probabilities: the log-softmax over all words, or over all entities.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from luke_batch.base.arrays import FloatArray
from luke_batch.model.engine.entity_head import EntityHead
from luke_batch.model.engine.vocabulary import Vocabulary
from luke_batch.model.engine.word_head import WordHead
from luke_batch.model.files.checkpoint import Checkpoint
from luke_batch.model.files.weights import Table, entity_head_state
from luke_batch.model.inputs.windows import Gaps, Window


class MaskedHeads:
    """Both heads; each is loaded when it is first asked, since a checkpoint may lack the other."""

    def __init__(self, checkpoint: Checkpoint, words: Table, entities: Table, device: str) -> None:
        """`words`, `entities`: the embeddings. A call raises CheckpointError where weights do not fit."""
        self._checkpoint = checkpoint
        self._tables = words, entities
        self._device = device
        self._loaded: dict[int, tuple[Callable[[Tensor], Tensor], Vocabulary]] = {}

    def __call__(self, words: Tensor, entities: Tensor, windows: Sequence[Window]) -> list[FloatArray]:
        """What `Task.CLOZE` says for each window.

        words: (sum of m, hidden) last states of the gaps of all windows, one after another.
        entities: (sum of e, hidden) those of the entities.
        """
        counts = [(len(_gaps(window).positions), len(window.entity_ids)) for window in windows]
        answers: list[list[FloatArray]] = [[] for _ in windows]
        for side, states in enumerate((words, entities)):
            sizes = [count[side] for count in counts]
            if sum(sizes):
                transform, vocabulary = self._head(side)
                parts = transform(states).split(sizes)
                for place, found in _answers(vocabulary, parts, windows, counts, side):
                    answers[place].append(found)
        return [np.concatenate(found) for found in answers]

    def _head(self, side: int) -> tuple[Callable[[Tensor], Tensor], Vocabulary]:
        if side not in self._loaded:
            words, entities = self._tables
            if side == 0:
                head = WordHead(self._checkpoint, words, self._device)
                self._loaded[side] = head.transform, head.vocabulary
            else:
                entity_head = EntityHead(self._checkpoint, entities, self._device)
                bias = entity_head_state(self._checkpoint)["bias"]
                self._loaded[side] = entity_head.transform, Vocabulary(entities, bias, self._device)
        return self._loaded[side]


def _gaps(window: Window) -> Gaps:
    assert window.gaps is not None, "checked by the engine"
    return window.gaps


def _answers(
    vocabulary: Vocabulary,
    parts: Sequence[Tensor],
    windows: Sequence[Window],
    counts: Sequence[tuple[int, int]],
    side: int,
) -> list[tuple[int, FloatArray]]:
    """Place of a window and what one head answers to it, for all that have a place for this head.

    Those that ask for equally many candidates, or for the same number of best ids, are answered together.
    """
    groups: dict[tuple[int, int, int], list[int]] = defaultdict(list)
    for place, window in enumerate(windows):
        if counts[place][side]:
            gaps = _gaps(window)
            width = 0 if gaps.candidates is None else gaps.candidates.shape[1]
            groups[width, gaps.best, id(gaps.never[side])].append(place)
    found: list[tuple[int, FloatArray]] = []
    for places in groups.values():
        states = torch.cat([parts[place] for place in places])
        asked = [_gaps(windows[place]) for place in places]
        if asked[0].candidates is None:
            rows = vocabulary.best(states, asked[0].best, asked[0].never[side])
        else:
            middles = [counts[place][0] for place in places]
            own = [
                (g.candidates[m:] if side else g.candidates[:m])
                for g, m in zip(asked, middles, strict=True)
                if g.candidates is not None
            ]
            rows = vocabulary.scores(states, np.concatenate(own))
        ends = np.cumsum([counts[place][side] for place in places])[:-1]
        found += zip(places, np.split(rows, ends), strict=True)
    return found
