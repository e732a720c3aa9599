"""Which safetensors files a model folder has and what their headers promise, read without torch."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from safetensors import SafetensorError, safe_open

from luke_batch.base.errors import CheckpointError
from luke_batch.model.inputs.pieces import read_object

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
