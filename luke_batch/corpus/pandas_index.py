"""The range index that pandas keeps in file metadata instead of a column.

It is {"kind": "range", "start", "stop", "step"} and counts the rows of the whole file, so a file that holds a
part of them needs another one.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any, cast

_KEY = b"pandas"

Metadata = dict[bytes, bytes]


def without_length(metadata: Mapping[bytes, bytes] | None) -> Metadata:
    """Schema metadata that is equal for files which differ in their number of rows only."""

    def shorten(index: dict[str, Any]) -> None:
        index["stop"] = None

    return _changed(metadata, shorten)


def for_rows(metadata: Mapping[bytes, bytes] | None, start: int, rows: int) -> Metadata:
    """Schema metadata of a file that holds `rows` rows from row `start` of the original on."""

    def move(index: dict[str, Any]) -> None:
        index["start"] += start * index["step"]
        index["stop"] = index["start"] + rows * index["step"]

    return _changed(metadata, move)


def _changed(metadata: Mapping[bytes, bytes] | None, change: Callable[[dict[str, Any]], None]) -> Metadata:
    changed = dict(metadata or {})
    try:
        content = cast("dict[str, Any]", json.loads(changed.get(_KEY, b"{}")))
        ranges = [index for index in content.get("index_columns", []) if isinstance(index, dict)]
        for index in cast("list[dict[str, Any]]", ranges):
            change(index)
    except (AttributeError, KeyError, TypeError, ValueError):  # not written by pandas: left as it is
        return dict(metadata or {})
    if ranges:
        changed[_KEY] = json.dumps(content).encode()
    return changed
