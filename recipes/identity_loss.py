"""The losses of mention vectors.

Contrastive: some mention of the same entity must be nearer than all others.
InfoNCE over cosines (van den Oord et al. 2018) with the positives summed inside the logarithm, as in MIL-NCE
(Miech et al. 2020): a mention has to find one of its entity's others, not all of them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from luke_batch.training.model import VectorLoss

_TEMPERATURE = 0.05
_OTHER_NAMES = 512
"""Names beside those of the batch that a mention is compared with."""
_OWN_NAME_WEIGHT = 5.0
"""How much the angle to a mention's own name counts beside the comparison, whose gradients are steeper."""


def vector_losses(names: Tensor) -> dict[str, VectorLoss]:
    """What the heads `identity` (targets of all columns) and `names` (the name alone) learn.

    `names`: (m, hidden) unit vectors of the names.
    """

    def identity(vectors: Tensor, targets: Tensor) -> Tensor:
        return identity_loss(vectors, targets) + name_loss(vectors, targets[:, 2], names)

    return {"identity": identity, "names": lambda vectors, targets: name_loss(vectors, targets[:, 0], names)}


def identity_loss(vectors: Tensor, targets: Tensor) -> Tensor:
    """The mean over the mentions that have a positive; 0 where none has one.

    Positives have the same entity and another surface: the same surface is easily near, and is counted only
    where an entity has no other. Negatives are mentions of other entities, unless their surfaces are equal
    or, where targets tell word beginnings, begin alike.

    Args:
        vectors: (n, d) float32, of any length.
        targets: (n, columns) int64, see `identities.TARGETS`.
    """
    cosines = torch.nn.functional.normalize(vectors, dim=-1)
    scores = cosines @ cosines.mT / _TEMPERATURE
    same = targets[:, :1] == targets[:, 0]
    alike = targets[:, 1:2] == targets[:, 1]
    other = ~torch.eye(len(targets), dtype=torch.bool, device=vectors.device)
    keys = targets[:, 3:]
    begun = ((keys[:, None, :, None] == keys[None, :, None, :]) & (keys[:, None, :, None] != 0)).any(-1).any(-1)
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


def name_loss(vectors: Tensor, places: Tensor, names: Tensor) -> Tensor:
    """How far a mention's vector is from its own name's, and compares with other names otherwise than that.

    Distillation (Hinton et al. 2015) of a sentence encoder's vectors of the bare names: the cross-entropy of
    two softmaxes over cosines with the names of the batch and some others, drawn with torch's generator,
    which is soon content with telling random names apart; and the cosine distance, which is not.

    Args:
        vectors: (n, d) float32.
        places: (n,) int64, the name of each mention.
        names: (m, d) float32 of unit length.
    """
    drawn = torch.randint(len(names), (_OTHER_NAMES,))
    candidates = names[torch.unique(torch.cat([places, drawn]))]
    wanted = torch.softmax(names[places] @ candidates.mT / _TEMPERATURE, -1)
    unit = torch.nn.functional.normalize(vectors, dim=-1)
    compared = -(wanted * torch.log_softmax(unit @ candidates.mT / _TEMPERATURE, -1)).sum(-1).mean()
    return compared + _OWN_NAME_WEIGHT * (1 - (unit * names[places]).sum(-1)).mean()
