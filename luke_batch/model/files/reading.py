"""The files of a model folder: JSON, the headers of safetensors files, and a hash of their content; without torch."""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import cast

from safetensors import SafetensorError, safe_open

from luke_batch.base.errors import CheckpointError

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json")


@dataclass(frozen=True)
class TensorFacts:
    """One tensor as a file's header describes it."""

    file: Path
    shape: tuple[int, ...]
    dtype: str
    """safetensors' name: F32, F16, BF16, I8, …"""


def encoder_files(folder: Path, source: str) -> list[Path]:
    """The safetensors files of the model: one, or the shards of an index, sorted by name.

    source: how messages name the folder. Raises CheckpointError where there is none, where there are pickles
    only, and where a shard is missing.
    """
    if (folder / SINGLE).exists():
        return [folder / SINGLE]
    if (folder / INDEX).exists():
        return _shards(folder / INDEX)
    if any((folder / name).exists() for name in PICKLES):
        raise CheckpointError(
            f"{source}: has its weights in pytorch_model.bin only, which can run code when it is loaded; "
            f"`luke-batch models convert {source} DST` makes a safe copy"
        )
    raise CheckpointError(
        f"{source}: no {SINGLE}; copy the whole folder of the checkpoint, or where it was published with "
        f"pytorch_model.bin, run `luke-batch models convert {source} DST`"
    )


def read_headers(files: list[Path]) -> dict[str, TensorFacts]:
    """Every tensor in the files by name; CheckpointError where a file is truncated or damaged."""
    facts: dict[str, TensorFacts] = {}
    for file in files:
        try:
            with safe_open(file, framework="numpy") as content:
                for name in content.keys():  # noqa: SIM118 - safe_open is no mapping
                    part = content.get_slice(name)
                    facts[name] = TensorFacts(file, tuple(part.get_shape()), str(part.get_dtype()))
        except (SafetensorError, OSError) as error:
            raise CheckpointError(
                f"{file}: not a whole safetensors file ({_one_line(error)}); download it again"
            ) from error
    return facts


def _shards(index: Path) -> list[Path]:
    weight_map = read_object(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{index}: no weight_map; download it again")
    names = sorted({str(name) for name in cast("dict[str, object]", weight_map).values()})
    for name in names:
        # A name with a folder in it could point out of the checkpoint.
        if Path(name).name != name or not (index.parent / name).exists():
            raise CheckpointError(
                f"{index}: names the shard {json.dumps(name)}, which is not in the folder; copy all shards"
            )
    return [index.parent / name for name in names]


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def content_hash(files: Iterable[Path]) -> str:
    """Hex digest over names and contents; folder, order and times do not matter."""
    digest = hashlib.sha256()
    for file in sorted(set(files), key=lambda file: file.name):
        status = file.stat()
        digest.update(f"{file.name}\0{_file_digest(file, status.st_size, status.st_mtime_ns)}\n".encode())
    return digest.hexdigest()


@lru_cache(maxsize=1024)
def _file_digest(file: Path, size: int, modified_ns: int) -> str:  # noqa: ARG001 - they key the cache
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def read_object(path: Path) -> dict[str, object]:
    """The JSON object in a file; CheckpointError where it is missing or something else."""
    try:
        content: object = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such file; copy the whole folder of the checkpoint") from error
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not readable as JSON ({error}); download it again") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: not a JSON object; download it again")
    return cast("dict[str, object]", content)


def whole_number(content: Mapping[str, object], name: str, source: str, least: int = 0) -> int:
    """A whole number of a JSON object; CheckpointError, which names `source`, where it is none or under `least`."""
    value = content.get(name)
    if type(value) is not int or value < least:  # True is an int too
        raise CheckpointError(f"{source} has no usable {name} ({value!r}); download it again")
    return value


State = tuple[tuple[str, int, int], ...]


def state_of(folder: Path) -> State:
    """Name, size and time of change of every file: what is remembered of a folder holds while they stay.

    The content of config.json and tokenizer files is small and rewritten as a whole; so are weights.
    """
    if not folder.is_dir():
        return ()
    found = ((file.name, file.stat()) for file in os.scandir(folder) if file.is_file())
    return tuple(sorted((name, status.st_size, status.st_mtime_ns) for name, status in found))
