"""A whole run as a process: the real one but for Ray and models, whose place `tests.corpora.annotate` takes.

    python -m tests.run_without_ray INPUT OUTPUT [--set key=value …]

A line is read from standard input before it begins; it ends with the exit code of the command.
"""

import sys
import time
from typing import Any

from luke_batch.cli import run as run_command
from luke_batch.config import JobConfig
from luke_batch.corpus.lease import Lease
from luke_batch.corpus.manifest import RunManifest, write_manifest
from luke_batch.corpus.plan import Plan
from luke_batch.corpus.read import read_item
from luke_batch.distributed import run
from luke_batch.distributed.results import ItemResult
from tests.corpora import annotate, commit

_ITEM_SECONDS = 0.05


def annotate_items(
    plan: Plan, config: JobConfig, manifest: RunManifest, lease: Lease, tally: run.RunTally, *_: Any, **__: Any
) -> None:
    """In the place of `distributed.run._annotate_items`."""
    lease.take()
    write_manifest(plan.output, manifest)
    context = run._context(plan, config, manifest, lease)
    for item in plan.items:
        read = read_item(plan.source, item, config.input)
        time.sleep(_ITEM_SECONDS)
        try:
            done = commit(plan, read, context, lambda table: annotate(table, config.input, context.written))
        except Exception as error:  # as the commit task does
            tally.failures.append(str(error))
            continue
        tally.add(ItemResult(tuple(done), len(read.failures)))


if __name__ == "__main__":
    run._annotate_items = annotate_items
    sys.stdin.readline()
    sys.exit(run_command(["annotate", *sys.argv[1:], "--quiet"]))
