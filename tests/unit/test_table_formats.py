"""Of Delta and Iceberg tables the current files are read, and no others; what files alone do not say is refused.

Before, such folders were read like any others: rewritten and deleted rows were annotated beside the current ones.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
from s3fs import S3FileSystem

from luke_batch.base.errors import InputError, MissingDependencyError
from luke_batch.corpus import table_formats
from luke_batch.corpus.plan import make_plan
from luke_batch.corpus.read import read_item
from luke_batch.corpus.sources import Restriction, list_sources
from luke_batch.corpus.storage import Storage
from tests.corpora import FINGERPRINT, context, documents, job, put
from tests.s3_server import leading_to, s3_server

deltalake: Any = pytest.importorskip("deltalake")
catalogs: Any = pytest.importorskip("pyiceberg.catalog.memory")

Make = Callable[[Path], Path]


def delta(folder: Path) -> Path:
    """A table of two partitions, one with a space, after a delete that rewrote a file: d0 is gone."""
    root = folder / "delta"
    days = pa.array(["first day", "first day", "ä", "ä"])
    deltalake.write_deltalake(str(root), documents(4).append_column("day", days), partition_by=["day"])
    deltalake.write_deltalake(
        str(root), documents(2, first=4).append_column("day", pa.array(["x", "x"])), mode="append"
    )
    deltalake.DeltaTable(str(root)).delete("id = 'd0'")
    return root


def iceberg(folder: Path) -> Path:
    """A table after two appends and a delete that rewrote a file: d0 is gone."""
    catalog = catalogs.InMemoryCatalog("c", warehouse=f"file://{folder}")
    catalog.create_namespace("n")
    table = catalog.create_table("n.t", documents(1).schema)
    table.append(documents(4))
    table.append(documents(2, first=4))
    table.delete("id = 'd0'")
    return folder / "n/t"


def ids(root: Path, *where: str) -> list[str]:
    """Ids of the documents that a plan would have read."""
    config = job(1000)
    plan = make_plan(str(root), Storage.at(str(root.parent / "out")), config, FINGERPRINT, Restriction.parse(where))
    tables = [read_item(plan.source, item, context().input) for item in plan.items]
    assert not any(read.failures for read in tables)
    return sorted(value for read in tables for value in read.table["id"].to_pylist())


@pytest.mark.parametrize("make", [delta, iceberg])
def test_current_files_alone(tmp_path: Path, make: Make) -> None:
    """What was deleted or rewritten is not read, though its files are there; paths are those below INPUT."""
    root = make(tmp_path)
    files = list_sources(str(root)).files
    there = [path for path in root.rglob("*.parquet") if "_delta_log" not in path.parts]
    assert ids(root) == ["d1", "d2", "d3", "d4", "d5"]
    assert len(files) < len(there)
    assert all((root / file.path).is_file() for file in files)


def test_partitions_of_a_delta_table(tmp_path: Path) -> None:
    """They are folders, as in any hive-partitioned INPUT."""
    assert ids(delta(tmp_path), "day=ä") == ["d2", "d3"]


@pytest.mark.parametrize("make", [delta, iceberg])
def test_a_table_below_input_is_refused(tmp_path: Path, make: Make) -> None:
    """A folder above it, and a glob over its files, would read what is no longer in it."""
    root = make(tmp_path / "lake")
    for input in (tmp_path, root / "**" / "*.parquet"):
        with pytest.raises(InputError, match=r"lies in the \w+ table .*; give its folder as INPUT"):
            list_sources(str(input))


@pytest.mark.parametrize(("make", "library"), [(delta, "deltalake"), (iceberg, "pyiceberg")])
def test_without_its_library(tmp_path: Path, make: Make, library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line with the command that installs it."""
    root = make(tmp_path)

    def absent(name: str) -> Any:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(table_formats, "import_module", absent)
    with pytest.raises(MissingDependencyError, match=rf'pip install "luke-batch\[tables\]", or pip install {library}'):
        list_sources(str(root))


def test_tables_in_an_object_store(tmp_path: Path) -> None:
    """Both libraries take the store's address and keys from where ours does."""
    with s3_server(tmp_path / "log") as url, leading_to(url):
        store: Any = S3FileSystem()
        store.mkdir("lake")
        store.put(str(delta(tmp_path)), "lake/delta", recursive=True)
        options = {"warehouse": "s3://lake/iceberg", "py-io-impl": "pyiceberg.io.fsspec.FsspecFileIO"}
        catalog = catalogs.InMemoryCatalog("c", **options)
        catalog.create_namespace("n")
        table = catalog.create_table("n.t", documents(1).schema)
        table.append(documents(4))
        table.delete("id = 'd0'")
        found = {name: list_sources(f"s3://lake/{name}").files for name in ("delta", "iceberg/n/t")}
        there = {name: [path for path in store.find(f"lake/{name}") if path.endswith(".parquet")] for name in found}
    assert {name: (len(files), len(there[name])) for name, files in found.items()} == {
        "delta": (3, 4),
        "iceberg/n/t": (1, 2),
    }


def test_plain_parquet_needs_neither(tmp_path: Path) -> None:
    """In a process of its own."""
    put(tmp_path, "in/a.parquet", documents(1))
    code = (
        "import sys; from luke_batch.corpus.sources import list_sources; list_sources(sys.argv[1]);"
        "print({'deltalake', 'pyiceberg'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "in")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "set()"


def append_to_log(root: Path, **changes: Any) -> dict[str, Any]:
    """A version of a Delta table in which its first file has other members."""
    lines = (root / "_delta_log" / f"{0:020}.json").read_text().splitlines()
    add = next(entry["add"] for entry in map(json.loads, lines) if "add" in entry)
    protocol = {"minReaderVersion": 3, "minWriterVersion": 7}
    features = {"readerFeatures": ["deletionVectors"], "writerFeatures": ["deletionVectors"]}
    entries = [{"protocol": protocol | features}, {"add": {**add, **changes}}]
    (root / "_delta_log" / f"{1:020}.json").write_text("\n".join(map(json.dumps, entries)))
    return add


def test_deletion_vectors_are_refused(tmp_path: Path) -> None:
    """The files still have the deleted rows."""
    deltalake.write_deltalake(str(tmp_path / "t"), documents(2))
    vector = {"storageType": "u", "pathOrInlineDv": "ab^-aqEH.-t@S}K{vb[*k^", "offset": 4, "sizeInBytes": 40}
    append_to_log(tmp_path / "t", deletionVector={**vector, "cardinality": 1})
    with pytest.raises(InputError, match=r"deletion vectors.*REORG TABLE"):
        list_sources(str(tmp_path / "t"))


def test_a_delta_table_with_the_feature_alone_is_read(tmp_path: Path) -> None:
    """It may have deletion vectors, and has none."""
    deltalake.write_deltalake(str(tmp_path / "t"), documents(2))
    append_to_log(tmp_path / "t")
    assert ids(tmp_path / "t") == ["d0", "d1"]


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """The table is named, and the file."""
    root = delta(tmp_path)
    (root / list_sources(str(root)).files[0].path).unlink()
    with pytest.raises(InputError, match=r"the Delta table names .*\.parquet, which is not there"):
        list_sources(str(root))


def test_iceberg_delete_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The data file still has the deleted rows."""
    root = iceberg(tmp_path)
    scans: Any = pytest.importorskip("pyiceberg.table")
    planned = scans.DataScan.plan_files

    def with_deletes(self: Any) -> list[Any]:
        return [SimpleNamespace(file=task.file, delete_files={"deletes.parquet"}) for task in planned(self)]

    monkeypatch.setattr(scans.DataScan, "plan_files", with_deletes)
    with pytest.raises(InputError, match=r"deleted by delete files.*rewrite_data_files"):
        list_sources(str(root))


def test_an_iceberg_table_elsewhere_is_refused(tmp_path: Path) -> None:
    """Its metadata name files by absolute paths, which are those of before."""
    root = iceberg(tmp_path)
    root.rename(tmp_path / "moved")
    with pytest.raises(InputError, match=r"says that it lies in .*n/t; give that as INPUT"):
        list_sources(str(tmp_path / "moved"))


def test_the_newest_iceberg_metadata(tmp_path: Path) -> None:
    """The highest number; of two of the same number the version hint tells, or the table is refused."""
    root = iceberg(tmp_path)
    newest = max((root / "metadata").glob("*.metadata.json"))
    rival = newest.with_name(f"{newest.name[:5]}-rival.metadata.json")
    rival.write_bytes(newest.read_bytes())
    with pytest.raises(InputError, match="two newest versions"):
        list_sources(str(root))
    (root / "metadata/version-hint.text").write_text(newest.name.removesuffix(".metadata.json"))
    assert ids(root) == ["d1", "d2", "d3", "d4", "d5"]


def test_renamed_iceberg_columns_are_refused(tmp_path: Path) -> None:
    """Older files have the old name, and another column may bear it by now."""
    catalog = catalogs.InMemoryCatalog("c", warehouse=f"file://{tmp_path}")
    catalog.create_namespace("n")
    table = catalog.create_table("n.t", documents(1).schema)
    table.append(documents(2))
    with table.update_schema() as update:
        update.rename_column("text", "body")
    with pytest.raises(InputError, match=r"were renamed \(body\)"):
        list_sources(str(tmp_path / "n/t"))
