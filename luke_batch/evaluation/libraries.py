"""The libraries of the extra `evaluate`."""

from importlib.util import find_spec

from luke_batch.base.errors import MissingDependencyError

_PACKAGES = {"scipy": "scipy", "sklearn": "scikit-learn"}


def check_libraries() -> None:
    """Raise MissingDependencyError, with the pip command, unless all are installed."""
    missing = [package for module, package in _PACKAGES.items() if find_spec(module) is None]
    if missing:
        raise MissingDependencyError(
            f"evaluation and calibration need {' and '.join(missing)}: pip install {' '.join(missing)}"
        )
