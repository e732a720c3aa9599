"""Where a model runs, how fast its numbers are there, and how much of a batch fits."""

from pathlib import Path
from typing import Literal

from luke_batch.base.errors import ResourceError
from luke_batch.model.files.checkpoint import Checkpoint
from luke_batch.model.settings import ModelConfig, Precision

_CPU_FACTS = Path("/proc/cpuinfo")
_BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}
"""As Linux names them on x86 and on Arm."""
ON_CPU = 768
"""Tokens and entities of a batch, together, where the job does not say. On one core 768 and 1024 were alike,
512 took 3% longer; 1024 held 30 MB more.
"""
_MOST = 65_536
"""The same on a GPU, at most."""
_SHARE = 0.5
"""Of a GPU's free memory: kernels need room of their own, and a second actor may share it."""


def multiplies_bfloat16() -> bool:
    """Whether this CPU has instructions for bfloat16; without them it is slower than float32."""
    return _CPU_FACTS.exists() and not _BFLOAT16_FLAGS.isdisjoint(_CPU_FACTS.read_text().split())


def faster_precision(model: ModelConfig) -> Precision | None:
    """The one that is faster than float32 where `model` will run, as far as this machine tells; None: none.

    A GPU that is not in this machine cannot be tried from here.
    """
    if model.engine != "fast":
        return None
    if model.device == "cpu" or not (model.num_gpus or model.device == "cuda"):
        return "bfloat16" if multiplies_bfloat16() else None
    # Here, not above: as below.
    import torch

    if not torch.cuda.is_available():
        return None
    return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"


def use_threads(count: int) -> None:
    """Compute with so many threads in this process from now on."""
    # Here, not above: as below.
    import torch

    torch.set_num_threads(count)


def pick_device(setting: Literal["auto", "cpu", "cuda"], gpu_assigned: bool) -> str:
    """Torch's name of the device; `auto` follows whether Ray assigned a GPU to this process.

    Raises ResourceError where a GPU is asked for and CUDA is not available.
    """
    if setting == "cpu" or (setting == "auto" and not gpu_assigned):
        return "cpu"
    # Here, not above: jobs that name the CPU decide without loading torch.
    import torch

    if not torch.cuda.is_available():
        asked = "`device: cuda` is set" if setting == "cuda" else "Ray assigned a GPU to this actor"
        raise ResourceError(
            f"{asked}, but torch {torch.__version__} finds no CUDA device on this node; install a CUDA build "
            "of torch and the driver there, or set `device: cpu` (and `num_gpus: 0`)"
        )
    return "cuda"


def default_budget(checkpoint: Checkpoint, device: str) -> int:
    """Tokens and entities of a batch by the memory of `device`: that of a CPU does not bind, that of a GPU may."""
    if device == "cpu":
        return ON_CPU
    # Here, not above: as in `pick_device`.
    import torch

    free, _ = torch.cuda.mem_get_info()
    return max(ON_CPU, min(_MOST, int(free * _SHARE) // row_bytes(checkpoint)))


def row_bytes(checkpoint: Checkpoint) -> int:
    """Bytes that a token or an entity takes in a layer of `engine: fast`, at most.

    In float32: the states before and after, a residual, four projections, three of them once more and twice
    as wide for one kernel over all windows, their context; and the inner states of the feed-forward part,
    twice where their activation is not part of the product.
    """
    hidden, inner = checkpoint.hidden_size, checkpoint.setting("intermediate_size")
    return 4 * (hidden * (3 + 4 + 3 * 2 + 2) + 2 * inner)
