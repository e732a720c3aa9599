"""Passages: runs of sentences that fill a window, for heads that look at the mentions of several sentences
together.
"""

import numpy as np

from luke_batch.base.arrays import IntArray
from luke_batch.document.state import Document
from luke_batch.heads.windows.frames import Region, group_by_sentence
from luke_batch.heads.windows.surroundings import Surroundings
from luke_batch.model.inputs.windows import InputBuilder


def group_by_passage(document: Document, spans: IntArray, builder: InputBuilder) -> list[Region]:
    """Regions of as many sentences as fit into a window, from the first sentence with a span on; every span
    is in one of them.
    """
    regions = group_by_sentence(document, spans)
    if not regions:
        return []
    surroundings = Surroundings(document, builder)
    room = builder.max_tokens - 2
    passages = [regions[0]]
    for region in regions[1:]:
        last = passages[-1]
        end = max(last.end, region.end)
        if surroundings.count(last.start, end) <= room:
            joined = np.concatenate([last.spans, region.spans]), np.concatenate([last.which, region.which])
            passages[-1] = Region(last.start, end, *joined)
        else:
            passages.append(region)
    return passages
