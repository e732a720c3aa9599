"""Pages of the checkout as pages of the site.

In the checkout links lead to files, so that they work wherever it is browsed. In the site a link to a page
leads to that page, and one to another file becomes the file's path.
"""

import posixpath
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]

_ELSEWHERE = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "infra/README.md": "infrastructure.md",
    "luke_batch/embedded/model/README.md": "embedded-model.md",
    "docs/index.md": "entity-index.md",
    "schemas": "reference/schemas.md",
    "schemas/": "reference/schemas.md",
}
"""Files of the checkout -> pages of the site; the other pages of docs/ keep their names."""
_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s#]+)(#[^)\s]*)?\)")


def collect() -> dict[str, str]:
    """Page -> Markdown, links rewritten. Raises ValueError for a link to nothing."""
    sources = [*(path for path in _ELSEWHERE if path.endswith(".md") and (ROOT / path).exists())]
    sources += [f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md"))]
    return {page_of(path): rewrite(path, (ROOT / path).read_text("utf-8")) for path in dict.fromkeys(sources)}


def page_of(path: str) -> str:
    """The page of a file."""
    return _ELSEWHERE.get(path) or posixpath.relpath(path, "docs")


def rewrite(path: str, text: str) -> str:
    """The text of the file `path` with its links as they are in the site."""
    here = posixpath.dirname(page_of(path))

    def replaced(found: re.Match[str]) -> str:
        image, words, target, anchor = found.groups()
        if "://" in target or target.startswith("mailto:"):
            return found[0]
        file = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
        # The reference exists in the site alone.
        if file.startswith("docs/reference/"):
            return f"[{words}]({posixpath.relpath(posixpath.relpath(file, 'docs'), here or '.')}{anchor or ''})"
        if not (ROOT / file).exists():
            raise ValueError(f"{path} links to {target}, which is not there")
        if file in _ELSEWHERE or (file.startswith("docs/") and not (ROOT / file).is_dir()):
            return f"{image}[{words}]({posixpath.relpath(page_of(file), here or '.')}{anchor or ''})"
        return words if words.strip("`") in file else f"{words} (`{file}`)"

    return _LINK.sub(replaced, text)
