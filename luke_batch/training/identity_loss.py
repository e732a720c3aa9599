"""The contrastive loss of mention vectors: some mention of the same entity must be nearer than all others.

InfoNCE over cosines (van den Oord et al. 2018) with the positives summed inside the logarithm, as in MIL-NCE
(Miech et al. 2020): a mention has to find one of its entity's others, not all of them.
"""

from __future__ import annotations

import torch
from torch import Tensor

_TEMPERATURE = 0.05


def identity_loss(vectors: Tensor, targets: Tensor) -> Tensor:
    """The mean over the mentions that have a positive; 0 where none has one.

    Positives have the same entity and another surface: the same surface is easily near, and is counted only
    where an entity has no other. Negatives are mentions of other entities, unless their surfaces are equal
    or, where targets tell word beginnings, begin alike.

    Args:
        vectors: (n, d) float32, of any length.
        targets: (n, columns) int64: the entity, the surface, and word beginnings (0: none).
    """
    cosines = torch.nn.functional.normalize(vectors, dim=-1)
    scores = cosines @ cosines.mT / _TEMPERATURE
    same = targets[:, :1] == targets[:, 0]
    alike = targets[:, 1:2] == targets[:, 1]
    other = ~torch.eye(len(targets), dtype=torch.bool, device=vectors.device)
    keys = targets[:, 2:]
    begun = (
        ((keys[:, None, :, None] == keys[None, :, None, :]) & (keys[:, None, :, None] != 0)).any(-1).any(-1)
    )
    varied = same & ~alike
    positive = torch.where(varied.any(1, keepdim=True), varied, same & other)
    negative = ~same & ~alike & ~begun
    anchors = positive.any(1) & negative.any(1)
    if not anchors.any():
        return scores.sum() * 0
    hidden = torch.finfo(scores.dtype).min
    wanted = scores.masked_fill(~positive, hidden)[anchors].logsumexp(1)
    all_of_them = scores.masked_fill(~(positive | negative), hidden)[anchors].logsumexp(1)
    return (all_of_them - wanted).mean()
