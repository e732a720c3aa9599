"""Which files INPUT means."""

from pathlib import Path

import pytest

from luke_batch.base.errors import InputError
from luke_batch.corpus.sources import list_sources, source_at
from tests.corpora import documents, put


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A folder with partitions, hidden files and files that are no Parquet."""
    names = [
        "a.parquet",
        "b.pq",
        "README.md",
        "_SUCCESS",
        ".a.parquet.crc",
        "_dead_letters/x.parquet",
        ".git/x.parquet",
        "_partial.parquet",
        "date=2026-11-20/lang=de/1.parquet",
        "date=2026-11-21/lang=en/1.parquet",
        "_day=1/x.parquet",
        "deep/er/c.PARQUET",
        "part-0001",
    ]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


def paths(input: Path | str) -> list[str]:
    """Paths of the sources."""
    return [file.path for file in list_sources(str(input)).files]


def test_folder(corpus: Path) -> None:
    """A folder means every Parquet file below it, without hidden ones and those that begin with _."""
    assert paths(corpus) == [
        "_day=1/x.parquet",
        "a.parquet",
        "b.pq",
        "date=2026-11-20/lang=de/1.parquet",
        "date=2026-11-21/lang=en/1.parquet",
        "deep/er/c.PARQUET",
    ]
    assert paths(f"{corpus}/") == paths(corpus)
    assert list_sources(str(corpus)).is_folder


def test_partitions(corpus: Path) -> None:
    """The partition is made of the `key=value` folders of the path relative to INPUT."""
    partitions = {file.path: file.partition for file in list_sources(str(corpus)).files}
    assert partitions["date=2026-11-20/lang=de/1.parquet"] == "date=2026-11-20/lang=de"
    assert partitions["deep/er/c.PARQUET"] == ""


@pytest.mark.parametrize("name", ["a.parquet", "README.md", "_SUCCESS", "part-0001"])
def test_single_file(corpus: Path, name: str) -> None:
    """A file that is named is taken, whatever it is called."""
    sources = list_sources(str(corpus / name))
    assert [file.path for file in sources.files] == [name]
    assert sources.storage.root == str(corpus)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.parquet", ["a.parquet"]),
        (
            "date=2026-11-2[01]/*/*.parquet",
            ["date=2026-11-20/lang=de/1.parquet", "date=2026-11-21/lang=en/1.parquet"],
        ),
        ("date=2026-11-2[!0]", ["date=2026-11-21/lang=en/1.parquet"]),
        (
            "**/?.parquet",
            [
                "_day=1/x.parquet",
                "a.parquet",
                "date=2026-11-20/lang=de/1.parquet",
                "date=2026-11-21/lang=en/1.parquet",
            ],
        ),
        (
            "d*",
            ["date=2026-11-20/lang=de/1.parquet", "date=2026-11-21/lang=en/1.parquet", "deep/er/c.PARQUET"],
        ),
        ("part-*", ["part-0001"]),
        ("deep/**", ["er/c.PARQUET"]),
    ],
)
def test_glob(corpus: Path, pattern: str, expected: list[str]) -> None:
    """A glob means the files it matches and the folders it matches; partitions in its path are kept."""
    assert paths(corpus / pattern) == expected


def test_glob_keeps_partitions(corpus: Path) -> None:
    """The part of the path that the glob describes belongs to the relative path."""
    (file,) = list_sources(str(corpus / "date=2026-11-20*")).files
    assert file.partition == "date=2026-11-20/lang=de"


def test_name_with_brackets(tmp_path: Path) -> None:
    """A file or folder that exists is not taken for a pattern."""
    (tmp_path / "x[1].parquet").write_bytes(b"x")
    assert paths(tmp_path / "x[1].parquet") == ["x[1].parquet"]


def test_nothing(tmp_path: Path) -> None:
    """No file at all is an input error that names INPUT."""
    (tmp_path / "readme.txt").write_bytes(b"x")
    for input in (tmp_path, tmp_path / "*.parquet", tmp_path / "nowhere"):
        with pytest.raises(InputError, match="INPUT"):
            list_sources(str(input))


@pytest.mark.parametrize(
    ("input", "path"),
    [
        ("in", "a/x.parquet"),
        ("in/", "a/x.parquet"),
        ("in/*/x.parquet", "a/x.parquet"),
        ("in/a/x.parquet", "x.parquet"),
    ],
)
def test_one_file_is_found_as_a_plan_names_it(tmp_path: Path, input: str, path: str) -> None:
    """Without a listing: under a folder, a glob's fixed part, or beside a single file."""
    put(tmp_path, "in/a/x.parquet", documents(1))
    assert [file.path for file in list_sources(str(tmp_path / input)).files] == [path]
    found = source_at(f"{tmp_path}/{input}", path)
    assert found is not None
    assert found[0].read_bytes(path) == (tmp_path / "in/a/x.parquet").read_bytes()
    (tmp_path / "in/a/x.parquet").unlink()
    assert source_at(f"{tmp_path}/{input}", path) is None
