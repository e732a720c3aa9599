"""Tokens of a prompt with one gap, by the cut rule of the input builder: the gap is a span of the text.

So `<mask>` in the gap gives the ids of transformers 4.57.6 for the text with `<mask>` written there and an
entity over it, and a text in the gap becomes the pieces that it has as a mention at that place.
"""

from collections.abc import Sequence

import numpy as np

from luke_batch.base.arrays import IntArray
from luke_batch.model.inputs.windows import InputBuilder

_GAP = "_"
"""Stands in the gap while its surroundings are tokenised; its own tokens are thrown away."""


def around_gap(builder: InputBuilder, left: str, right: str) -> tuple[IntArray, IntArray]:
    """(t,) token ids of the text before the gap, and of that after it."""
    span = np.array([[len(left), len(left) + len(_GAP)]], np.int32)
    tokens = builder.tokenize(left + _GAP + right, span)
    start, end = tokens.spans[0].tolist()
    return tokens.ids[:start], tokens.ids[end:]


def gap_lead(builder: InputBuilder, left: str) -> str:
    """What belongs to the text in the gap after `left`: a space, or nothing."""
    begins = builder.tokenizer.first_prefix_space and not left
    return " " if begins or left.endswith(" ") else ""


def in_gap(builder: InputBuilder, lead: str, texts: Sequence[str]) -> list[IntArray]:
    """(t,) token ids that each text has in a gap; `lead` as `gap_lead` says."""
    return builder.tokenizer.encode([lead + text for text in texts])
