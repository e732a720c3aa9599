"""A folder, local or in an object store, with the few operations that the corpus needs.

Everything goes through fsspec, so that endpoint, profile, role and anonymous access come from the environment
and from fsspec's own configuration; no credential is stored or pickled. Local files are listed, opened and
written with plain system calls: a plan over 10,000 files spends its time there.
"""

import os
import uuid
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, Self, cast

import pyarrow as pa

from luke_batch.base.errors import MissingDependencyError, UsageError

# Where things lie under OUTPUT.
DATA = "data"
DEAD_LETTERS = "_dead_letters"
FOREIGN = "_foreign"
STATE = "_luke_batch"
RUNS = f"{STATE}/runs"
TEMPORARY = f"{STATE}/part"
LEASES = f"{STATE}/lease"
FOOTERS = f"{STATE}/footers.arrow"

_STORE_LIBRARIES = frozenset({"aiobotocore", "aiohttp", "botocore"})


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One file below a storage's root."""

    path: str
    """Relative to the root, with `/`."""
    size: int
    """Bytes."""
    version: str
    """Changes when the file is rewritten: its times and inode, or an object store's ETag."""
    modified: float
    """Seconds since the epoch; 0 where the store does not say."""

    @property
    def partition(self) -> str:
        """`key=value` folders of the path, such as `date=2026-11-20/lang=de`; empty without partitions."""
        return join(*(part for part in self.path.split("/")[:-1] if "=" in part))


def join(*parts: str) -> str:
    """Path of the parts that are not empty."""
    return "/".join(part for part in parts if part)


def base_name(path: str) -> str:
    """What follows the last slash."""
    return path.rpartition("/")[2]


class Storage:
    """Files below one root. Pickles as its URL."""

    def __init__(self, url: str, filesystem: Any, root: str, is_local: bool) -> None:
        self.url = url
        self.root = root
        self.is_local = is_local
        self._filesystem = filesystem

    @classmethod
    def at(cls, url: str) -> Self:
        """Storage of a local path or URL; nothing is read or created.

        Raises:
            MissingDependencyError: the library for this kind of URL is not installed.
            UsageError: nobody knows this kind of URL.
        """
        if "://" not in url or url.startswith("file://"):
            root = os.path.abspath(os.path.expanduser(url.removeprefix("file://")))
            return cls(root, None, root, is_local=True)
        from fsspec.core import url_to_fs  # a local plan does without it

        try:
            filesystem, root = cast("tuple[Any, str]", url_to_fs(url))
        except ImportError as error:
            raise MissingDependencyError(
                f"{url} needs a library that is not installed; with its name: pip install NAME ({error})"
            ) from error
        except ValueError as error:
            raise UsageError(f"{url}: {error}; use a local path or an s3:// URL") from error
        return cls(url.rstrip("/"), filesystem, root.rstrip("/"), is_local=False)

    def __reduce__(self) -> tuple[Callable[[str], "Storage"], tuple[str]]:
        return Storage.at, (self.url,)

    def __repr__(self) -> str:
        return f"Storage({self.url!r})"

    def absolute(self, path: str) -> str:
        """`path` as the filesystem names it."""
        return join(self.root, path) if self.root != "/" else "/" + path

    def temporary_path(self) -> str:
        """A name for a file that is removed again; the sweep does so for a run that was killed."""
        return join(TEMPORARY, f"{uuid.uuid4().hex}.part")

    def list(self, suffix: str = "", under: str = "") -> list[StoredFile]:
        """Every file below `under` whose name ends in `suffix`, by path; none without such a folder."""
        found = self._list_local(under) if self.is_local else self._list_remote(under)
        return sorted((file for file in found if file.path.endswith(suffix)), key=lambda file: file.path)

    def stat(self, path: str) -> StoredFile | None:
        """The file at `path`; None where there is no file."""
        if self.is_local:
            try:
                found = os.stat(self.absolute(path))
            except (FileNotFoundError, NotADirectoryError):
                return None
            return None if os.path.isdir(self.absolute(path)) else _local_file(path, found)
        with _store_errors(self.url):
            self._filesystem.invalidate_cache()
            try:
                info = cast("dict[str, Any]", self._filesystem.info(self.absolute(path)))
            except FileNotFoundError:
                return None
        return _remote_file(path, info) if info["type"] == "file" else None

    def has_folder(self, path: str = "") -> bool:
        """Whether `path` is a folder (in an object store: a prefix of something)."""
        if self.is_local:
            return os.path.isdir(self.absolute(path))
        with _store_errors(self.url):
            return bool(self._filesystem.isdir(self.absolute(path)))

    def open(self, path: str) -> pa.NativeFile:
        """Open for reading, with random access."""
        if self.is_local:
            return pa.OSFile(self.absolute(path), "rb")
        with _store_errors(self.url):
            # Parquet has its own buffers: read-ahead would fetch the same megabytes once for each column.
            return pa.PythonFile(self._filesystem.open(self.absolute(path), "rb", cache_type="none"), mode="r")

    def read_bytes(self, path: str) -> bytes:
        """The whole file."""
        if self.is_local:
            with open(self.absolute(path), "rb") as file:
                return file.read()
        with _store_errors(self.url):
            # In one request: of several at once, s3fs does not read one again whose body was cut.
            return cast(bytes, self._filesystem.cat_file(self.absolute(path), max_concurrency=1))

    def read_range(self, path: str, start: int, end: int) -> bytes:
        """Bytes [start, end) in one request; fewer where the file is shorter."""
        if self.is_local:
            with open(self.absolute(path), "rb", buffering=0) as file:
                return os.pread(file.fileno(), end - start, start)
        with _store_errors(self.url):
            return cast(bytes, self._filesystem.cat_file(self.absolute(path), start=start, end=end))

    def write_atomic(self, path: str, data: "bytes | pa.Buffer") -> None:
        """Create or replace `path` as a whole: a reader never sees a part.

        Local: a temporary file below OUTPUT, synced, then renamed. Object store: one PUT.
        """
        if not self.is_local:
            with _store_errors(self.url):
                self._filesystem.pipe_file(self.absolute(path), bytes(memoryview(data)))
            return
        temporary = self.absolute(self.temporary_path())
        target = self.absolute(path)
        os.makedirs(os.path.dirname(temporary), exist_ok=True)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        try:
            with open(temporary, "wb") as file:
                file.write(memoryview(data))
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
        except BaseException:
            _unlink(temporary)
            raise

    def remove(self, path: str) -> None:
        """Delete `path`; a file that does not exist is no error."""
        if self.is_local:
            _unlink(self.absolute(path))
            return
        with _store_errors(self.url), suppress(FileNotFoundError):
            self._filesystem.rm_file(self.absolute(path))

    def move(self, path: str, target: str) -> None:
        """Rename a file, replacing `target`; in an object store by copying it."""
        if self.is_local:
            os.makedirs(os.path.dirname(self.absolute(target)), exist_ok=True)
            os.replace(self.absolute(path), self.absolute(target))
            return
        with _store_errors(self.url):
            self._filesystem.mv(self.absolute(path), self.absolute(target))

    def create(self, path: str, data: bytes) -> bool:
        """Create `path` as a whole; False, and nothing is changed, where it exists.

        Object store: a conditional PUT (If-None-Match), tried again where its answer was lost. It may then
        find its own object, which is known by its content: so `data` must be what nobody else writes. A store
        that does not know conditions may replace a file that was created at the same instant, so whoever
        relies on this reads the file again.
        """
        if self.is_local:
            os.makedirs(os.path.dirname(self.absolute(path)), exist_ok=True)
            try:
                with open(self.absolute(path), "xb") as file:
                    file.write(data)
            except FileExistsError:
                return False
            return True
        try:
            with _store_errors(self.url):
                self._filesystem.pipe_file(self.absolute(path), data, mode="create")
        except (FileExistsError, OSError):
            if self.stat(path) is not None:
                return self.read_bytes(path) == data
            self.write_atomic(path, data)
        return True

    @cached_property
    def arrow_filesystem(self) -> Any:
        """The same root's filesystem for pyarrow.dataset; its paths are those of `absolute`."""
        from pyarrow import fs  # only datasets need it

        return fs.LocalFileSystem() if self.is_local else fs.PyFileSystem(fs.FSSpecHandler(self._filesystem))

    def _list_local(self, under: str) -> Iterator[StoredFile]:
        visited: set[tuple[int, int]] = set()
        folders = [under]
        while folders:
            folder = folders.pop()
            try:
                identity = os.stat(self.absolute(folder))
                if (identity.st_dev, identity.st_ino) in visited:  # a link to a folder above
                    continue
                visited.add((identity.st_dev, identity.st_ino))
                entries = list(os.scandir(self.absolute(folder)))
            except (FileNotFoundError, NotADirectoryError):
                continue
            for entry in entries:
                path = join(folder, entry.name)
                if entry.is_dir():
                    folders.append(path)
                    continue
                try:
                    yield _local_file(path, entry.stat())
                except FileNotFoundError:  # removed since, or a dangling link
                    continue

    def _list_remote(self, under: str) -> Iterator[StoredFile]:
        top = self.absolute(under)
        with _store_errors(self.url):
            self._filesystem.invalidate_cache()
            found = cast("dict[str, dict[str, Any]]", self._filesystem.find(top, detail=True))
        for path, info in found.items():
            if path.startswith(top + "/") and info["type"] == "file":
                yield _remote_file(path[len(self.root) + 1 :], info)


def _local_file(path: str, found: os.stat_result) -> StoredFile:
    version = f"{found.st_mtime_ns}-{found.st_ctime_ns}-{found.st_ino}"
    return StoredFile(path, found.st_size, version, found.st_mtime)


def _remote_file(path: str, info: dict[str, Any]) -> StoredFile:
    modified = info.get("LastModified") or info.get("created") or 0.0
    seconds = modified.timestamp() if isinstance(modified, datetime) else float(modified)
    return StoredFile(path, int(info["size"]), str(info.get("ETag") or modified), seconds)


def _unlink(path: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(path)


@contextmanager
def _store_errors(url: str) -> Generator[None]:
    """Errors of an object store's client libraries as OSError: callers need not know these libraries."""
    try:
        yield
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in _STORE_LIBRARIES:
            raise
        raise OSError(f"{url}: {' '.join(str(error).split())}") from error
