"""The blocks of code in Markdown pages."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]

_FENCE = re.compile(r"^(?:<!-- not run: (?P<reason>.+?) -->\n)?```(?P<language>\w*)\n(?P<code>.*?)^```$", re.M | re.S)
_FILE = re.compile(r"# (\S+\.yaml)\n")


@dataclass(frozen=True)
class Block:
    """A fenced block; it is executed unless the comment before it gives a reason."""

    page: str
    line: int
    language: str
    code: str
    reason: str | None

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(page: str) -> list[Block]:
    """All fenced blocks of a page of the checkout, in their order."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return [
        Block(page, text[: found.start("code")].count("\n"), found["language"], found["code"], found["reason"])
        for found in _FENCE.finditer(text)
    ]


def outside_blocks(page: str) -> list[str]:
    """Lines of a page that are in no fenced block."""
    return _FENCE.sub("", (ROOT / page).read_text(encoding="utf-8")).splitlines()


def write_files(page: str, folder: Path) -> None:
    """The YAML blocks of a page that begin with the name of a file, as files in `folder`."""
    for content in _code(page, "yaml"):
        named = _FILE.match(content)
        if named:
            (folder / named[1]).write_text(content, encoding="utf-8")


def commands(page: str) -> list[list[str]]:
    """The arguments of every `luke-batch …` line in the page's shell blocks."""
    lines = [line for content in _code(page, "sh") for line in content.splitlines()]
    return [line.split()[1:] for line in lines if line.startswith("luke-batch ")]


def run_python(page: str) -> None:
    """Execute the page's Python blocks one after another in one namespace."""
    namespace: dict[str, object] = {}
    for number, content in enumerate(_code(page, "python"), 1):
        exec(compile(content, f"{page}, Python block {number}", "exec"), namespace)


def _code(page: str, language: str) -> list[str]:
    return [block.code for block in blocks(page) if block.language == language and block.reason is None]
