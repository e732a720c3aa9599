"""The size of the house: `python -m manual.size [--base FOLDER] [--json]`; `--base` names another checkout to compare.
`python -m manual.size --way` lists the files that a sentence enters, which docs/architecture.md explains.

A *room* is a folder of luke_batch with modules of its own, or a module beside those folders. Imports are those of files
as written, at the head of a file or inside of a function; what is imported for types alone makes no circle. A file
*touches* a head, a proposer or a column where its path, an import, an identifier or a whole string names it, so that
somebody who changes that name must edit the file.

The way of a sentence is traced in a fresh process: functions entered, and their files, while `Annotator.annotate` works
on one sentence with the head `ner` alone; and the same with `Annotator.from_config` before it, which loads the model.
What an import runs is not counted.
"""

import argparse
import ast
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).parents[1]
PACKAGE = "luke_batch"
SHORT = 60
"""Lines below which a file counts as a short one."""

NAMES: dict[str, tuple[str, set[str]]] = {
    "head choice": ("choice", {"CHOICE", "Choice", "ChoiceConfig", "ChoiceHead"}),
    "head cloze": ("cloze", {"CLOZE", "Cloze", "ClozeConfig", "ClozeHead"}),
    "proposer gazetteer": (
        "gazetteer",
        {"gazetteer", "Gazetteer", "GazetteerConfig", "load_gazetteer", "GAZETTEER_FACT"},
    ),
    "proposer alias": (
        "alias",
        {"AliasTable", "AliasConfig", "load_aliases", "ALIASES_FACT", "uses_aliases"},
    ),
    "column mention_embeddings": ("mention_embeddings", set()),
    "column word_embeddings": ("word_embeddings", set()),
}
"""Thing -> its name for users, which a file has as a whole string or in a path, and identifiers that stand for it."""

Figures = dict[str, int | str]
_SENTENCE = "Marie Curie was born in Warsaw and worked in Paris."
_CO_OPTIMIZED = 1
"""Of code objects: a function, and neither a module nor the body of a class."""


def measure(root: Path) -> Figures:
    """What is counted in the text of `root`/luke_batch."""
    trees = {path: ast.parse(path.read_text("utf-8")) for path in sorted((root / PACKAGE).rglob("*.py"))}
    lines = {path: len(path.read_text("utf-8").splitlines()) for path in trees}
    modules = {module_name(root, path): path for path in trees}
    rooms = {path: room(root, path) for path in trees}
    needed = {path: set(imported(tree, modules)) - {path} for path, tree in trees.items()}
    always = {path: set(imported(tree, modules, types=False)) - {path} for path, tree in trees.items()}
    importers = {path: sum(path in found for found in needed.values()) for path in trees if path.stem != "__init__"}
    between = {(rooms[path], rooms[other]) for path, found in needed.items() for other in found}
    longest = max(lines, key=lambda path: lines[path])
    length, function = max(functions(trees), default=(0, ""))
    figures: Figures = {
        "files": len(trees),
        "lines": sum(lines.values()),
        "rooms": len({rooms[path] for path in trees if path.stem != "__init__"}),
        "imports between rooms": len([pair for pair in between if pair[0] != pair[1]]),
        "circles between files": circles(always),
        f"files under {SHORT} lines": sum(count < SHORT for count in lines.values()),
        "files with one importer": sum(count == 1 for count in importers.values()),
        "longest file": f"{lines[longest]} ({longest.relative_to(root / PACKAGE)})",
        "longest function": f"{length} ({function})",
    }
    for thing, (name, identifiers) in NAMES.items():
        touched = [path for path, tree in trees.items() if touches(path.relative_to(root), tree, name, identifiers)]
        figures[f"files that {thing} touches"] = len(touched)
    return figures


def module_name(root: Path, path: Path) -> str:
    """Dotted, as an import names it."""
    return ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")


def room(root: Path, path: Path) -> str:
    """The folder of a file below luke_batch; a module beside the folders is a room of its own."""
    inside = path.relative_to(root / PACKAGE)
    return inside.parent.as_posix() if inside.parent.parts else inside.stem


def imported(tree: ast.AST, modules: Mapping[str, Path], *, types: bool = True) -> Iterator[Path]:
    """The files that a file imports; without `types` those alone that it imports when it runs."""
    if not types and isinstance(tree, ast.If) and "TYPE_CHECKING" in ast.unparse(tree.test):
        return
    if isinstance(tree, ast.Import):
        yield from (modules[alias.name] for alias in tree.names if alias.name in modules)
    elif isinstance(tree, ast.ImportFrom) and tree.module:
        names = [f"{tree.module}.{alias.name}" for alias in tree.names]
        yield from (modules[name] for name in names if name in modules)
        if tree.module in modules and not all(name in modules for name in names):
            yield modules[tree.module]
    for child in ast.iter_child_nodes(tree):
        yield from imported(child, modules, types=types)


def circles(needed: Mapping[Path, set[Path]]) -> int:
    """How many groups of files import one another, directly or through others."""
    reached = {path: _reached(path, needed) for path in needed}
    rings = {
        frozenset(other for other in reached[path] if path in reached[other])
        for path in needed
        if path in reached[path]
    }
    return len(rings)


def _reached(start: Path, needed: Mapping[Path, set[Path]]) -> set[Path]:
    found: set[Path] = set()
    open_ends = [start]
    while open_ends:
        more = needed[open_ends.pop()] - found
        found |= more
        open_ends += more
    return found


def functions(trees: Mapping[Path, ast.AST]) -> Iterator[tuple[int, str]]:
    """Length in lines and name of every function."""
    for path, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield (node.end_lineno or node.lineno) - node.lineno + 1, f"{path.stem}.{node.name}"


def touches(path: Path, tree: ast.AST, name: str, identifiers: set[str]) -> bool:
    """Whether a file's path, imports or strings have `name`, or its code one of `identifiers`; each as a whole, so that
    docstrings and comments do not count.
    """
    if name in path.with_suffix("").parts:
        return True
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value=found) | ast.alias(name=found) if found == name:
                return True
            case ast.ImportFrom(module=str(module)) if name in module.split("."):
                return True
            case (
                ast.Name(id=found)
                | ast.Attribute(attr=found)
                | ast.keyword(arg=found)
                | ast.arg(arg=found)
                | ast.alias(name=found)
                | ast.FunctionDef(name=found)
                | ast.ClassDef(name=found)
            ) if found in identifiers:
                return True
            case _:
                pass
    return False


def traced(root: Path) -> tuple[Figures, list[str]]:
    """What one sentence enters in the checkout `root`, in a process of its own with this interpreter: how much, and
    which files of luke_batch, in this order.
    """
    environment = os.environ | {"PYTHONPATH": str(root)}
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(  # noqa: S603 - this very file
            [sys.executable, "-P", __file__, "--trace", str(root)],
            env=environment,
            cwd=folder,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    figures, files = json.loads(done.stdout.splitlines()[-1])
    return figures, files


def trace(root: Path) -> tuple[Figures, list[str]]:
    """What `traced` gives, from this process, which must not have loaded luke_batch before."""
    import pyarrow as pa

    from luke_batch import Annotator, JobConfig

    config = JobConfig.model_validate({"heads": [{"head": "ner"}]})
    table = pa.table({"id": ["a"], "text": [_SENTENCE]})
    loading, annotating = Entered(root / PACKAGE), Entered(root / PACKAGE)
    with loading:
        annotator = Annotator.from_config(config)
    with annotating:
        annotated = annotator.annotate(table)
    assert annotated["mentions"][0].as_py(), "the sentence has mentions"
    every = loading.functions | annotating.functions
    files = dict.fromkeys(file for file, _, _ in annotating.functions)
    figures: Figures = {
        "files entered by a sentence": len(files),
        "functions entered by a sentence": len(annotating.functions),
        "files entered, loading included": len({file for file, _, _ in every}),
        "functions entered, loading included": len(every),
    }
    return figures, [Path(file).relative_to(root / PACKAGE).as_posix() for file in files]


class Entered:
    """Inside of `with`: notes which functions of the files below `folder` are entered, in any thread."""

    def __init__(self, folder: Path) -> None:
        self.functions: dict[tuple[str, int, str], None] = {}
        """File, line and name of each, in the order in which they were entered first."""
        self._folder = f"{folder}{os.sep}"

    def __enter__(self) -> None:
        threading.setprofile(self._note)
        sys.setprofile(self._note)

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)
        threading.setprofile(None)

    def _note(self, frame: FrameType, event: str, _argument: Any) -> None:
        code = frame.f_code
        if event == "call" and self._ours(frame) and not self._while_importing(frame):
            self.functions.setdefault((code.co_filename, code.co_firstlineno, code.co_qualname))

    def _ours(self, frame: FrameType) -> bool:
        """Whether a function of ours is entered: no module, no body of a class, no comprehension."""
        code = frame.f_code
        named = code.co_name == "<lambda>" or not code.co_name.startswith("<")
        return bool(code.co_flags & _CO_OPTIMIZED) and named and code.co_filename.startswith(self._folder)

    def _while_importing(self, frame: FrameType | None) -> bool:
        while frame is not None:
            if frame.f_code.co_name == "<module>" and frame.f_code.co_filename.startswith(self._folder):
                return True
            frame = frame.f_back
        return False


def table(after: Figures, before: Figures | None) -> str:
    """The figures as text, one line each."""
    rows = [["", *([] if before is None else ["before"]), "after"]]
    rows += [[name, *([] if before is None else [_shown(before[name])]), _shown(after[name])] for name in after]
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _shown(value: int | str) -> str:
    return value if isinstance(value, str) else f"{value:,}"


def main() -> None:
    """Print the figures of this checkout, beside those of another one."""
    parser = argparse.ArgumentParser(prog="python -m manual.size", description="The size of the house.")
    parser.add_argument("--base", type=Path, metavar="FOLDER", help="another checkout, to compare with")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--way", action="store_true", help="print the files that a sentence enters, in this order")
    parser.add_argument("--trace", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.trace is not None:
        sys.stdout.write(json.dumps(trace(options.trace)) + "\n")
        return
    if options.way:
        sys.stdout.write("".join(f"{file}\n" for file in traced(ROOT)[1]))
        return
    roots = {"after": ROOT} | ({} if options.base is None else {"before": options.base.resolve()})
    figures = {name: measure(root) | traced(root)[0] for name, root in roots.items()}
    shown = json.dumps(figures, indent=2) if options.json else table(figures["after"], figures.get("before"))
    sys.stdout.write(shown + "\n")


if __name__ == "__main__":
    main()
