"""What an alias table costs: `make bench-aliases`, or `python -m benchmarks.aliases --names N`.

A table of synthetic names of two words is written, two titles a name. One process compiles it; another one
maps what the first has made, asks for a fiftieth of the names, and searches texts in which every tenth word
begins a name. Memory is RssAnon of Linux, what a process shares with no other, beyond that after its imports.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from luke_batch.text.names.aliases import load_aliases
from luke_batch.text.words import words

_SYLLABLES = (
    "ka",
    "lo",
    "mi",
    "ren",
    "tor",
    "vas",
    "bel",
    "un",
    "shi",
    "ma",
    "ge",
    "ot",
    "ri",
    "len",
    "du",
    "par",
)
_VOCABULARY = 30_000
_TEXTS = 2_000
_WORDS = 200
"""Of each text."""


def _names(count: int) -> "np.ndarray[Any, np.dtype[np.str_]]":
    """`count` names of two words, the same ones each time."""
    rng = np.random.default_rng(0)
    vocabulary = sorted({"".join(rng.choice(_SYLLABLES, 4)).title() for _ in range(2 * _VOCABULARY)})
    codes = rng.choice(_VOCABULARY**2, count, replace=False)
    chosen = np.array(vocabulary[:_VOCABULARY])
    return np.char.add(np.char.add(chosen[codes // _VOCABULARY], " "), chosen[codes % _VOCABULARY])


def _make(path: Path, count: int) -> None:
    names = _names(count)
    rng = np.random.default_rng(1)
    rows = np.repeat(np.arange(count), 2)
    titles = names[rng.integers(0, count, len(rows))]
    counts = rng.integers(1, 1000, len(rows))
    table = pa.table({"name": names[rows], "title": titles, "count": counts})
    pq.write_table(table.append_column("qid", pa.array([f"Q{row}" for row in rows])), path, compression="zstd")


def _texts(count: int) -> list[str]:
    names = _names(count)[: _TEXTS * _WORDS // 10].tolist()
    filler = ["lower", "words", "between", "the", "names", "and", "more", "of"]
    return [
        " ".join(f"{name} {' '.join(filler)}" for name in names[start : start + _WORDS // 10])
        for start in range(0, len(names), _WORDS // 10)
    ]


def _memory(kind: str = "RssAnon") -> float:
    """MB of this process's own memory; of `VmHWM` the most that it ever had, shared or not."""
    found = re.search(rf"{kind}:\s+(\d+)", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) / 1000


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _measure(folder: Path, count: int, search: bool) -> dict[str, float]:
    """Load the table, and use it where `search` is set; what that took."""
    before, started = _memory(), time.perf_counter()
    table = load_aliases(str(folder / "aliases.parquet"), folder / "cache")
    figures = {"load_s": time.perf_counter() - started, "load_mb": _memory() - before}
    figures["peak_mb"] = _memory("VmHWM")
    if not search:
        return figures
    names = _names(count)[::50].tolist()
    texts = _texts(count)
    bounds = [words(text, "en") for text in texts]
    exact = _seconds(lambda: [table.candidates(name, 30) and None for name in names])
    folded = _seconds(lambda: [table.candidates(name.upper(), 30) and None for name in names])
    find = _seconds(lambda: [len(table.find(*pair)) for pair in zip(texts, bounds, strict=True)])
    return figures | {
        "exact_per_s": len(names) / exact,
        "folded_per_s": len(names) / folded,
        "million_characters_per_s": sum(map(len, texts)) / find / 1e6,
    }


def main() -> None:
    """Print what compiling, mapping and searching took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--names", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--search", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.folder is not None:
        print(json.dumps(_measure(options.folder, options.names, options.search)))
        return
    with tempfile.TemporaryDirectory() as folder:
        _make(Path(folder) / "aliases.parquet", options.names)
        command = [
            sys.executable,
            "-m",
            "benchmarks.aliases",
            "--names",
            str(options.names),
            "--folder",
            folder,
        ]
        print(f"Parquet: {(Path(folder) / 'aliases.parquet').stat().st_size / 1e6:.0f} MB")
        for stage in ([], ["--search"]):
            done = subprocess.run([*command, *stage], check=True, capture_output=True, text=True)
            figures: dict[str, float] = json.loads(done.stdout)
            print("map and search:" if stage else "compile:", *(f"{k} {v:,.2f}" for k, v in figures.items()))
        size = sum(file.stat().st_size for file in Path(folder).glob("cache/*/*"))
        print(f"compiled: {size / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
