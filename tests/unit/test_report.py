"""What a report says of a run, and what it says plainly that it does not know."""

import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from luke_batch import cli
from luke_batch.corpus.commit import Committed
from luke_batch.corpus.compaction import compact
from luke_batch.corpus.lease import Lease
from luke_batch.corpus.manifest import RunManifest, read_manifests, write_manifest
from luke_batch.corpus.statistics import BINS, totals
from luke_batch.corpus.storage import Storage
from luke_batch.distributed.results import MOST_POINTS, ItemResult, RunTally, Throughput
from luke_batch.report import charts
from luke_batch.report.figures import Figures, collect
from luke_batch.report.html import render
from luke_batch.report.samples import Mark, highlight
from luke_batch.report.terminal import print_report
from tests.reported import report_run, sentences


def _output(folder: Path) -> Storage:
    return Storage.at(str(folder / "out"))


def _figures(folder: Path, run_id: str | None = None) -> Figures:
    return collect(_output(folder), run_id)


def _terminal(figures: Figures) -> str:
    file = io.StringIO()
    print_report(figures, Console(file=file, width=120))
    return file.getvalue()


# Marks


def _flat(parts: list[str | Mark]) -> str:
    return "".join(part if isinstance(part, str) else _flat(part.parts) for part in parts)


def _covered(parts: list[str | Mark], label: str) -> str:
    """The text inside of the mark with this label."""
    for part in parts:
        if isinstance(part, Mark):
            found = _flat(part.parts) if part.label == label else _covered(part.parts, label)
            if found:
                return found
    return ""


@given(st.data())
def test_marks_change_no_text(data: st.DataObject) -> None:
    """Whatever the mentions, the pieces together are the text; each mark holds its mention from the start on,
    and the whole of it unless it crosses an earlier one.
    """
    text = data.draw(st.text(min_size=1, max_size=30))
    end = data.draw(st.integers(0, len(text)))
    places = st.tuples(st.integers(0, len(text)), st.integers(0, len(text)))
    spans = sorted({(min(p), max(p)) for p in data.draw(st.lists(places, max_size=6))}, key=lambda s: (s[0], -s[1]))
    mentions = [(start, stop, str(number)) for number, (start, stop) in enumerate(spans)]
    parts = highlight(text, mentions, end)
    assert _flat(parts) == text[:end]
    for start, stop, label in mentions:
        shown = _covered(parts, label)
        if start < stop <= end:
            assert shown
            assert text[start:stop].startswith(shown)
            crossed = any(a < start < b < stop for a, b, _ in mentions if a < b <= end)
            assert crossed or shown == text[start:stop]
        else:
            assert shown == ""


def test_a_mention_that_crosses_another_is_cut() -> None:
    """Only the part inside of the earlier one is marked, and says that it goes on."""
    (outer,) = [part for part in highlight("abcdef", [(0, 4, "A"), (2, 6, "B")], 6) if isinstance(part, Mark)]
    (inner,) = [part for part in outer.parts if isinstance(part, Mark)]
    assert (inner.parts, inner.cut, outer.cut) == (["cd"], True, False)


# Drawings


@given(st.lists(st.tuples(st.floats(0, 5000), st.integers(0, 50)), max_size=60))
def test_throughput_keeps_every_document_in_few_counts(steps: list[tuple[float, int]]) -> None:
    """However long it takes: the sum is exact, and the number of counts bounded."""
    now = 0.0
    throughput = Throughput(lambda: now)
    for seconds, documents in steps:
        now += seconds
        throughput.add(documents)
    found: Any = throughput.figures()
    assert sum(found["documents"]) == sum(documents for _, documents in steps)
    assert len(found["documents"]) <= MOST_POINTS
    assert found["seconds"] * max(len(found["documents"]) - 1, 0) <= now


@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=MOST_POINTS), st.sampled_from([1.0, 8.0, 4096.0]))
def test_a_drawing_stays_inside(counts: list[int], width: float) -> None:
    """All points and ticks lie in the drawing; the table has every document."""
    line = charts.throughput({"seconds": width, "documents": counts})
    if not any(counts):
        assert line is None
        return
    assert line is not None
    points = [tuple(map(float, point.split(","))) for point in line.points.split()]
    assert all(0 <= x <= charts.WIDTH and 0 <= y <= charts.HEIGHT for x, y in points)
    assert all(0 <= tick.at <= charts.WIDTH for tick in line.x_ticks)
    assert all(0 <= tick.at <= charts.HEIGHT for tick in line.y_ticks)
    assert len(line.rows) <= 12
    assert sum(count for _, count, _ in line.rows) == sum(counts)


def test_scores_are_drawn_relative_to_the_largest_bin() -> None:
    """Twenty bars; the count without a score is no bar."""
    bins = [0] * (BINS + 1)
    bins[0], bins[19], bins[BINS] = 1, 4, 9
    bars = charts.histogram(bins)
    assert (len(bars), bars[0], bars[19]) == (BINS, (0.0, 0.25, 1), (0.95, 1.0, 4))
    assert charts.mean_score(bins) == pytest.approx((0.025 + 4 * 0.975) / 5)
    assert charts.mean_score([0] * BINS + [3]) is None


def test_some_committed_files_are_remembered() -> None:
    """A dozen of however many, with documents, all as likely."""
    tally = RunTally()
    for number in range(500):
        entry = Committed(f"data/{number}", "s", number % 2, 0, 10, "v", 0, {})
        tally.add(ItemResult((entry,), 0))
    numbers = [int(path.removeprefix("data/")) for path in tally.samples]
    assert len(set(numbers)) == len(numbers) == 12
    assert all(number % 2 for number in numbers)
    assert max(numbers) > 250
    assert (tally.bytes, tally.fragments, tally.documents) == (5000, 500, 250)


# Reports


def test_figures_equal_the_data(tmp_path: Path) -> None:
    """Labels of the report are those of a count over the committed files."""
    report_run(tmp_path, sentences(120))
    figures = _figures(tmp_path)
    rows = [row for path in (tmp_path / "out" / "data").iterdir() for row in pq.read_table(path).to_pylist()]
    labels = [mention["label"] for row in rows for mention in row["mentions"]]
    assert figures.statistics is not None
    assert totals(figures.statistics.labels["mentions"]) == {
        "LOC": labels.count("LOC"),
        "PER": labels.count("PER"),
    }
    assert figures.committed == figures.statistics.documents == len(rows) == 120
    assert figures.statistics.coverage["characters"] == sum(len(row["text"]) for row in rows)
    assert figures.statistics.dropped == {"unlikely_span": 240}


def test_one_run_alone_says_so(tmp_path: Path) -> None:
    """Nothing to compare with is no error, on the page, the terminal and in JSON."""
    report_run(tmp_path, sentences(5))
    figures = _figures(tmp_path)
    said = "OUTPUT has no earlier run: there is nothing to compare the labels with."
    assert figures.notes == [said]
    assert said in render(figures)
    assert "Not measured: there is no earlier run whose labels are known." in render(figures)
    assert said in _terminal(figures)
    assert said in figures.to_json()["notes"]


def test_missing_figures_are_said_plainly(tmp_path: Path) -> None:
    """An older version's manifest, an earlier run without figures, one whose manifest is gone or damaged."""
    first = report_run(tmp_path, sentences(150))
    write_manifest(_output(tmp_path), replace(first, figures={"documents": 150}))
    second = report_run(tmp_path, sentences(150, first=1000), number=1)
    assert "No earlier run (1 in OUTPUT) recorded labels of documents" in _figures(tmp_path).notes[0]
    old = _figures(tmp_path, first.run_id)
    assert any("recorded no labels, scores and coverage" in note for note in old.notes)
    page = render(old)
    for said in ("No labels are known", "No coverage is known", "recorded no documents over time"):
        assert said in page
    assert "150 committed by this run" in _terminal(old)
    report_run(tmp_path, sentences(150, first=2000), number=2)
    path = tmp_path / "out" / "_luke_batch" / "runs" / f"{second.run_id}.json"
    path.write_text("{")
    assert _figures(tmp_path).notes == [
        "Manifests of 1 runs cannot be read: damaged, or of another version.",
        f"The figures of the run before, {second.run_id}, are no longer there.",
    ]
    assert second.run_id in render(_figures(tmp_path))


def test_a_run_that_has_not_finished_is_told(tmp_path: Path) -> None:
    """The last that finished is shown; where none has, the one under way."""
    first = report_run(tmp_path, sentences(5))
    open_run = replace(first, run_id="20991231T000000Z-0", finished=None, outcome=None, exit_code=None, figures={})
    write_manifest(_output(tmp_path), open_run)
    figures = _figures(tmp_path)
    assert figures.run.run_id == first.run_id
    assert "20991231T000000Z-0 began later and has not finished" in figures.notes[0]
    (tmp_path / "out" / "_luke_batch" / "runs" / f"{first.run_id}.json").unlink()
    figures = _figures(tmp_path)
    assert "This run has not finished" in figures.notes[0]
    assert "not finished: under way, or stopped" in render(figures)
    assert "not finished: under way, or stopped" in _terminal(figures)


def test_a_replay_is_not_compared(tmp_path: Path) -> None:
    """Its few documents are unlike others; the report says so instead of calling it the first run."""
    run = report_run(tmp_path, sentences(5))
    later = replace(run, run_id="20991231T000000Z-0", command="replay")
    write_manifest(_output(tmp_path), later)
    assert _figures(tmp_path).notes == [
        "A replay is of few documents: its labels are not compared with an earlier run's."
    ]


def test_a_merged_output_still_shows_documents(tmp_path: Path) -> None:
    """The run's own files are gone: the report shows others and says so."""
    report_run(tmp_path, sentences(120))
    with Lease(_output(tmp_path), "c", 5) as lease:
        compact(_output(tmp_path), lease, 10**9)
    figures = _figures(tmp_path)
    assert len(figures.samples) == 8
    assert any("merged or replaced" in note for note in figures.notes)


def test_columns_that_the_report_does_not_know_do_no_harm(tmp_path: Path) -> None:
    """Output files with further columns, and without those of other heads."""
    report_run(tmp_path, sentences(4))
    for path in (tmp_path / "out" / "data").iterdir():
        table = pq.read_table(path)
        pq.write_table(table.append_column("answers", [["x"] * table.num_rows]), path)
    assert len(_figures(tmp_path).samples) == 4
    for path in (tmp_path / "out" / "data").iterdir():
        pq.write_table(pq.read_table(path).drop_columns(["relations", "sentences", "title"]), path)
    figures = _figures(tmp_path)
    assert {sample.title for sample in figures.samples} == {"d0", "d1", "d2", "d3"}
    assert "Marie Curie" in render(figures)


def test_a_long_document_is_shown_in_part(tmp_path: Path) -> None:
    """A title as long as a text, and a text of many sentences, are cut; the page says so."""
    rows = sentences(1)
    rows[0]["title"] = "t" * 100_000
    rows[0]["text"] += " And so on" * 10_000
    report_run(tmp_path, rows)
    (sample,) = _figures(tmp_path).samples
    assert (len(sample.title), sample.shown) == (202, 1500)
    page = render(_figures(tmp_path))
    assert "100,049 characters, of which 1,500 are shown" in page
    assert len(page) < 100_000


def test_a_report_holds_no_reference_outwards(tmp_path: Path) -> None:
    """No URL in any attribute, no script; the page's policy names the hash of its only style."""
    report_run(tmp_path, sentences(5))
    page = render(_figures(tmp_path))
    targets = re.findall(r"""(?:href|src|action|data)\s*=\s*["']([^"']*)""", page)
    assert {target for target in targets if not target.startswith("#")} <= {"data:,"}
    assert "<script" not in page
    assert "default-src 'none'; style-src 'sha256-" in page.replace("&#39;", "'")
    assert len(page.encode()) < 200_000


def test_an_open_vocabulary_stays_readable(tmp_path: Path) -> None:
    """Hundreds of labels: the most frequent ones have rows, the others are a number; so is what is gone."""
    rows = [row for number in range(300) for row in sentences(1, f"label {number}", first=number)]
    report_run(tmp_path, rows)
    report_run(tmp_path, sentences(150, first=1000), number=1)
    first, second = (render(_figures(tmp_path, run.run_id)) for run in read_manifests(_output(tmp_path)))
    assert "And 101 labels that are rarer still." in first
    assert "185 rarer labels" in first
    assert len(first) < 700_000
    assert "and 270 more." in second


def test_a_terminal_is_not_steered(tmp_path: Path) -> None:
    """Labels, sources and messages are shown, not obeyed; without a terminal there are no colours."""
    rows = sentences(4, "\x1b]0;owned\x07[red]")
    rows[3]["text"] = "FAIL \x1b[2J"
    report_run(tmp_path, rows)
    shown = _terminal(_figures(tmp_path))
    assert "\x1b" not in shown
    assert "\\x1b]0;owned\\x07[red]" in shown
    assert "told to fail: FAIL \\x1b[2J" in shown


Captured = tuple[int, str, str]


@pytest.fixture
def corpus(tmp_path: Path) -> tuple[Path, list[RunManifest]]:
    """Two runs."""
    report_run(tmp_path, sentences(3))
    report_run(tmp_path, sentences(3, first=50), number=1)
    return tmp_path, read_manifests(_output(tmp_path))


def test_the_command_shows_the_last_run_or_another(
    corpus: tuple[Path, list[RunManifest]], capsys: pytest.CaptureFixture[str]
) -> None:
    """On the terminal, as JSON, quietly."""
    folder, runs = corpus
    out = str(folder / "out")
    assert cli.run(["report", out]) == 0
    shown = capsys.readouterr().out
    assert runs[1].run_id in shown
    for part in ("planned", "fingerprint", "no kind has 100 labels in both runs", "complete"):
        assert part in shown
    assert cli.run(["report", out, "--run", runs[0].run_id, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["run"]["run_id"], found["runs"]) == (runs[0].run_id, 2)
    assert cli.run(["report", out, "--quiet"]) == 0
    assert capsys.readouterr().out == ""


def test_the_command_writes_one_file(
    corpus: tuple[Path, list[RunManifest]], capsys: pytest.CaptureFixture[str]
) -> None:
    """And says where; OUTPUT is left as it is."""
    folder, _ = corpus
    before = sorted(path for path in (folder / "out").rglob("*"))
    page = folder / "report.html"
    assert cli.run(["report", str(folder / "out"), "--html", str(page)]) == 0
    assert str(page) in capsys.readouterr().out
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert sorted(path for path in (folder / "out").rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["report", "nowhere"], "has no run that can be read; run `luke-batch annotate INPUT OUTPUT` first"),
        (["report", "out", "--run", "x"], "has no run x; the last is 2026"),
        (["report", "out", "--html", "no/such/folder.html"], "cannot be written: No such file"),
    ],
)
def test_what_cannot_be_reported_is_refused(
    corpus: tuple[Path, list[RunManifest]],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    said: str,
) -> None:
    """One line with the cure."""
    monkeypatch.chdir(corpus[0])
    assert cli.run(arguments) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
