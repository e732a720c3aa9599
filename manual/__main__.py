"""`python -m manual`: build the site into build/site; any warning, such as a dead link, fails it."""

import shutil
import subprocess
import sys
from pathlib import Path

from manual.pages import ROOT, collect
from manual.reference import references

PAGES = ROOT / "build" / "docs"


def write_pages(target: Path) -> list[str]:
    """Write all pages below `target`; their paths. Raises ValueError for a link to nothing."""
    shutil.rmtree(target, ignore_errors=True)
    pages = {**collect(), **references()}
    for name, text in pages.items():
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    for image in (ROOT / "docs").rglob("*"):
        if image.suffix in {".svg", ".png", ".html"}:
            copy = target / image.relative_to(ROOT / "docs")
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(image, copy)
    return sorted(pages)


def main() -> int:
    """The exit code of the site's builder."""
    write_pages(PAGES)
    builder = Path(sys.executable).parent / "zensical"
    done = subprocess.run([builder, "build", "--strict"], cwd=ROOT, check=False)  # noqa: S603 - our own tool
    if done.returncode == 0:
        sys.stdout.write(f"the site is in {ROOT / 'build' / 'site'}\n")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
