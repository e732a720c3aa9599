"""Whether OUTPUT takes files, and has room for them: asked before any work, and nothing stays behind."""

import os
import shutil
import tempfile
from pathlib import Path

from luke_batch.base.errors import OutputError, ResourceError
from luke_batch.corpus.manifest import latest_manifest
from luke_batch.corpus.plan import Plan
from luke_batch.corpus.storage import Storage

_PROBE = b"luke-batch was here to see whether it may write\n"
_RESERVE = 8 * 2**20
"""Bytes for manifests, leases and what is replaced only at the end."""
_LOGS = 64 * 2**20
"""Bytes that Ray's folder must have: the logs of a session."""
_COMPRESSED = 0.1
"""Share of a text's bytes that no codec goes below."""


def _existing_folder(path: str) -> Path:
    """The folder itself, or the nearest one above that exists."""
    folder = Path(path)
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder


def check_writable(output: Storage) -> None:
    """Refuse a local OUTPUT that could not be created or written."""
    if not output.is_local:
        return
    folder = _existing_folder(output.root)
    if not folder.is_dir():
        raise OutputError(f"OUTPUT {output.url} cannot be a folder: {folder} is a file; choose another folder")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"OUTPUT {output.url} is not writable: no permission for {folder}; choose another folder")


def probe_output(output: Storage) -> None:
    """Write a probe to OUTPUT and remove it: on a disk a file without a name, in a store an object.

    Raises OutputError where either fails.
    """
    check_writable(output)
    try:
        if output.is_local:
            with tempfile.TemporaryFile(dir=_existing_folder(output.root)) as probe:
                probe.write(_PROBE)
                probe.flush()
                os.fsync(probe.fileno())
            return
        path = output.temporary_path()
        output.write_atomic(path, _PROBE)
        output.remove(path)
    except OSError as error:
        raise OutputError(
            f"OUTPUT {output.url} cannot be written: {' '.join(str(error).split())}; correct the path, the"
            " credentials or the permissions"
        ) from error


def check_space(plan: Plan, vector_bytes: int) -> None:
    """Refuse a local OUTPUT whose disk is too small for what the plan writes.

    That is taken from the bytes that a document took in the last run that committed any. Without one only a
    lower bound is known: the text vectors, and a tenth of the source.

    Args:
        plan: what is to be done. vector_bytes: bytes of a document's text vector, which hardly compress.
    """
    if not plan.output.is_local:
        return
    documents = sum(item.rows for item in plan.items)
    last = latest_manifest(plan.output, lambda run: bool(run.figures.get("bytes")))
    if last is None:
        size = sum(part.bytes for item in plan.items for part in item.fragments)
        each = vector_bytes + _COMPRESSED * size / max(documents, 1)
        source = "at the least, for text vectors and the columns of INPUT"
    else:
        each = last.figures["bytes"] / max(last.figures["documents"], 1)
        source = f"at {each:,.0f} bytes each, as in run {last.run_id}"
    needed = documents * each + _RESERVE
    free = shutil.disk_usage(_existing_folder(plan.output.root)).free
    if free < needed:
        raise ResourceError(
            f"OUTPUT {plan.output.url} has {free / 1e6:,.0f} MB of free disk, and {documents:,} documents"
            f" need {needed / 1e6:,.0f} MB {source}; free some, or choose another folder"
        )


def check_folder_space(folder: str, what: str) -> None:
    """Refuse a local folder that has next to nothing left; `what` says whose it is."""
    free = shutil.disk_usage(_existing_folder(folder)).free
    if free < _LOGS:
        raise ResourceError(
            f"{what} {folder} has {free / 1e6:,.0f} MB of free disk, and {_LOGS / 1e6:,.0f} MB are the least; free some"
        )
