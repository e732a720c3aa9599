"""A folder, local or in an object store, with the few operations that the corpus needs.

Everything goes through fsspec, so that endpoint, profile, role and anonymous access come from the environment
and from fsspec's own configuration; no credential is stored or pickled. Local files are listed, opened and
written with plain system calls: a plan over 10,000 files spends its time there.
"""

import os
import uuid
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from hashlib import md5
from typing import Any, BinaryIO, Self, cast

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
HELD = f"{STATE}/held.arrow"

_ONE_PUT = 5 * 2**29
"""Bytes up to half of which a conditional PUT is one request: one of several parts takes no If-Match."""
_CONDITIONAL_PUTS = 5
"""Times that a store is asked with a condition, which it also refuses while another writes the same object."""
_UNKNOWN_CONDITION = ("NotImplemented", "InvalidArgument")
"""How stores refuse a condition that they do not know."""
_BATCH = 1000
"""Keys of one request to delete, S3's most."""
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
    written: str = ""
    """What any write changes and all nodes agree on: the version without inode and change time, which some
    mounted filesystems make up on each.
    """

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
        self._filesystem.invalidate_cache()
        try:
            info = cast("dict[str, Any]", self._remote("info", path))
        except FileNotFoundError:
            return None
        return _remote_file(path, info) if info["type"] == "file" else None

    def has_folder(self, path: str = "") -> bool:
        """Whether `path` is a folder (in an object store: a prefix of something)."""
        if self.is_local:
            return os.path.isdir(self.absolute(path))
        return bool(self._remote("isdir", path))

    def open(self, path: str) -> pa.NativeFile:
        """Open for reading, with random access."""
        if self.is_local:
            return pa.OSFile(self.absolute(path), "rb")
        # Parquet has its own buffers: read-ahead would fetch the same megabytes once for each column.
        return pa.PythonFile(self._remote("open", path, "rb", cache_type="none"), mode="r")

    def blocks(self, path: str, size: int) -> Iterator[bytes]:
        """The whole file in blocks of at most `size` bytes."""
        if self.is_local:
            with open(self.absolute(path), "rb", buffering=0) as file:
                while block := file.read(size):
                    yield block
            return
        with self._remote("open", path, "rb", cache_type="none") as file:
            while block := file.read(size):
                yield block

    def read_bytes(self, path: str) -> bytes:
        """The whole file."""
        if self.is_local:
            with open(self.absolute(path), "rb") as file:
                return file.read()
        # In one request: of several at once, s3fs does not read one again whose body was cut.
        return cast(bytes, self._remote("cat_file", path, max_concurrency=1))

    def read_range(self, path: str, start: int, end: int) -> bytes:
        """Bytes [start, end) in one request; fewer where the file is shorter."""
        if self.is_local:
            with open(self.absolute(path), "rb", buffering=0) as file:
                return os.pread(file.fileno(), end - start, start)
        return cast(bytes, self._remote("cat_file", path, start=start, end=end))

    def write_atomic(self, path: str, data: "bytes | pa.Buffer") -> None:
        """Create or replace `path` as a whole: a reader never sees a part.

        Local: a temporary file below OUTPUT, synced, then renamed. Object store: one PUT.
        """
        if not self.is_local:
            self._remote("pipe_file", path, bytes(memoryview(data)))
            return
        temporary, target = self._with_folder(self.temporary_path()), self._with_folder(path)
        try:
            with _written(temporary, data):
                os.replace(temporary, target)
        except BaseException:
            _unlink(temporary)
            raise

    def put(self, path: str, data: "bytes | pa.Buffer", version: str | None) -> str | None:
        """Create `path`, or replace the file that has this `version` there, as a whole: its new version. None, and
        nothing is changed, where another file is there, or the one to replace is gone.

        Object store: a conditional PUT (If-None-Match, If-Match). One whose answer was lost finds its own object, which
        is known by its content. A local file is created by a link, which fails where there is one; between the look at
        its version and the replacement lie some microseconds, and as much as a request in a store that says that it
        knows no conditions.

        Raises OSError where a store refuses again and again, though nothing has changed there.
        """
        if self.is_local:
            return self._put_local(path, data, version)
        content = bytes(memoryview(data))
        condition = {"mode": "create"} if version is None else {"IfMatch": version}
        own = md5(content, usedforsecurity=False).hexdigest()
        tries, has_conditions = 0, self._is_s3
        while has_conditions:
            try:
                answer = self._remote("pipe_file", path, content, chunksize=_ONE_PUT, **condition)
                return str(answer["ETag"]) if answer else self._version(path)
            except OSError as error:
                there = self._version(path)
                if there is not None and there.strip('"') == own:
                    return there
                if there != version:
                    return None
                tries += 1
                has_conditions = not any(word in str(error) for word in _UNKNOWN_CONDITION)
                if has_conditions and tries == _CONDITIONAL_PUTS:
                    raise
        if self._version(path) != version:
            return None
        self._remote("pipe_file", path, content)
        return self._version(path)

    def _put_local(self, path: str, data: "bytes | pa.Buffer", version: str | None) -> str | None:
        temporary, target = self._with_folder(self.temporary_path()), self._with_folder(path)
        try:
            with _written(temporary, data) as file:
                if self._version(path) != version:
                    return None
                if version is not None:
                    os.replace(temporary, target)
                else:
                    try:
                        os.link(temporary, target)
                    except FileExistsError:
                        return None
                    except OSError:  # a file system without links
                        os.replace(temporary, target)
                    _unlink(temporary)
                # Of what this call has written, whatever else may be there by now.
                return _local_file(path, os.fstat(file.fileno())).version
        finally:
            _unlink(temporary)

    def _version(self, path: str) -> str | None:
        """Of the file at `path`; None where there is no file."""
        there = self.stat(path)
        return None if there is None else there.version

    def remove(self, path: str) -> None:
        """Delete `path`; a file that does not exist is no error."""
        if self.is_local:
            _unlink(self.absolute(path))
            return
        with suppress(FileNotFoundError):
            self._remote("rm_file", path)

    def remove_all(self, paths: Sequence[str]) -> dict[str, str]:
        """Delete all of them; those that do not exist are no error. An object store is told of 1,000 in a request.

        Returns the files that cannot be deleted, each with the cause; the others are gone.
        """
        refused: dict[str, str] = {}
        if self._is_s3:
            for start in range(0, len(paths), _BATCH):
                refused.update(self._remove_batch(paths[start : start + _BATCH]))
            return refused
        for path in paths:
            try:
                self.remove(path)
            except OSError as error:
                refused[path] = " ".join(str(error).split())
        return refused

    def _remove_batch(self, paths: Sequence[str]) -> Iterator[tuple[str, str]]:
        places = [self._filesystem.split_path(self.absolute(path)) for path in paths]
        keys = {key: path for (_, key, _), path in zip(places, paths, strict=True)}
        wanted = {"Objects": [{"Key": key} for key in keys], "Quiet": True}
        answer = self._asked("call_s3", "delete_objects", Bucket=places[0][0], Delete=wanted)
        for error in answer.get("Errors", []):
            yield keys[error["Key"]], f"{self.url}: {error['Key']} cannot be deleted: {error.get('Code')}"

    def move(self, path: str, target: str) -> None:
        """Rename a file, replacing `target`; in an object store by copying it."""
        if self.is_local:
            os.replace(self.absolute(path), self._with_folder(target))
        else:
            self._remote("mv", path, self.absolute(target))

    def create(self, path: str, data: bytes) -> bool:
        """Create `path` as a whole; False, and nothing is changed, where it exists.

        Object store: a conditional PUT (If-None-Match), tried again where its answer was lost. It may then
        find its own object, which is known by its content: so `data` must be what nobody else writes. A store
        that does not know conditions may replace a file that was created at the same instant, so whoever
        relies on this reads the file again.
        """
        if self.is_local:
            try:
                with open(self._with_folder(path), "xb") as file:
                    file.write(data)
            except FileExistsError:
                return False
            return True
        try:
            self._remote("pipe_file", path, data, mode="create")
        except (FileExistsError, OSError):
            if self.stat(path) is not None:
                return self.read_bytes(path) == data
            self.write_atomic(path, data)
        return True

    @property
    def _is_s3(self) -> bool:
        return hasattr(self._filesystem, "call_s3")

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
        self._filesystem.invalidate_cache()
        found = cast("dict[str, dict[str, Any]]", self._remote("find", under, detail=True))
        for path, info in found.items():
            if path.startswith(self.absolute(under) + "/") and info["type"] == "file":
                yield _remote_file(path[len(self.root) + 1 :], info)

    def _with_folder(self, path: str) -> str:
        """A local file by its absolute path; the folder is created."""
        absolute = self.absolute(path)
        os.makedirs(os.path.dirname(absolute), exist_ok=True)
        return absolute

    def _remote(self, method: str, path: str, *arguments: Any, **options: Any) -> Any:
        """What a method of the fsspec filesystem says of `path`; see `_asked`."""
        return self._asked(method, self.absolute(path), *arguments, **options)

    def _asked(self, method: str, *arguments: Any, **options: Any) -> Any:
        """What a method of the fsspec filesystem says.

        Errors of an object store's client libraries come as OSError: callers need not know these libraries.
        """
        try:
            return getattr(self._filesystem, method)(*arguments, **options)
        except Exception as error:
            if type(error).__module__.partition(".")[0] not in _STORE_LIBRARIES:
                raise
            raise OSError(f"{self.url}: {' '.join(str(error).split())}") from error


def _local_file(path: str, found: os.stat_result) -> StoredFile:
    version = f"{found.st_mtime_ns}-{found.st_ctime_ns}-{found.st_ino}"
    return StoredFile(path, found.st_size, version, found.st_mtime, str(found.st_mtime_ns))


def _remote_file(path: str, info: dict[str, Any]) -> StoredFile:
    modified = info.get("LastModified") or info.get("created") or 0.0
    seconds = modified.timestamp() if isinstance(modified, datetime) else float(modified)
    version = str(info.get("ETag") or modified)
    return StoredFile(path, int(info["size"]), version, seconds, version)


@contextmanager
def _written(path: str, data: "bytes | pa.Buffer") -> Generator[BinaryIO]:
    """A new file that holds `data`, also after a power cut; open as long as the block."""
    with open(path, "wb") as file:
        file.write(memoryview(data))
        file.flush()
        os.fsync(file.fileno())
        yield file


def _unlink(path: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(path)
