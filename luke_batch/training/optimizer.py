"""The optimizer: one learning rate for what was trained before, another for what starts from nothing."""

from __future__ import annotations

import torch
from torch import nn

from luke_batch.training.model import MultiTaskModel


def optimizer_of(
    model: MultiTaskModel, encoder_rate: float, head_rate: float, weight_decay: float
) -> torch.optim.AdamW:
    """AdamW with the heads' rate for what starts from nothing, and no decay of biases and norms."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            new = name.startswith("heads.") or name.endswith("entity_embeddings.entity_embeddings.weight")
            rate = head_rate if new else encoder_rate
            decay = weight_decay if parameter.ndim > 1 and "embeddings" not in name else 0.0
            groups.setdefault((rate, decay), []).append(parameter)
    return torch.optim.AdamW(
        [
            {"params": parameters, "lr": rate, "full_rate": rate, "weight_decay": decay}
            for (rate, decay), parameters in groups.items()
        ],
        fused=True,
    )
