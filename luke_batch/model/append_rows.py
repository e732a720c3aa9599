"""Copies a safetensors file with further rows at the end of some tensors, without holding a tensor.

The format (https://huggingface.co/docs/safetensors): eight bytes with the length of the header, little
endian; the header, JSON with dtype, shape and place of each tensor, padded with spaces to a multiple of
eight; then the tensors one after another, without gaps, those of larger elements first.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

_BUFFER = 8 * 2**20
_BITS = {"F64": 64, "I64": 64, "U64": 64, "F32": 32, "I32": 32, "U32": 32, "F16": 16, "BF16": 16, "I16": 16}
"""Of the types that are larger than a byte."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows as they are stored."""

    count: int
    content: bytes


def append_rows(source: Path, destination: Path, added: Mapping[str, Rows]) -> None:
    """Write `source` to the new file `destination` with `added` behind the rows of the tensors it names.

    Every other byte of a tensor is copied as it is. `source` is a whole safetensors file that has these
    tensors.
    """
    with source.open("rb") as file, destination.open("wb") as out:
        length = int.from_bytes(file.read(8), "little")
        header: dict[str, Any] = json.loads(file.read(length))
        first = 8 + length
        metadata = {"__metadata__": header.pop("__metadata__")} if "__metadata__" in header else {}
        names = sorted(header, key=lambda name: (-_BITS.get(header[name]["dtype"], 8), _place(header[name])))
        out.write(_header(metadata | _changed(header, names, added)))
        for name in names:
            begin, end = _place(header[name])
            file.seek(first + begin)
            _copy(file, out, end - begin)
            if name in added:
                out.write(added[name].content)


def _changed(
    header: Mapping[str, dict[str, Any]], names: list[str], added: Mapping[str, Rows]
) -> dict[str, Any]:
    """The entries of the new header, in the order of `names`."""
    entries: dict[str, Any] = {}
    place = 0
    for name in names:
        begin, end = _place(header[name])
        shape, size = list(header[name]["shape"]), end - begin
        if name in added:
            shape[0] += added[name].count
            size += len(added[name].content)
        entries[name] = {**header[name], "shape": shape, "data_offsets": [place, place + size]}
        place += size
    return entries


def _header(entries: Mapping[str, Any]) -> bytes:
    content = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    content += b" " * (-len(content) % 8)
    return len(content).to_bytes(8, "little") + content


def _place(entry: Mapping[str, Any]) -> tuple[int, int]:
    begin, end = entry["data_offsets"]
    return int(begin), int(end)


def _copy(file: BinaryIO, out: BinaryIO, size: int) -> None:
    while size:
        content = file.read(min(size, _BUFFER))
        if not content:
            raise OSError(f"{size} bytes are missing at the end")
        out.write(content)
        size -= len(content)
