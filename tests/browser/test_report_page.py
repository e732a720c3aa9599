"""The report in a real browser: nothing is asked for or executed, and people can read it."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser

from tests.browser.conftest import Watched, write_report
from tests.reported import report_run, sentences

PAYLOADS = (
    "<script>window.hacked = 1</script>",
    "\"><img src=x onerror='window.hacked = 1'>",
    "' autofocus onfocus='window.hacked = 1' x='",
    "</style><script>window.hacked = 1</script>",
    "</title><svg onload='window.hacked = 1'>",
    "<iframe src='http://203.0.113.1/'></iframe>",
    "<a href='javascript:window.hacked = 1'>click</a>",
    "{{ 7 * 7 }}{% for x in y %}",
    "<!-- &lt;b&gt; -->",
)

_ATTRIBUTES = "[...new Set([...document.querySelectorAll('*')].flatMap(e => e.getAttributeNames()))]"
"""Names of all attributes of a page."""


@pytest.fixture(scope="session")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report in which every text that may come from a document tries to be more than text."""
    folder = tmp_path_factory.mktemp("hostile")
    rows = sentences(2 * len(PAYLOADS))
    for number, row in enumerate(rows):
        payload = PAYLOADS[number % len(PAYLOADS)]
        row["title"] = payload
        row["id"] = f"{payload} {number}"
        row["lang"] = f"{payload} {number}"
        row["text"] = f"{payload} was born in {payload}y. \x00\x07\u202e"
        row["spans"] = [(payload, payload, 0.9), (f"{payload}y", payload, 0.8)]
        if number >= len(PAYLOADS):
            row["text"] = f"FAIL {payload}"
            row["spans"] = []
    report_run(folder, rows)
    return write_report(folder)


def test_nothing_from_a_document_is_executed(watched: Watched, hostile: Path) -> None:
    """No script, no handler, no request, no complaint; and the payloads are there to be read."""
    watched.page.goto(hostile.as_uri())
    for link in watched.page.locator("nav a").all():
        link.click()
    assert watched.page.evaluate("window.hacked") is None
    assert watched.messages == []
    assert {url.partition("#")[0] for url in watched.requests} == {hostile.as_uri()}
    assert watched.page.locator("script, img, iframe, object, embed, form, input").count() == 0
    assert not [name for name in watched.page.evaluate(_ATTRIBUTES) if name.startswith(("on", "style", "src"))]
    targets = watched.page.evaluate("[...document.querySelectorAll('[href]')].map(e => e.getAttribute('href'))")
    assert {target for target in targets if not target.startswith("#")} == {"data:,"}
    shown = watched.page.locator("body").inner_text()
    for payload in PAYLOADS[:8]:
        assert shown.count(payload) >= 4, payload


def test_the_policy_forbids_what_escaping_might_miss(watched: Watched, hostile: Path) -> None:
    """Were a script, a handler, a style or an image to slip in, the page's own policy would stop it."""
    watched.page.goto(hostile.as_uri())
    html = "<img src='http://203.0.113.1/x' onerror='window.hacked = 1'><p style='color: red' id='p'>x</p>"
    watched.page.evaluate(f"document.querySelector('main').insertAdjacentHTML('beforeend', {html!r})")
    watched.page.evaluate("{ const s = document.createElement('script'); s.textContent = 'window.hacked = 1';"
                          " document.body.append(s) }")  # fmt: skip
    assert watched.page.evaluate("window.hacked") is None
    assert watched.page.evaluate("document.getElementById('p').style.color") == ""
    assert len(watched.messages) >= 3
    assert all("Content Security Policy" in message for message in watched.messages)


def test_a_report_asks_for_nothing(watched: Watched, report: Path) -> None:
    """One request, for the file itself; no message on the console."""
    watched.page.goto(report.as_uri())
    assert watched.messages == []
    assert watched.requests == [report.as_uri()]


@pytest.mark.parametrize("width", [320, 390, 1280])
def test_it_fits_on_a_phone(watched: Watched, report: Path, hostile: Path, width: int) -> None:
    """The page never scrolls sideways: wide tables scroll by themselves."""
    watched.page.set_viewport_size({"width": width, "height": 700})
    for page in (report, hostile):
        watched.page.goto(page.as_uri())
        widths = watched.page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
        assert widths == [width, width]


def test_everything_is_there(watched: Watched, report: Path) -> None:
    """What ran, what came of it, where the time went, labels, drift, dead letters, coverage, documents."""
    watched.page.goto(report.as_uri())
    shown = watched.page.locator("body").inner_text()
    for part in (
        *("org/model, revision c0ffee", "f0f0f0f0f0f0f0f0", "luke-batch 0.1.0, ray 2.60.0"),
        *("149 documents in 3 fragments", "new (new in INPUT)", "done (committed before)"),
        *("Work of all workers together", "model main", "start of Ray and checks"),
        *("mentions: 298", "types: 596", "relations: 149", "Not found this time, but in the run before: PER"),
        *("Against run 20261125T020000Z-000000000", "Beyond the limit of 0.2", "1.000"),
        *("label shares have drifted beyond output.drift_limit",),
        *(
            "1 DocumentError at the stage segment",
            "part-1.parquet, row 7 (d1007)",
            "told to fail: This one will FAIL.",
        ),
        *("unlikely span", "Marie Curie", "title: Warsaw (title)", "born in ORG"),
    ):
        assert part in shown, part


def test_a_document_reads_as_text(watched: Watched, report: Path) -> None:
    """Marks carry their labels; without these the text is that of the document, in its language."""
    watched.page.goto(report.as_uri())
    text = watched.page.locator("article .text").first
    marks = text.locator("mark")
    assert [mark.locator(".tag").inner_text() for mark in marks.all()] == ["ORG", "LOC"]
    text.evaluate("e => e.querySelectorAll('.tag').forEach(tag => tag.remove())")
    assert text.inner_text().endswith("She worked there.")
    assert text.get_attribute("lang") in ("en", "de")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_axe_finds_nothing(browser: Browser, report: Path, scheme: Any, width: int) -> None:
    """axe-core's rules, among them contrast, names of drawings, headings, landmarks, tables and focus."""
    context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 800})
    page = context.new_page()
    page.goto(report.as_uri())
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    assert page.evaluate("getComputedStyle(document.body).colorScheme") == "light dark"
    context.close()


def test_light_and_dark_differ(browser: Browser, report: Path) -> None:
    """The page follows the system."""
    colours: list[str] = []
    for scheme in ("light", "dark"):
        context = browser.new_context(color_scheme=scheme)
        page = context.new_page()
        page.goto(report.as_uri())
        colours.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        context.close()
    assert colours == ["rgb(251, 251, 250)", "rgb(21, 22, 26)"]


def test_a_keyboard_is_enough(watched: Watched, report: Path) -> None:
    """First a way past the navigation; every link leads somewhere; details open and close."""
    page = watched.page
    page.goto(report.as_uri())
    page.keyboard.press("Tab")
    skip = page.locator(".skip")
    assert skip.evaluate("e => e === document.activeElement && e.getBoundingClientRect().left >= 0")
    page.keyboard.press("Enter")
    assert page.url.endswith("#main")
    targets = page.evaluate("[...document.querySelectorAll('nav a')].map(a => !!document.querySelector(a.hash))")
    assert targets
    assert all(targets)
    summary = page.locator("summary", has_text="Configuration")
    summary.focus()
    assert page.locator("pre").is_hidden()
    page.keyboard.press("Enter")
    assert page.locator("pre").is_visible()


def test_a_screen_reader_is_told(watched: Watched, report: Path) -> None:
    """Title, language, landmarks, headings without gaps, drawings with names, tables with headers."""
    page = watched.page
    page.goto(report.as_uri())
    assert page.title() == "luke-batch report: run 20261126T020000Z-000000001"
    tree = page.locator("body").aria_snapshot()
    for part in (
        *("- banner:", "- main:", "- contentinfo:", '- navigation "Sections":'),
        *('heading "luke-batch report" [level=1]', 'heading "Drift of label shares" [level=2]'),
        *('img "Documents a second over time"', 'columnheader "scores 0 to 1"', 'rowheader "LOC"'),
    ):
        assert part in tree, part
    levels = page.evaluate("[...document.querySelectorAll('h1,h2,h3')].map(h => +h.tagName[1])")
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert page.locator("svg:not([aria-hidden='true']):not([role='img'])").count() == 0
