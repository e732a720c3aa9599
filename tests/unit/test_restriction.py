"""`--where`: which partitions a plan is about."""

from pathlib import Path

import pytest

from luke_batch.base.errors import ConfigError, InputError
from luke_batch.corpus.plan import Plan, make_plan
from luke_batch.corpus.sources import Restriction
from luke_batch.corpus.storage import Storage
from tests.corpora import FINGERPRINT, context, documents, job, put, run
from tests.unit.test_plan import outputs, rows, sweep


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Two days in two languages, and a file outside of all partitions."""
    for day, lang, count in ((20, "de", 1), (20, "en", 2), (21, "de", 4), (21, "en", 8)):
        put(tmp_path, f"in/date=2026-11-{day}/lang={lang}/a.parquet", documents(count))
    put(tmp_path, "in/a.parquet", documents(16))
    return tmp_path


def plan_of(folder: Path, *where: str, prune: bool = False, fingerprint: str = FINGERPRINT) -> Plan:
    """The plan of folder/in against folder/out for some partitions."""
    config = job(100)
    if prune:
        config = config.model_copy(update={"output": config.output.model_copy(update={"on_vanished": "prune"})})
    output = Storage.at(str(folder / "out"))
    return make_plan(str(folder / "in"), output, config, fingerprint, Restriction.parse(where))


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ([], 31),
        (["date=2026-11-20"], 3),
        (["date=2026-11-20", "lang=de"], 1),
        (["date=2026-11-20", "date=2026-11-21"], 15),
        (["lang=en", "date=2026-11-20", "date=2026-11-21"], 10),
    ],
)
def test_wanted_partitions(corpus: Path, where: list[str], expected: int) -> None:
    """Values of one key mean any of them, several keys all of them."""
    assert rows(plan_of(corpus, *where)) == {"new": expected}


def test_values_are_compared_decoded(tmp_path: Path) -> None:
    """Hive writers encode characters of a folder's name; a user writes what they stand for."""
    put(tmp_path, "in/place=S%C3%A3o%20Paulo%2FSP/a.parquet", documents(1))
    assert rows(plan_of(tmp_path, "place=São Paulo/SP")) == {"new": 1}


@pytest.mark.parametrize(
    ("where", "error", "message"),
    [
        ("day=1", InputError, r"no partition key 'day'; its partition keys are date, lang"),
        ("date=2026-11-22", InputError, r"no partition date=2026-11-22; it has 2026-11-20, 2026-11-21"),
        ("date", ConfigError, r"--where date: expected key=value"),
        ("=x", ConfigError, r"expected key=value"),
    ],
)
def test_what_cannot_be_meant(corpus: Path, where: str, error: type[Exception], message: str) -> None:
    """An unknown key, a value that no partition has and a malformed text are refused with what there is."""
    with pytest.raises(error, match=message):
        plan_of(corpus, where)


def test_keys_without_a_common_partition(corpus: Path) -> None:
    """Each key is known, and no file has both values."""
    put(corpus, "in/date=2026-11-22/lang=fr/a.parquet", documents(1))
    with pytest.raises(InputError, match="no file of INPUT lies in"):
        plan_of(corpus, "date=2026-11-20", "lang=fr")


def test_corpus_without_partitions(tmp_path: Path) -> None:
    """The message says that there are none."""
    put(tmp_path, "in/a.parquet", documents(1))
    with pytest.raises(InputError, match="it has no partitions"):
        plan_of(tmp_path, "date=1")


def test_nothing_outside_is_vanished_or_touched(corpus: Path) -> None:
    """A restricted run redoes, prunes and removes inside its partitions only."""
    everything = plan_of(corpus)
    run(everything, context())
    sweep(everything)
    before = outputs(corpus)
    (corpus / "in/date=2026-11-21/lang=en/a.parquet").unlink()
    (corpus / "in/date=2026-11-20/lang=en/a.parquet").unlink()
    plan = plan_of(corpus, "date=2026-11-20", prune=True, fingerprint="another")
    assert rows(plan) == {"stale": 1, "vanished": 2}
    run(plan, context(fingerprint="another"))
    assert all("date=2026-11-20" in path for path in sweep(plan))
    after = outputs(corpus)
    assert [path for path in after if "-11-20" not in path] == [p for p in before if "-11-20" not in p]
    assert [path.endswith("another.parquet") for path in after if "-11-20" in path] == [True]
    assert rows(plan_of(corpus)) == {"done": 20, "stale": 1, "vanished": 8}
