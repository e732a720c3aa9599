"""Batches: what goes together, and what happens when it does not fit in memory."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from luke_batch.model.engine.batched_engine import length_sorted, packed, run_halving

LENGTHS = st.lists(st.tuples(st.integers(1, 512), st.integers(0, 128)), max_size=60)


def batches(lengths: list[tuple[int, int]], max_tokens: int) -> list[list[int]]:
    """`length_sorted` on lists."""
    words, entities = np.array(lengths, np.int32).reshape(-1, 2).T
    return [rows.tolist() for rows in length_sorted(words, entities, max_tokens)]


@given(LENGTHS, st.integers(64, 4096))
def test_every_row_once_and_within_the_budget(lengths: list[tuple[int, int]], max_tokens: int) -> None:
    """Each row is in exactly one batch, and only a row that is alone may cost more than the budget."""
    found = batches(lengths, max_tokens)
    assert sorted(row for rows in found for row in rows) == list(range(len(lengths)))
    for rows in found:
        cost = (max(lengths[row][0] for row in rows) + max(lengths[row][1] for row in rows)) * len(rows)
        assert cost <= max_tokens or len(rows) == 1


@given(LENGTHS)
def test_longest_first_and_stable(lengths: list[tuple[int, int]]) -> None:
    """Rows come by falling length, equal ones in their own order: the same input gives the same batches."""
    order = [row for rows in batches(lengths, 1024) for row in rows]
    keys = [(-sum(lengths[row]), -lengths[row][0], row) for row in order]
    assert keys == sorted(keys)


def test_rows_fill_the_budget() -> None:
    """Rows of equal length are packed as tightly as the budget allows."""
    assert [len(rows) for rows in batches([(30, 2)] * 10, 128)] == [4, 4, 2]


@given(LENGTHS, st.integers(64, 4096))
def test_packed_batches_are_filled_within_the_budget(lengths: list[tuple[int, int]], max_rows: int) -> None:
    """Longest first, each window once; a batch ends only where the next window would not fit."""
    words, entities = np.array(lengths, np.int32).reshape(-1, 2).T
    found = [rows.tolist() for rows in packed(words, entities, max_rows)]
    order = [row for rows in found for row in rows]
    assert order == [row for rows in batches(lengths, max_rows) for row in rows]
    costs = [[sum(lengths[row]) for row in rows] for rows in found]
    assert all(sum(cost) <= max_rows or len(cost) == 1 for cost in costs)
    assert all(sum(cost) + following[0] > max_rows for cost, following in pairwise(costs))


class Runner:
    """Doubles its items, and is out of memory beyond `limit` of them."""

    def __init__(self, limit: int, seen: list[int]) -> None:
        self.limit, self.seen = limit, seen

    def __call__(self, items: Sequence[int]) -> list[int]:
        """Record the attempt and run it."""
        self.seen.append(len(items))
        if len(items) > self.limit:
            raise MemoryError(f"{len(items)} items")
        return [2 * item for item in items]


def is_memory_error(error: Exception) -> bool:
    """What an engine recognises."""
    return isinstance(error, MemoryError)


def test_out_of_memory_halves_the_batch() -> None:
    """A batch that does not fit is run in halves down to what fits, and the results keep their order."""
    seen: list[int] = []
    assert run_halving(Runner(2, seen), range(7), is_memory_error) == [0, 2, 4, 6, 8, 10, 12]
    assert seen == [7, 4, 2, 2, 3, 2, 1]


def test_one_item_that_does_not_fit_is_raised() -> None:
    """Nothing is left to halve: the error itself reaches the caller."""
    with pytest.raises(MemoryError, match="1 items"):
        run_halving(Runner(0, []), range(3), is_memory_error)


def test_other_errors_are_not_retried() -> None:
    """An error that is not about memory ends the batch at once."""
    seen: list[int] = []
    with pytest.raises(MemoryError, match="3 items"):
        run_halving(Runner(1, seen), range(3), lambda _: False)
    assert seen == [3]
