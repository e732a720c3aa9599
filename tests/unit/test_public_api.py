"""The names that `luke_batch` exports."""

import luke_batch


def test_everything_in_all_exists() -> None:
    """`__all__` is true, sorted, and what `dir` shows."""
    assert luke_batch.__all__ == sorted(luke_batch.__all__)
    assert dir(luke_batch) == luke_batch.__all__
    for name in luke_batch.__all__:
        assert getattr(luke_batch, name) is not None


def test_an_unknown_name_is_an_attribute_error() -> None:
    """The lazy lookup fails as a module does."""
    assert not hasattr(luke_batch, "no_such_name")
