"""How likely spans are mentions, from what the span scorer says of their ends. Imports no torch."""

import numpy as np

from luke_batch.arrays import FloatArray, IntArray


def span_likelihoods(bounds: FloatArray, spans: IntArray, decay: float) -> FloatArray:
    """(n,) how likely each of (n, 2) token ranges is a mention, for comparisons among them.

    The product of both its ends' probabilities, times `decay` for each token beyond the first: begins and
    ends of different mentions would pair up over whole sentences. `bounds`: as of `SpanScorer`.
    """
    first, last = spans[:, 0], np.maximum(spans[:, 1] - 1, spans[:, 0])
    return bounds[first, 0] * bounds[last, 1] * np.float32(decay) ** (last - first)
