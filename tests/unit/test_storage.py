"""The storage seam: a local folder and an object store behave alike."""

import os
import pickle
from collections.abc import Iterator
from hashlib import md5
from pathlib import Path

import pytest

from luke_batch.base.errors import UsageError
from luke_batch.corpus.storage import Storage


@pytest.fixture(params=["local", "memory"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Storage]:
    """A local folder, and fsspec's memory store in the place of an object store."""
    if request.param == "local":
        yield Storage.at(str(tmp_path / "top"))
        return
    storage = Storage.at("memory://bucket/top")
    yield storage
    for file in storage.list():
        storage.remove(file.path)


def test_files_come_back_sorted_with_relative_paths(storage: Storage) -> None:
    """`list` gives every file below the root or a folder of it, by path, with its size."""
    for path in ("b/2.parquet", "a.parquet", "b/1.parquet", "b/note.txt"):
        storage.write_atomic(path, path.encode())
    assert [file.path for file in storage.list()] == ["a.parquet", "b/1.parquet", "b/2.parquet", "b/note.txt"]
    assert [(f.path, f.size) for f in storage.list(".parquet", under="b")] == [
        ("b/1.parquet", 11),
        ("b/2.parquet", 11),
    ]


def test_nothing_there_is_an_empty_list(storage: Storage) -> None:
    """A folder that does not exist lists as empty, and removing a file that does not exist is no error."""
    assert storage.list() == []
    assert storage.list(under="data") == []
    assert storage.stat("x") is None
    storage.remove("x")


def test_reading(storage: Storage) -> None:
    """Whole files, ranges and random access give the bytes that were written."""
    storage.write_atomic("x/y", b"0123456789")
    assert storage.read_bytes("x/y") == b"0123456789"
    assert storage.read_range("x/y", 2, 5) == b"234"
    with storage.open("x/y") as file:
        file.seek(7)
        assert file.read() == b"789"
    found = storage.stat("x/y")
    assert found is not None
    assert found.size == 10
    assert storage.stat("x") is None
    assert storage.has_folder("x")


def test_rewriting_changes_the_version(storage: Storage) -> None:
    """A file that is replaced has another version, even with the same content."""
    storage.write_atomic("x", b"1")
    before = storage.stat("x")
    storage.write_atomic("x", b"2")
    after = storage.stat("x")
    assert before is not None
    assert after is not None
    assert before.version != after.version
    assert storage.read_bytes("x") == b"2"


def test_put_creates_or_replaces_what_was_seen(storage: Storage) -> None:
    """Two writers that began with the same file: the second one changes nothing, and is told so."""
    first = storage.put("a/x", b"1", None)
    seen = storage.stat("a/x")
    assert seen is not None
    assert first == seen.version
    assert storage.put("a/x", b"2", None) is None
    second = storage.put("a/x", b"22", first)
    assert second is not None
    assert storage.put("a/x", b"333", first) is None
    assert storage.read_bytes("a/x") == b"22"
    storage.remove("a/x")
    assert storage.put("a/x", b"4", second) is None
    assert [file.path for file in storage.list()] == []


def test_removes_many_at_once(storage: Storage) -> None:
    """Those that are gone are no error."""
    for name in ("a", "b/c", "d"):
        storage.write_atomic(name, b"1")
    storage.remove_all(["a", "nowhere", "b/c"])
    assert [file.path for file in storage.list()] == ["d"]
    storage.remove_all([])


def test_pickles_as_its_url(storage: Storage) -> None:
    """Workers get a storage by its URL alone, so that no credential travels."""
    storage.write_atomic("x", b"1")
    copy = pickle.loads(pickle.dumps(storage))
    assert copy.url == storage.url
    assert copy.read_bytes("x") == b"1"
    assert repr(storage.url) in repr(copy)


def test_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A local write that fails before the rename leaves neither the file nor its temporary one."""
    storage = Storage.at(str(tmp_path))
    storage.write_atomic("x.parquet", b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        storage.write_atomic("x.parquet", b"new")
    assert [file.path for file in storage.list()] == ["x.parquet"]
    assert storage.read_bytes("x.parquet") == b"old"


def test_temporary_files_do_not_end_in_parquet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a killed writer leaves behind is no `*.parquet`, and lies under _luke_batch."""
    storage = Storage.at(str(tmp_path))
    monkeypatch.setattr(os, "replace", lambda *_: None)
    storage.write_atomic("data/x.parquet", b"1")
    (left,) = storage.list()
    assert left.path.startswith("_luke_batch/")
    assert not left.path.endswith(".parquet")


def test_links_to_folders_are_followed_once(tmp_path: Path) -> None:
    """A link to a folder above does not make the listing endless."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "a" / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "a" / "x").write_bytes(b"1")
    assert [file.path for file in Storage.at(str(tmp_path)).list()] == ["a/x"]


def test_unknown_kind_of_url() -> None:
    """A URL that nobody knows is a usage error."""
    with pytest.raises(UsageError, match="gopher"):
        Storage.at("gopher://x/y")


def test_local_urls(tmp_path: Path) -> None:
    """file:// and relative paths mean local folders."""
    assert Storage.at(f"file://{tmp_path}").root == str(tmp_path)
    assert Storage.at("x").root == str(Path("x").absolute())


class _BusyStore:
    """Refuses the first conditional PUT, as S3 does (409) while another is under way, which is done a moment later."""

    def __init__(self) -> None:
        self.content: bytes | None = None
        self.refused = False

    def call_s3(self) -> None:
        """As s3fs has it."""

    def invalidate_cache(self) -> None:
        """There is none."""

    def info(self, path: str) -> dict[str, object]:
        """Nothing yet; the other's object right after."""
        if self.content is None:
            self.content = b"other"
            raise FileNotFoundError(path)
        return {"type": "file", "size": len(self.content), "ETag": md5(self.content).hexdigest(), "LastModified": None}

    def pipe_file(self, path: str, data: bytes, mode: str = "overwrite", **_: object) -> None:
        """One PUT."""
        if not self.refused:
            self.refused = True
            raise OSError("ConditionalRequestConflict")
        if mode == "create" and self.content is not None:
            raise FileExistsError(path)
        self.content = data


def test_a_refused_condition_is_asked_again() -> None:
    """Before, a 409 led to a PUT without a condition, which replaced what the other writer had just put."""
    store = _BusyStore()
    assert Storage("s3://b/x", store, "b/x", is_local=False).put("a", b"mine", None) is None
    assert store.content == b"other"


class _RefusingStore(_BusyStore):
    """Refuses every conditional PUT, with these words, and holds nothing."""

    def __init__(self, words: str) -> None:
        super().__init__()
        self.words = words
        self.asked = 0

    def info(self, path: str) -> dict[str, object]:
        """What was put without a condition."""
        if self.content is None:
            raise FileNotFoundError(path)
        return {"type": "file", "size": len(self.content), "ETag": md5(self.content).hexdigest(), "LastModified": None}

    def pipe_file(self, path: str, data: bytes, mode: str = "overwrite", **_: object) -> None:
        """One PUT."""
        assert path == "b/x/a"
        self.asked += 1
        if mode == "create":
            raise OSError(f"An error occurred ({self.words}) when calling the PutObject operation")
        self.content = data


def test_a_condition_that_is_refused_for_good_changes_nothing() -> None:
    """Before, three refusals of any kind led to a PUT without a condition."""
    store = _RefusingStore("ConditionalRequestConflict")
    with pytest.raises(OSError, match="ConditionalRequestConflict"):
        Storage("s3://b/x", store, "b/x", is_local=False).put("a", b"mine", None)
    assert store.content is None
    assert store.asked == 5


def test_a_store_without_conditions_is_looked_at_first() -> None:
    """One that says that it does not know them is asked once."""
    store = _RefusingStore("NotImplemented")
    assert Storage("s3://b/x", store, "b/x", is_local=False).put("a", b"mine", None) is not None
    assert store.content == b"mine"
    assert store.asked == 2


def test_the_version_is_that_of_what_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another writer replaces the file right after: before, its version was taken for one's own."""
    storage = Storage.at(str(tmp_path))
    versions: list[str | None] = []
    link = os.link

    def overtaken(source: str, target: str) -> None:
        link(source, target)
        with monkeypatch.context() as patch:
            patch.setattr(os, "link", link)
            there = storage.stat("a")
            assert there is not None
            versions.append(storage.put("a", b"theirs", there.version))

    monkeypatch.setattr(os, "link", overtaken)
    own = storage.put("a", b"mine", None)
    there = storage.stat("a")
    assert there is not None
    assert versions == [there.version]
    assert own not in (None, there.version)
