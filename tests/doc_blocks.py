"""The code blocks of documentation pages."""

import re
from pathlib import Path

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"# (\S+\.yaml)\n")
DOCS = Path(__file__).parents[1] / "docs"


def blocks(page: str, language: str) -> list[str]:
    """The blocks of one language in the page `docs/<page>`, in their order."""
    text = (DOCS / page).read_text(encoding="utf-8")
    return [content for kind, content in _BLOCK.findall(text) if kind == language]


def write_files(page: str, folder: Path) -> None:
    """The YAML blocks that begin with the name of a file, as files in `folder`."""
    for content in blocks(page, "yaml"):
        named = _FILE.match(content)
        if named:
            (folder / named[1]).write_text(content, encoding="utf-8")


def commands(page: str) -> list[list[str]]:
    """The arguments of every `luke-batch …` line in the page's shell blocks."""
    lines = [line for content in blocks(page, "sh") for line in content.splitlines()]
    return [line.split()[1:] for line in lines if line.startswith("luke-batch ")]


def run_python(page: str) -> None:
    """Execute the page's Python blocks one after another in one namespace."""
    namespace: dict[str, object] = {}
    for number, content in enumerate(blocks(page, "python"), 1):
        exec(compile(content, f"{page}, Python block {number}", "exec"), namespace)
