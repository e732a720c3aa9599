"""What a Parquet footer says, and files that have none."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from luke_batch.base.errors import FragmentError
from luke_batch.corpus.footers import Footer, inspect, inspect_all
from luke_batch.corpus.storage import Storage
from tests.corpora import documents, put


def footer_of(path: Path) -> Footer:
    """The footer of one local file."""
    storage = Storage.at(str(path.parent))
    file = storage.stat(path.name)
    assert file is not None
    return inspect(storage, file)


def test_contents(tmp_path: Path) -> None:
    """Rows, row groups and the schema are those that pyarrow tells."""
    path = put(tmp_path, "a.parquet", documents(10), row_group_size=4)
    footer = footer_of(path)
    assert (footer.rows, footer.group_rows) == (10, (4, 4, 2))
    assert footer.schema.equals(pq.read_schema(path), check_metadata=True)
    assert all(size > 0 for size in footer.group_bytes)


def test_long_footer(tmp_path: Path) -> None:
    """A footer that is longer than the first read is read to its end."""
    path = put(tmp_path, "a.parquet", pa.table({f"column{n}": [n] for n in range(2000)}))
    assert len(footer_of(path).schema) == 2000


def test_content_id(tmp_path: Path) -> None:
    """The content id is the same for a copy, and another one for other content."""
    first = put(tmp_path, "a.parquet", documents(10))
    copy = tmp_path / "b.parquet"
    copy.write_bytes(first.read_bytes())
    other = put(tmp_path, "c.parquet", documents(10, first=1))
    assert footer_of(first).content_id == footer_of(copy).content_id
    assert footer_of(first).content_id != footer_of(other).content_id


def test_files_that_are_no_parquet(tmp_path: Path) -> None:
    """Zero bytes, a truncated file, text, and a damaged footer are errors that name the file; the others
    still come.
    """
    good = put(tmp_path, "good.parquet", documents(10)).read_bytes()
    broken = {
        "zero.parquet": b"",
        "short.parquet": b"PAR1",
        "truncated.parquet": good[: len(good) // 2],
        "text.parquet": b"id,text\n1,Rome\n" * 9,
        "length.parquet": good[:-8] + b"\xff\xff\xff\x0f" + good[-4:],
        "footer.parquet": good[:-60] + bytes(52) + good[-8:],
    }
    for name, content in broken.items():
        (tmp_path / name).write_bytes(content)
    storage = Storage.at(str(tmp_path))
    files = storage.list()
    for file, found in zip(files, inspect_all(storage, files), strict=True):
        if file.path == "good.parquet":
            assert isinstance(found, Footer)
        else:
            assert isinstance(found, FragmentError), file.path
            assert file.path in str(found)
            assert "\n" not in str(found)


def test_vanished_file(tmp_path: Path) -> None:
    """A file that is gone by the time its footer is read is an error of that file."""
    path = put(tmp_path, "a.parquet", documents(1))
    storage = Storage.at(str(tmp_path))
    (file,) = storage.list()
    path.unlink()
    with pytest.raises(FragmentError, match=r"a\.parquet"):
        inspect(storage, file)
