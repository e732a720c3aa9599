"""The documentation site: strict, complete, and in step with the code."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from luke_batch import JobConfig
from luke_batch.distributed.metrics import METRICS
from manual import pages, reference
from manual.__main__ import write_pages
from tests.documentation import ROOT, blocks, outside_blocks


def nav(entries: list[object]) -> list[str]:
    """Pages of a navigation."""
    found: list[str] = []
    for entry in entries:
        assert isinstance(entry, dict)
        for target in entry.values():
            found += nav(target) if isinstance(target, list) else [str(target)]
    return found


def test_site_builds_strictly(tmp_path: Path) -> None:
    """No dead link, no dead anchor; the navigation has every page once."""
    configuration = (ROOT / "zensical.toml").read_text("utf-8")
    written = write_pages(tmp_path / "build" / "docs")
    listed = nav(tomllib.loads(configuration)["project"]["nav"])
    assert sorted(listed) == written
    (tmp_path / "zensical.toml").write_text(configuration, "utf-8")
    builder = Path(sys.executable).parent / "zensical"
    done = subprocess.run([builder, "build", "--strict"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "build" / "site" / "reference" / "configuration" / "index.html").exists()


def test_a_dead_link_fails() -> None:
    """To a file as to a page."""
    with pytest.raises(ValueError, match="no-such-file"):
        pages.rewrite("docs/annotate.md", "[x](../no-such-file.py)")


@pytest.mark.parametrize(
    ("path", "link", "expected"),
    [
        ("README.md", "[a](docs/nightly.md#plan)", "[a](nightly.md#plan)"),
        ("README.md", "[a](NOTICE)", "a (`NOTICE`)"),
        ("docs/s3.md", "[a](../infra/README.md)", "[a](infrastructure.md)"),
        ("docs/s3.md", "[x](https://example.org/a.md)", "[x](https://example.org/a.md)"),
        ("docs/s3.md", "[c](reference/metrics.md)", "[c](reference/metrics.md)"),
        ("luke_batch/embedded/model/README.md", "[s](../../../docs/s3.md)", "[s](s3.md)"),
    ],
)
def test_links_lead_to_pages(path: str, link: str, expected: str) -> None:
    """Files of the checkout become pages, or words."""
    assert pages.rewrite(path, link) == expected


def test_references_are_complete() -> None:
    """Every key, metric and contract is there with a meaning."""
    text = reference.configuration()
    for name, section in JobConfig.model_json_schema()["$defs"].items():
        for key in section["properties"]:
            assert f"| `{key}` |" in text, (name, key)
    assert all(f"`{metric.exported}`" in reference.metrics() for metric in METRICS)
    assert all(f"## {path.stem}" in reference.schemas() for path in (ROOT / "schemas").glob("*.json"))
    assert all(f"## `luke-batch {name}`" in reference.command_line() for name in ("annotate", "plan", "demo"))


@pytest.mark.parametrize("page", ["README.md", "docs/get-started.md", "docs/deploy.md"])
def test_commands_stand_in_blocks_that_are_run_or_say_why_not(page: str) -> None:
    """A command in an indented block would be overlooked; tests/integration/test_documentation.py runs the
    others.
    """
    assert not [line for line in outside_blocks(page) if re.match(r" {4}\S", line)]
    assert all(block.language for block in blocks(page))
    if page == "docs/deploy.md":
        assert all(block.reason for block in blocks(page))
