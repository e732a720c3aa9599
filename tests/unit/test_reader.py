"""Committed rows as one dataset."""

from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from luke_batch.base.errors import OutputError
from luke_batch.corpus.plan import make_plan
from luke_batch.corpus.reader import read
from luke_batch.corpus.storage import Storage
from tests.corpora import FINGERPRINT, WRITTEN, context, documents, job, put, run


def annotate_folder(folder: Path, fingerprint: str = FINGERPRINT, max_rows: int = 4) -> list[str]:
    """Commit folder/in under folder/out; the written paths."""
    plan = make_plan(str(folder / "in"), Storage.at(str(folder / "out")), job(max_rows), fingerprint)
    return [done.path for done in run(plan, context(fingerprint=fingerprint))]


def ids(folder: Path) -> list[str]:
    """Ids of the dataset."""
    return read(str(folder / "out")).to_table(columns=["id"])["id"].to_pylist()


def test_rows_and_partitions(tmp_path: Path) -> None:
    """All committed rows come, by partition, file and row; partition keys are string columns and can be
    filtered.
    """
    put(tmp_path, "in/date=2026-11-20/lang=de/a.parquet", documents(6))
    put(tmp_path, "in/date=2026-11-21/lang=a%20b/a.parquet", documents(3, first=6))
    put(tmp_path, "in/date=2026-11-21/lang=__HIVE_DEFAULT_PARTITION__/a.parquet", documents(1, first=9))
    annotate_folder(tmp_path)
    dataset = read(str(tmp_path / "out"))
    table = dataset.to_table()
    assert sorted(table["id"].to_pylist()) == [f"d{n}" for n in range(10)]
    assert table.schema.field("date").type == pa.string()
    assert set(table["lang"].to_pylist()) == {"de", "a b", None}
    assert dataset.count_rows(filter=ds.field("date") == "2026-11-21") == 4
    assert dataset.schema.metadata is None


def test_partition_key_that_is_a_column(tmp_path: Path) -> None:
    """A column of the file wins over a partition of the same name."""
    put(tmp_path, "in/year=2026/a.parquet", documents(2))
    annotate_folder(tmp_path)
    assert read(str(tmp_path / "out")).to_table()["year"].to_pylist() == [1900, 1901]


def test_schemas_are_unified(tmp_path: Path) -> None:
    """Strings of every kind, integers of any width, missing columns and longer structs become one schema."""
    base = documents(2)
    variants = [
        base,
        base.set_column(1, "text", base["text"].cast(pa.large_string())),
        base.set_column(1, "text", base["text"].cast(pa.string_view())),
        base.set_column(1, "text", base["text"].dictionary_encode()),
        base.set_column(2, "year", base["year"].cast(pa.int64())),
        base.append_column("meta", pa.array([{"a": 1}, None])),
        base.append_column("meta", pa.array([{"a": 1, "b": ["x"]}, None])),
        base.append_column("meta", pa.nulls(2)),
        base.append_column("tags", pa.array([["x"], None])),
        base.append_column("tags", pa.array([["x"], None], pa.large_list(pa.large_string()))),
        base.append_column("vector", pa.array([[1, 2], None], pa.list_(pa.float32(), 2))),
        base.append_column("vector", pa.array([[1, 2], None], pa.list_(pa.float16(), 2))),
    ]
    for index, table in enumerate(variants):
        put(tmp_path, f"in/{index:02}.parquet", table)
    annotate_folder(tmp_path)
    table = read(str(tmp_path / "out")).to_table()
    assert table.num_rows == 2 * len(variants)
    assert table["text"].to_pylist() == base["text"].to_pylist() * len(variants)
    kinds = {name: table.schema.field(name).type for name in ("text", "year", "tags", "vector")}
    assert kinds == {
        "text": pa.large_string(), "year": pa.int64(), "tags": pa.large_list(pa.large_string()),
        "vector": pa.list_(pa.float32(), 2),
    }  # fmt: skip
    metas = [value for value in table["meta"].to_pylist() if value]
    assert sorted(metas, key=str) == [{"a": 1, "b": None}, {"a": 1, "b": ["x"]}]
    assert set(WRITTEN) < set(table.column_names)


def test_integers_and_strings_become_strings(tmp_path: Path) -> None:
    """Ids may be numbers in one file and strings in another."""
    put(tmp_path, "in/a.parquet", documents(2))
    put(tmp_path, "in/b.parquet", documents(2).set_column(0, "id", pa.array([7, None])))
    annotate_folder(tmp_path)
    found = read(str(tmp_path / "out")).to_table()["id"].to_pylist()
    assert sorted(found, key=str) == ["7", None, "d0", "d1"]


def test_types_that_cannot_be_unified(tmp_path: Path) -> None:
    """The error names the column, both types and both files."""
    put(tmp_path, "in/a.parquet", documents(1).append_column("x", pa.array(["s"])))
    put(tmp_path, "in/b.parquet", documents(1).append_column("x", pa.array([1.5])))
    annotate_folder(tmp_path)
    with pytest.raises(OutputError, match=r"'x' is (string|double) in data/.* and (string|double) in data/"):
        read(str(tmp_path / "out"))


def test_one_generation_of_each_source(tmp_path: Path) -> None:
    """While a new fingerprint is partly committed, the complete old one is read; afterwards the new one."""
    put(tmp_path, "in/a.parquet", documents(10))
    put(tmp_path, "in/b.parquet", documents(2, first=10))
    annotate_folder(tmp_path)
    new = annotate_folder(tmp_path, "another")
    (tmp_path / "out" / new[0]).rename(tmp_path / "aside")

    def fingerprints() -> dict[str, set[str]]:
        found: dict[str, set[str]] = {"a": set(), "b": set()}
        for fragment in read(str(tmp_path / "out")).get_fragments():
            rows = fragment.to_table(columns=["id"])["id"].to_pylist()
            found["b" if rows[0] in ("d10", "d11") else "a"].add(fragment.path.rpartition("-")[2])
        return found

    old, another = f"{FINGERPRINT[:12]}.parquet", "another.parquet"
    assert fingerprints() == {"a": {old}, "b": {another}}
    assert len(ids(tmp_path)) == 12
    (tmp_path / "aside").rename(tmp_path / "out" / new[0])
    assert fingerprints() == {"a": {another}, "b": {another}}
    assert sorted(ids(tmp_path)) == sorted(f"d{n}" for n in range(12))


def test_files_without_rows(tmp_path: Path) -> None:
    """Outputs without rows do no harm."""
    put(tmp_path, "in/a.parquet", documents(0))
    put(tmp_path, "in/b.parquet", documents(2))
    annotate_folder(tmp_path)
    assert ids(tmp_path) == ["d0", "d1"]


def test_nothing_committed(tmp_path: Path) -> None:
    """An OUTPUT without a committed file is an error with the command that makes one."""
    with pytest.raises(OutputError, match="luke-batch annotate"):
        read(str(tmp_path / "out"))


def test_torn_file(tmp_path: Path) -> None:
    """A committed file that somebody damaged is named with the cure."""
    put(tmp_path, "in/a.parquet", documents(2))
    (path,) = annotate_folder(tmp_path)
    damaged = tmp_path / "out" / path
    damaged.write_bytes(damaged.read_bytes()[:-20])
    with pytest.raises(OutputError, match="remove that file"):
        read(str(tmp_path / "out"))
