"""How many words and entities a batch may have, together, where the job does not say."""

from luke_batch.model.files.checkpoint import Checkpoint

ON_CPU = 768
"""On one core 768 and 1024 were alike, 512 took 3% longer; 1024 held 30 MB more."""
_MOST = 65_536
_SHARE = 0.5
"""Of a GPU's free memory: kernels need room of their own, and a second actor may share it."""


def default_budget(checkpoint: Checkpoint, device: str) -> int:
    """By the memory of `device`: that of a CPU does not bind, that of a GPU may."""
    if device == "cpu":
        return ON_CPU
    # Here, not above: jobs on CPUs decide without loading torch.
    import torch

    free, _ = torch.cuda.mem_get_info()
    return max(ON_CPU, min(_MOST, int(free * _SHARE) // row_bytes(checkpoint)))


def row_bytes(checkpoint: Checkpoint) -> int:
    """Bytes that a word or an entity takes in a layer of `engine: fast`, at most.

    In float32: the states before and after, a residual, four projections, three of them once more and twice
    as wide for one kernel over all windows, their context; and the inner states of the feed-forward part,
    twice where their activation is not part of the product.
    """
    hidden, inner = checkpoint.hidden_size, checkpoint.setting("intermediate_size")
    return 4 * (hidden * (3 + 4 + 3 * 2 + 2) + 2 * inner)
