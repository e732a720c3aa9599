"""Imports run downwards only, and nothing heavy is loaded early."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]
_FLOOR = ("base",)
"""Every room may use it; it uses none."""

# Room -> what it may import besides itself and the floor.
_ALLOWED: dict[str, set[str]] = {
    "__init__": {"annotate", "config", "corpus", "distributed"},
    "base": set(),
    "document": set(),
    "text": set(),
    "model": {"document"},
    "heads": {"document", "model", "text"},
    "config": {"heads", "model", "text"},
    "corpus": {"config", "document"},
    "annotate": {"config", "corpus", "document", "heads", "model", "text"},
    "isolation": {"annotate", "config", "corpus", "document", "model"},
    "report": {"corpus", "document"},
    "evaluation": {"corpus", "document"},
    "titles": {"annotate", "config", "corpus", "evaluation", "heads", "model", "text"},
    "index": {"annotate", "config", "corpus"},
    "training": {"corpus", "document", "evaluation", "heads", "model", "text"},
    "distributed": {
        "annotate",
        "config",
        "corpus",
        "document",
        "index",
        "isolation",
        "model",
        "text",
        "training",
    },
    "cli": {
        "__init__",
        "annotate",
        "config",
        "corpus",
        "distributed",
        "embedded",
        "evaluation",
        "index",
        "model",
        "report",
        "titles",
        "training",
    },
    "embedded": set(),
}
_LIGHT = (
    "import luke_batch",
    "import luke_batch; luke_batch.JobConfig",
    "from luke_batch.config.loading import load_config; load_config(None, ['heads.0.decode=nested'])",
    "from luke_batch.cli import run; run(['--help'])",
    "from luke_batch.cli import run; run(['annotate', '--help'])",
    "import luke_batch.corpus.compaction",
    "import luke_batch.distributed.planning",
    "from luke_batch.cli import run; run(['finetune', '--help'])",
    "from luke_batch.cli import run; run(['config', 'show'])",
    "from luke_batch.cli import run; run(['models', 'list'])",
    "from luke_batch.cli import run; run(['models', 'add-entities', '--help'])",
    "import luke_batch.evaluation.calibration, luke_batch.evaluation.summary",
    "import luke_batch.corpus.plan",
    "import luke_batch.distributed.index, luke_batch.index.search",
    "from luke_batch.cli import run; run(['index', 'build', '--help'])",
    "import luke_batch.config.fingerprint",
    "import luke_batch.model.files.checkpoint",
    "import luke_batch.text.names.aliases, luke_batch.titles.alias_table",
)
_HEAVY = {"ray": {"distributed"}, "torch": {"model", "training"}, "transformers": {"model", "training"}}


def _modules() -> list[Path]:
    return sorted((_ROOT / "luke_batch").rglob("*.py"))


def _room(path: Path) -> str:
    return path.relative_to(_ROOT / "luke_batch").parts[0].removesuffix(".py")


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", _modules(), ids=lambda path: str(path.relative_to(_ROOT)))
def test_a_module_imports_downwards_only(path: Path) -> None:
    """Distributed, annotate, corpus, config, heads, then text and model: no import runs the other way."""
    allowed = _ALLOWED[_room(path)] | set(_FLOOR) | {_room(path)}
    for name in _imports(path):
        package, _, rest = name.partition(".")
        if package == "luke_batch":
            room = rest.split(".")[0]
            assert (room if room in _ALLOWED else "__init__") in allowed, f"{path.name} imports {name}"
        elif package in _HEAVY:
            assert _room(path) in _HEAVY[package], f"{path.name} imports {name}"


@pytest.mark.parametrize("path", sorted((_ROOT / "jobs").glob("*.py")), ids=lambda path: path.name)
def test_a_job_is_a_thin_entry_point(path: Path) -> None:
    """Jobs hand their arguments to the command line and do nothing else."""
    ours = {name for name in _imports(path) if name.startswith("luke_batch")}
    assert ours == {"luke_batch.cli.main"}


def test_neither_torch_nor_ray_is_loaded_early() -> None:
    """What needs no model and no cluster starts at once: a process that does all of it loads neither."""
    code = (
        "import sys\n"
        "for statement in sys.argv[1:]:\n"
        "    exec(statement)\n"
        "    found = {'ray', 'torch', 'transformers'} & set(sys.modules)\n"
        "    if found: sys.exit(f'{statement} loads {found}')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *_LIGHT], capture_output=True, text=True, check=False, timeout=120
    )
    assert (done.returncode, done.stderr) == (0, "")
