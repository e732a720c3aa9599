"""Copies a safetensors file with further rows at the end of some tensors, without holding a tensor.

The format (https://huggingface.co/docs/safetensors): eight bytes with the length of the header, little
endian; the header, JSON with dtype, shape and place of each tensor, padded with spaces; then the tensors one
after another, without gaps, those of larger elements first, so that each lies at a multiple of its element.

Tensors are used where they lie in the mapped file, and matrix products round otherwise where a matrix begins
elsewhere between two multiples of 64 bytes. So those that grow come last among their like, and the padding is
chosen to leave the others where they were.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

_BUFFER = 8 * 2**20
_LINE = 64
_SIZES = {"F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2, "U16": 2}
"""Bytes of an element of the types that are larger than one."""

Entry = dict[str, Any]


@dataclass(frozen=True, slots=True)
class AppendedRows:
    """Rows as they are stored."""

    count: int
    content: bytes


def append_rows(source: Path, destination: Path, added: Mapping[str, AppendedRows]) -> None:
    """Write `source` to the new file `destination` with `added` behind the rows of the tensors it names.

    Every other byte of a tensor is copied as it is. `source` is a whole safetensors file that has these
    tensors.
    """
    with source.open("rb") as file, destination.open("wb") as out:
        length = int.from_bytes(file.read(8), "little")
        header: dict[str, Entry] = json.loads(file.read(length))
        first = 8 + length
        metadata = {"__metadata__": header.pop("__metadata__")} if "__metadata__" in header else {}
        names = sorted(header, key=lambda name: (-_size(header[name]), name in added, _place(header[name])))
        changed = _changed(header, names, added)
        content = json.dumps(metadata | changed, separators=(",", ":"), ensure_ascii=False).encode()
        fixed = [(first + _place(header[n])[0], _place(changed[n])[0]) for n in names if n not in added]
        content += b" " * _padding(8 + len(content), fixed, max(map(_size, header.values())))
        out.write(len(content).to_bytes(8, "little") + content)
        for name in names:
            begin, end = _place(header[name])
            file.seek(first + begin)
            _copy(file, out, end - begin)
            if name in added:
                out.write(added[name].content)


def _changed(header: Mapping[str, Entry], names: Sequence[str], added: Mapping[str, AppendedRows]) -> dict[str, Entry]:
    """The entries of the new header, in the order of `names`."""
    entries: dict[str, Entry] = {}
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


def _padding(length: int, places: Sequence[tuple[int, int]], element: int) -> int:
    """Spaces behind a header of `length` bytes: tensors then begin at multiples of `element`, and as many of
    them as can be at the places that they had, up to multiples of 64.

    `places`: of each tensor the old one in the file and the new one behind the header.
    """
    least = -length % element
    choices = range(least, least + _LINE, element)
    return max(choices, key=lambda pad: sum((length + pad + new - old) % _LINE == 0 for old, new in places))


def _size(entry: Entry) -> int:
    return _SIZES.get(entry["dtype"], 1)


def _place(entry: Entry) -> tuple[int, int]:
    begin, end = entry["data_offsets"]
    return int(begin), int(end)


def _copy(file: BinaryIO, out: BinaryIO, size: int) -> None:
    while size:
        content = file.read(min(size, _BUFFER))
        if not content:
            raise OSError(f"{size} bytes are missing at the end")
        out.write(content)
        size -= len(content)
