"""This machine as Ray counts it, without asking Ray."""

import os
from pathlib import Path

from luke_batch.distributed.resources import Node

_GPUS = Path("/proc/driver/nvidia/gpus")
_DEVICES = Path("/dev")


def usable_cores() -> int:
    """Those that this process may run on (`taskset`, a batch scheduler), and with it all that it starts."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def this_node() -> Node:
    """Its cores and GPUs; in a container those whose devices it has been given."""
    gpus = len(list(_GPUS.iterdir())) if _GPUS.is_dir() else 0
    return Node(usable_cores(), max(gpus, len(list(_DEVICES.glob("nvidia[0-9]*")))))
