"""Length-sorted batches under a budget, and what to do when one does not fit in memory.

A padded batch reaches to its longest row of words and its longest row of entities, and costs
(max words + max entities) x rows positions; sorted by length, rows of one batch differ little. A packed batch
costs the words and entities that it has; sorted by length, rows of equal shape are neighbours.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from luke_batch.base.arrays import IntArray

Item = TypeVar("Item")
Result = TypeVar("Result")


def length_sorted(words: IntArray, entities: IntArray, max_tokens: int) -> list[IntArray]:
    """Indices of the rows of each batch, the costliest batch first so that memory runs out early if at all.

    words, entities: (n,) lengths of each row. A row that alone is over the budget is a batch of its own. The
    result depends on the lengths and the order of equal ones only.
    """
    order = _longest_first(words, entities)
    batches: list[IntArray] = []
    start = most_words = most_entities = 0
    for position, row in enumerate(order.tolist()):
        wider = max(most_words, int(words[row]))
        deeper = max(most_entities, int(entities[row]))
        if position > start and (wider + deeper) * (position - start + 1) > max_tokens:
            batches.append(order[start:position])
            start, wider, deeper = position, int(words[row]), int(entities[row])
        most_words, most_entities = wider, deeper
    if len(order):
        batches.append(order[start:])
    return batches


def packed(words: IntArray, entities: IntArray, max_rows: int) -> list[IntArray]:
    """Indices of the windows of each batch: of at most `max_rows` words and entities together, or one window.

    words, entities: (n,) lengths of each window. Otherwise as `length_sorted`.
    """
    order = _longest_first(words, entities)
    ends = np.cumsum((words + entities)[order])
    batches: list[IntArray] = []
    start = 0
    while start < len(order):
        before = int(ends[start - 1]) if start else 0
        end = max(start + 1, int(np.searchsorted(ends, before + max_rows, side="right")))
        batches.append(order[start:end])
        start = end
    return batches


def _longest_first(words: IntArray, entities: IntArray) -> IntArray:
    return np.lexsort((np.arange(len(words)), -words, -(words + entities))).astype(np.int32)


def run_halving(
    run: Callable[[Sequence[Item]], list[Result]],
    items: Sequence[Item],
    out_of_memory: Callable[[Exception], bool],
) -> list[Result]:
    """`run(items)`, in halves where `out_of_memory` knows the error; raised where one item does not fit."""
    try:
        return run(items)
    except Exception as error:
        if len(items) == 1 or not out_of_memory(error):
            raise
    # Outside of `except`: the traceback would keep the tensors of the failed attempt alive.
    half = (len(items) + 1) // 2
    return run_halving(run, items[:half], out_of_memory) + run_halving(run, items[half:], out_of_memory)
