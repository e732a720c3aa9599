"""The blocks of code in Markdown pages."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]

_FENCE = re.compile(
    r"^(?:<!-- not run: (?P<reason>.+?) -->\n)?```(?P<language>\w*)\n(?P<code>.*?)^```$", re.M | re.S
)


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
        Block(
            page, text[: found.start("code")].count("\n"), found["language"], found["code"], found["reason"]
        )
        for found in _FENCE.finditer(text)
    ]


def outside_blocks(page: str) -> list[str]:
    """Lines of a page that are in no fenced block."""
    return _FENCE.sub("", (ROOT / page).read_text(encoding="utf-8")).splitlines()
