"""`luke-batch models convert`: a checkpoint published as pytorch_model.bin becomes a folder of safetensors.

A .bin file is a pickle. torch.load(weights_only=True) builds tensors from it and refuses every other object;
it runs in a process of its own, `python -m luke_batch.model.writing.convert FOLDER DESTINATION`, which ends with it.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import cast

from luke_batch.base.errors import CheckpointError
from luke_batch.model.files.checkpoint import Checkpoint, read_checkpoint, read_config, resolve
from luke_batch.model.files.fetch import PATTERNS, PICKLE_PATTERNS, Location, fetch
from luke_batch.model.files.reading import INDEX, PICKLES, SINGLE, read_object
from luke_batch.model.writing.new_folder import check_destination, new_folder

PICKLE, PICKLE_INDEX = PICKLES
COPIED = ("*.json", "*.txt", "*.model", "LICENSE*", "README*")
# transformers always ties it to the entity table. The other alias of released files, lm_head.decoder.weight,
# stays: transformers 5.23 leaves the word head random where the file lacks it.
TIED = "entity_predictions.decoder.weight"
REFUSED = 3  # exit status of the process


def convert(source: str, destination: Path) -> Checkpoint:
    """Write the checkpoint `source` (a folder, hub id or URL) with safetensors weights to `destination`.

    The destination appears whole or not at all. Raises CheckpointError where it exists and is not an empty
    folder, where the source has no .bin weights, where they hold anything but tensors, and where the result
    is no LUKE checkpoint.
    """
    check_destination(destination)
    folder = fetch(source, (*PATTERNS, *PICKLE_PATTERNS)).folder
    if (folder / SINGLE).exists() or (folder / INDEX).exists():
        raise CheckpointError(f"{source}: has safetensors weights already; use it as it is")
    if not any((folder / name).exists() for name in PICKLES):
        raise CheckpointError(f"{source}: no {PICKLE} to convert; copy the whole folder of the checkpoint")
    read_config(folder, source)
    with new_folder(destination) as new:
        for file in (file for pattern in COPIED for file in folder.glob(pattern)):
            if file.name != PICKLE_INDEX:
                shutil.copyfile(file, new / file.name)
        _run_process(folder, new, source)
        # Refused here, before anything is at the destination.
        read_checkpoint(Location(new, None, source), source)
    return resolve(str(destination.absolute()))


def _run_process(folder: Path, destination: Path, source: str) -> None:
    root = str(Path(__file__).parents[3])  # the process must find this package also where it is not installed
    path = os.pathsep.join(part for part in (root, os.environ.get("PYTHONPATH")) if part)
    command = [sys.executable, "-m", "luke_batch.model.writing.convert", str(folder), str(destination)]
    done = subprocess.run(  # noqa: S603 - our own module on two folders
        command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        reason = next(iter(reversed(done.stderr.strip().splitlines())), f"exit status {done.returncode}")
        cause = (
            "the file is damaged, or a pickle that would run code; download it again, or ask its publisher "
            "for safetensors"
            if done.returncode == REFUSED
            else "the process that reads the weights failed; check memory and disk space"
        )
        raise CheckpointError(f"{source}: weights not converted ({reason}): {cause}")


def _write_safetensors(folder: Path, destination: Path) -> None:
    """Every .bin of `folder` as safetensors in `destination`, one file at a time."""
    if (folder / PICKLE).exists():
        _write_file(folder / PICKLE, destination / SINGLE)
        return
    weight_map = cast("dict[str, str]", read_object(folder / PICKLE_INDEX).get("weight_map") or {})
    new_map: dict[str, str] = {}
    for shard in sorted(set(weight_map.values())):
        name = Path(shard).stem.replace("pytorch_model", "model") + ".safetensors"
        new_map |= dict.fromkeys(_write_file(folder / Path(shard).name, destination / name), name)
    index = {"metadata": {}, "weight_map": new_map}
    (destination / INDEX).write_text(json.dumps(index, indent=1), encoding="utf-8")


def _write_file(source: Path, destination: Path) -> list[str]:
    """Convert one file; the names of its tensors. ValueError where it holds something else."""
    source.stat()  # one that is missing is refused before torch is loaded
    import torch
    from safetensors.torch import save_file

    content: object = torch.load(source, map_location="cpu", weights_only=True)
    if not isinstance(content, dict):
        raise ValueError(f"{source.name} holds a {type(content).__name__}, not a state dict")
    tensors: dict[str, torch.Tensor] = {}
    storages: set[int] = set()
    for name, value in cast("dict[object, object]", content).items():
        if not isinstance(value, torch.Tensor):
            raise ValueError(f"{source.name}: {name} is a {type(value).__name__}, not a tensor")
        if name == TIED:
            continue
        # safetensors has no aliases: a tensor that shares its memory is written a second time.
        shared = value.untyped_storage().data_ptr() in storages
        storages.add(value.untyped_storage().data_ptr())
        tensors[str(name)] = value.clone() if shared else value.contiguous()
    save_file(tensors, destination, metadata={"format": "pt"})  # transformers 4 refuses a file without the format
    return list(tensors)


def _main() -> None:
    import pickle

    try:
        _write_safetensors(Path(sys.argv[1]), Path(sys.argv[2]))
    except (pickle.UnpicklingError, EOFError, RuntimeError, ValueError, FileNotFoundError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        # torch wraps the line that names the object in advice to load the file unsafely.
        if isinstance(error, pickle.UnpicklingError):
            lines = [line for line in lines if "unsupported" in line.lower()]
        sys.stderr.write(f"{next(iter(lines), type(error).__name__)[:300]}\n")
        sys.exit(REFUSED)


if __name__ == "__main__":
    _main()
