"""Where a model runs."""

from pathlib import Path
from typing import Literal

from luke_batch.base.errors import ResourceError
from luke_batch.model.settings import ModelConfig, Precision

_CPU_FACTS = Path("/proc/cpuinfo")
_BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}
"""As Linux names them on x86 and on Arm."""


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
