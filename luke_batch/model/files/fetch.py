"""From what the user wrote to a local folder: `embedded`, a folder, a hub id, or a URL that fsspec reads.

Downloads from a URL go into a cache folder named after what is there (names, sizes, ETags), through a
temporary folder that is renamed when it is whole: several processes may fetch the same checkpoint at once.
"""

import hashlib
import os
import re
import shutil
import tempfile
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from threading import Lock
from typing import Any, cast

from fsspec import AbstractFileSystem
from fsspec.core import url_to_fs

from luke_batch.base.errors import CheckpointError, MissingDependencyError
from luke_batch.base.section import EMBEDDED

PATTERNS = ("*.json", "*.txt", "*.model", "*.safetensors")
PICKLE_PATTERNS = ("pytorch_model*.bin",)
EMBEDDED_FOLDER = Path(__file__).parents[2] / "embedded" / "model"
HUB_ID = re.compile(r"(?P<id>[\w.-]+/[\w.-]+)(@(?P<revision>[^@\s]+))?")
COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Location:
    """A local folder and where it came from."""

    folder: Path
    revision: str | None
    """The hub's commit, the key of a downloaded URL, or None for a folder of the user's own."""
    pinned: str
    """A path that means the same in every process: `id@commit`, an absolute folder, a URL, `embedded`."""


def fetch(path: str, patterns: tuple[str, ...] = PATTERNS) -> Location:
    """The local folder of `path`, downloaded where need be; only files that match `patterns` are.

    Raises CheckpointError where there is no such folder or it cannot be reached, and MissingDependencyError
    where the URL needs a library that is not installed.
    """
    if path == EMBEDDED:
        if not EMBEDDED_FOLDER.is_dir():
            raise _no_folder(f"{path} ({EMBEDDED_FOLDER})")
        return Location(EMBEDDED_FOLDER, None, EMBEDDED)
    if "://" in path:
        return _from_url(path, patterns)
    folder = Path(path).expanduser()
    if folder.is_dir():
        return Location(folder.absolute(), None, str(folder.absolute()))
    match = HUB_ID.fullmatch(path)
    if match is None or path.startswith((".", "~")):
        raise _no_folder(path)
    return _of_hub(match["id"], match["revision"], patterns)


def is_relative(path: str) -> bool:
    """Whether `path` is a folder that is looked for from the working directory."""
    folder = Path(path).expanduser()
    if path == EMBEDDED or "://" in path or folder.is_absolute():
        return False
    return folder.is_dir() or HUB_ID.fullmatch(path) is None or path.startswith(".")


def _no_folder(named: str) -> CheckpointError:
    return CheckpointError(
        f"{named}: no such model folder; give a folder, a hub id (org/name or org/name@revision), s3://… or `embedded`"
    )


_found: dict[tuple[str, str, str | None, tuple[str, ...]], Location] = {}
_commits: dict[tuple[str, str, str | None], str] = {}
_asking = Lock()


def _of_hub(repository: str, revision: str | None, patterns: tuple[str, ...]) -> Location:
    """The hub is asked once a process for the same files: a branch that moves in between would give the parts of
    one run two models. The commit found first holds for further files of the same revision too.
    """
    from huggingface_hub import constants  # a fifth of a second that local checkpoints need not pay

    asked = (constants.HF_HUB_CACHE, repository, revision)
    with _asking:
        found = _found.get((*asked, patterns))
        if found is None or not found.folder.is_dir():
            found = _found[*asked, patterns] = _from_hub(repository, _commits.get(asked, revision), patterns)
            if found.revision is not None:
                _commits.setdefault(asked, found.revision)
        return found


def _from_hub(repository: str, revision: str | None, patterns: tuple[str, ...]) -> Location:
    from huggingface_hub import snapshot_download

    named = repository if revision is None else f"{repository}@{revision}"
    try:
        folder = Path(snapshot_download(repository, revision=revision, allow_patterns=list(patterns)))
    except Exception as error:  # the library raises HTTP, OS and value errors of several bases
        raise CheckpointError(
            f"{named}: no such folder, and the hub did not deliver it ({type(error).__name__}: "
            f"{_first_line(error)}); check the name and the network, log in for a gated model, or download "
            "it elsewhere and give its folder"
        ) from error
    commit = folder.name if COMMIT.fullmatch(folder.name) else revision
    return Location(folder, commit, repository if commit is None else f"{repository}@{commit}")


def _from_url(url: str, patterns: tuple[str, ...]) -> Location:
    try:
        filesystem, root = cast("tuple[AbstractFileSystem, str]", url_to_fs(url.rstrip("/")))
        filesystem.invalidate_cache()  # the process may have listed an older content
        files = _listing(filesystem, root, patterns)
        key = _content_key(filesystem, files)
        folder = _cache() / key
        if files and not folder.is_dir():
            _download(filesystem, files, folder)
    except ImportError as error:
        protocol = url.partition("://")[0]
        raise MissingDependencyError(
            f"{url}: the fsspec library for {protocol}:// is not installed ({_first_line(error)})"
        ) from error
    except Exception as error:  # each store has its own bases, botocore's among them
        raise CheckpointError(
            f"{url}: could not be downloaded ({type(error).__name__}: {_first_line(error)}); check the "
            f"address, the credentials and the free space under {_cache()} (XDG_CACHE_HOME moves it)"
        ) from error
    if not files:
        raise CheckpointError(f"{url}: no such model folder, or an empty one; check bucket and prefix")
    return Location(folder, key, url)


def _listing(filesystem: AbstractFileSystem, root: str, patterns: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """What the store tells of each file of the folder that matches, by its name, sorted."""
    try:
        found = cast("dict[str, dict[str, Any]]", filesystem.find(root, maxdepth=1, detail=True))
    except FileNotFoundError:
        return {}
    named = {path.rsplit("/", 1)[-1]: info for path, info in sorted(found.items())}
    return {name: info for name, info in named.items() if any(fnmatch(name, pattern) for pattern in patterns)}


def _content_key(filesystem: AbstractFileSystem, files: dict[str, dict[str, Any]]) -> str:
    """A name that changes whenever a file does: by the ETags of an object store, else fsspec's checksums."""
    digest = hashlib.sha256()
    for name, info in files.items():
        tag = info.get("ETag") or filesystem.checksum(info["name"])
        digest.update(f"{name}\0{info['size']}\0{tag}\n".encode())
    return digest.hexdigest()[:32]


def _cache() -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "luke-batch" / "checkpoints"


def _download(filesystem: AbstractFileSystem, files: dict[str, dict[str, Any]], folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        for name, info in files.items():
            filesystem.get_file(info["name"], str(temporary / name))
            if (temporary / name).stat().st_size != info["size"]:
                raise OSError(f"{name} arrived incomplete")
        temporary.rename(folder)
    except OSError:
        # Another process was first: its folder holds the same content.
        if not folder.is_dir():
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "").strip()
