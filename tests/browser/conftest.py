"""A real browser, where there is one: the system's Chromium, driven by playwright."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from luke_batch.corpus.storage import Storage
from luke_batch.report.figures import collect
from luke_batch.report.html import render
from tests.reported import report_run, sentences

REQUIRED = "LUKE_BATCH_REQUIRE_BROWSER"
"""Set where a missing browser is a failure, as in continuous integration."""


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Headless Chromium; the tests are skipped where it is not installed."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        message = "Chromium is not installed (Debian: apt-get install chromium)"
        if os.environ.get(REQUIRED):
            pytest.fail(message)
        pytest.skip(message)
    with sync_playwright() as playwright:
        # Root, as in a container, has no sandbox; the pages are our own files.
        chromium = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield chromium
        chromium.close()


class Watched:
    """A page with everything that it has asked for or complained of."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.messages: list[str] = []
        self.requests: list[str] = []
        page.on("console", lambda message: self.messages.append(message.text))
        page.on("pageerror", lambda error: self.messages.append(str(error)))
        page.on("dialog", lambda dialog: self.messages.append(f"dialog {dialog.message}"))
        page.on("request", lambda request: self.requests.append(request.url))


@pytest.fixture
def watched(browser: Browser) -> Iterator[Watched]:
    """A new page."""
    context = browser.new_context(viewport={"width": 390, "height": 844})
    yield Watched(context.new_page())
    context.close()


@pytest.fixture(scope="session")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of the second of two runs, with drift, dead letters and documents of two languages."""
    folder = tmp_path_factory.mktemp("report")
    report_run(folder, sentences(150))
    rows = sentences(150, "ORG", first=1000)
    rows[7]["text"] = "This one will FAIL."
    report_run(folder, rows, number=1, drift_limit=0.2)
    return write_report(folder)


def write_report(folder: Path) -> Path:
    """The report of folder/out as a file."""
    path = folder / "report.html"
    path.write_text(render(collect(Storage.at(str(folder / "out")))), encoding="utf-8")
    return path
