"""A million entities: `make bench-index`, or `python -m benchmarks.index --entities N`.

Annotated mentions are generated as a stream and indexed by `luke-batch index build` on Ray, and by a plain
script of one process (`index_plain.py`) with the same libraries. Each build is a process of its own, pinned
to its cores; the memory of all its descendants is sampled on the way (proportional set size, so the object
store counts, and pages that processes share count once). Printed are

    build     seconds on one core and on two, beside the plain script's, and seconds of CPU time, which depend
              less on what else the machine does; entities and vectors are compared bit for bit
    memory    the highest sum over all processes
    recall    recall@10 against exact search, as the build stores it
    search    latency of single queries by vector and by name, in this process
    nights    each time 1% of the fragments have other mentions: seconds, as shares of a whole build
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from benchmarks.index_corpus import SyntheticSource
from benchmarks.watching import Watch

_DIMENSION, _MENTIONS, _OF_A_CENTRE = 384, 5, 100
_NIGHT_SHARE = 100
"""One fragment of so many is another on each night."""
_NIGHTS = 3
_QUERIES = 300
_WARM_UP = 20


def main() -> None:
    """Print the figures, or do one of the builds."""
    parser = argparse.ArgumentParser(description="What an index of a million entities costs.")
    parser.add_argument("--entities", type=int, default=1_000_000)
    parser.add_argument("--fragments", type=int, default=None, help="default: one for 10,000 mentions")
    parser.add_argument("--folder", default=None, help="where to work (default: a temporary folder)")
    parser.add_argument("--build", choices=["ray", "plain", "night", "search"], help=argparse.SUPPRESS)
    parser.add_argument("--cores", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--night", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--skip", nargs="*", default=[], help="builds to leave out, such as plain-1")
    arguments = parser.parse_args()
    fragments = arguments.fragments or max(1, arguments.entities * _MENTIONS // 10_000)
    source = SyntheticSource(
        arguments.entities, _MENTIONS, _DIMENSION, max(1, arguments.entities // _OF_A_CENTRE), fragments
    )
    if arguments.build:
        print(json.dumps(one(arguments.build, _on(source, arguments.night), Path(arguments.folder), arguments.cores)))
        return
    with tempfile.TemporaryDirectory(prefix="luke-batch-index-", dir=arguments.folder) as folder:
        compare(source, Path(folder), set(arguments.skip))


def compare(source: SyntheticSource, folder: Path, skip: set[str]) -> None:
    """Run the builds one after another and print a table."""
    print(
        f"{source.entities:,} entities, {source.entities * source.mentions:,} mentions of {source.dimension}"
        f" dimensions around {source.centres:,} centres, {source.fragments_count:,} fragments\n"
    )
    print(f"{'build':<22}{'seconds':>9}{'CPU s':>9}{'peak MB':>9}{'recall@10':>11}   steps", flush=True)
    found: dict[str, dict[str, Any]] = {}
    for kind, cores in (("plain", 1), ("ray", 1), ("plain", 2), ("ray", 2)):
        name = f"{kind}-{cores}"
        if name in skip:
            continue
        target = folder / kind
        shutil.rmtree(target, ignore_errors=True)
        found[name] = _measured(kind, source, target, cores)
        _show(f"{kind}, {cores} core{'s' * (cores > 1)}", found[name])
        found[name]["digest"] = digest(target)
    digests = {figures["digest"] for figures in found.values()}
    print(f"entities and vectors of all builds: {'identical' if len(digests) == 1 else 'DIFFERENT'}")
    for cores in (1, 2):
        if {f"ray-{cores}", f"plain-{cores}"} <= set(found):
            ratio = found[f"ray-{cores}"]["seconds"] / found[f"plain-{cores}"]["seconds"]
            print(f"on {cores} core{'s' * (cores > 1)}: {ratio:.2f} times the plain script's time")
    target = folder / "ray"
    search = _measured("search", source, target, 2)
    print(f"\nsearch by vector: {search['vector']}\nsearch by name:   {search['name']}", flush=True)
    whole = found.get("ray-2")
    for number in range(1, _NIGHTS + 1):
        night = _measured("night", source, target, 2, number)
        _show(f"night {number}, 2 cores", night)
        if whole:
            shares = [night[what] / whole[what] for what in ("seconds", "cpu")]
            print(f"    {shares[0]:.1%} of the time and {shares[1]:.1%} of the CPU time of a whole build")


def one(kind: str, source: SyntheticSource, folder: Path, cores: int) -> dict[str, Any]:
    """One build, or the searches, in this process and its children."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    if kind == "plain":
        from benchmarks.index_plain import build
        from luke_batch.index.settings import SearchSettings
        from luke_batch.index.vectors import Layout

        layout = Layout.of(SearchSettings(variant="IVF_FLAT"), source.entities)
        return build(source, folder, layout.partitions, layout.probes)
    if kind == "search":
        return _search(folder, source)
    return _build(source, folder)


def _on(source: SyntheticSource, night: int) -> SyntheticSource:
    """The corpus after so many nights, each of which changes other fragments."""
    changed = (range(3 + number, source.fragments_count, _NIGHT_SHARE) for number in range(night))
    return replace(source, changed=frozenset(chain.from_iterable(changed)))


def digest(folder: Path) -> str:
    """Hash of ids, counts and vectors of a build."""
    files = sorted((folder / "current" / "entities").glob("*.parquet")) or sorted(folder.glob("????.parquet"))
    found = {name: hashlib.sha256() for name in ("id", "count", "vector")}
    for file in files:
        table = pq.read_table(file, columns=list(found))
        for name, digest in found.items():
            column = table[name].combine_chunks()
            values = column.flatten() if name == "vector" else column
            digest.update(values.to_numpy().tobytes())
    return " ".join(digest.hexdigest() for digest in found.values())


def _build(source: SyntheticSource, folder: Path) -> dict[str, Any]:
    from luke_batch.distributed.index import build_from
    from luke_batch.index.settings import IndexConfig, SearchSettings
    from luke_batch.index.sources import AnnotatedSources
    from luke_batch.index.versions import IndexFolder

    start = time.monotonic()
    config = IndexConfig(search=SearchSettings(variant="IVF_FLAT"))
    built = build_from(AnnotatedSources((source,)), IndexFolder(str(folder)), config, "local")
    seconds = time.monotonic() - start
    manifest = built.version.manifest
    recall = None if manifest.recall is None else manifest.recall["value"]
    return {"seconds": seconds, "steps": manifest.seconds, "recall": recall, "changes": manifest.changes}


def _search(folder: Path, source: SyntheticSource) -> dict[str, Any]:
    from luke_batch.index.search import EntityIndex

    index = EntityIndex.open(str(folder))
    rng = np.random.default_rng(5)
    names = [f"Entity {number}" for number in rng.integers(0, source.entities, _QUERIES + _WARM_UP).tolist()]
    rows = index.entities(["vector"]).read_next_batch().slice(0, _QUERIES + _WARM_UP)
    vectors = rows["vector"].flatten().to_numpy().reshape(-1, source.dimension)
    by_vector = [_timed(partial(index.nearest, vector[None])) for vector in vectors]
    by_name = [_timed(partial(index.search, [name])) for name in names]
    return {"seconds": 0.0, "vector": _percentiles(by_vector), "name": _percentiles(by_name)}


def _timed(call: Any) -> float:
    start = time.perf_counter()
    call()
    return 1000 * (time.perf_counter() - start)


def _percentiles(found: list[float]) -> str:
    values = np.percentile(found[_WARM_UP:], [50, 95, 99]).tolist()
    return ", ".join(f"p{name} {value:.1f} ms" for name, value in zip((50, 95, 99), values, strict=True))


def _measured(kind: str, source: SyntheticSource, folder: Path, cores: int, night: int = 0) -> dict[str, Any]:
    """Run one build in a process of its own and watch its memory."""
    command = [
        sys.executable, "-m", "benchmarks.index", "--build", kind, "--cores", str(cores),
        "--folder", str(folder), "--entities", str(source.entities),
        "--fragments", str(source.fragments_count), "--night", str(night),
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    watch = Watch(memory_seconds=1)
    watcher = watch.start(process.pid)
    said = process.communicate()[0]
    watcher.join()
    if process.returncode:
        sys.exit(f"{kind} failed with exit code {process.returncode}")
    return {**json.loads(said.splitlines()[-1]), "peak": watch.peak, "cpu": watch.cpu_seconds}


def _show(name: str, figures: dict[str, Any]) -> None:
    recall = "" if figures.get("recall") is None else f"{figures['recall']:.3f}"
    steps = ", ".join(f"{step} {seconds:.1f}" for step, seconds in figures["steps"].items())
    costs = f"{figures['seconds']:>9.1f}{figures['cpu']:>9.1f}{figures['peak'] / 1e6:>9.0f}"
    print(f"{name:<22}{costs}{recall:>11}   {steps}", flush=True)


if __name__ == "__main__":
    main()
