"""Vectors of bare names by the sentence encoder that the embedded model starts from.

multilingual-e5-small was trained to place texts of one meaning together, in many languages. What it knows of
names is lost where its weights learn to tell persons from places; as a teacher of mention vectors it is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor

from luke_batch.training.encoder import EncoderConfig, EncoderInput, LukeEncoder
from luke_batch.training.start import EncoderBase, to_luke

_PREFIX = "query: "
"""What the encoder was trained with."""
_BATCH = 128
_LONGEST = 32


@torch.inference_mode()
def name_vectors(base: EncoderBase, tokenizer: Path, names: Sequence[str]) -> Tensor:
    """(n, hidden) unit vectors: the mean of the last word states, less the mean over all names.

    `tokenizer` is the encoder's own tokenizer.json. The encoder's vectors share a large common part, which
    says nothing of a name.
    """
    luke = to_luke(base, base.state["embeddings.word_embeddings.weight"])
    encoder = LukeEncoder(EncoderConfig.from_luke(luke.config)).eval()
    encoder.load_state_dict(luke.state)
    backend = Tokenizer.from_file(str(tokenizer))
    backend.no_padding()
    backend.enable_truncation(_LONGEST)
    ids = [encoding.ids for encoding in backend.encode_batch([_PREFIX + name for name in names])]
    order = sorted(range(len(ids)), key=lambda place: len(ids[place]))
    vectors = torch.zeros(len(ids), encoder.config.hidden_size)
    for start in range(0, len(order), _BATCH):
        part = order[start : start + _BATCH]
        lengths = torch.tensor([len(ids[place]) for place in part])
        rows = [ids[place] + [encoder.config.pad_token_id] * (int(lengths.max()) - len(ids[place])) for place in part]
        nothing = torch.zeros(len(part), 0, dtype=torch.int64)
        batch = EncoderInput(torch.tensor(rows), lengths, nothing, nothing.unsqueeze(-1).expand(-1, -1, 2))
        states, _ = encoder(batch)
        present = torch.arange(states.shape[1]) < lengths[:, None]
        vectors[part] = (states * present.unsqueeze(-1)).sum(1) / lengths[:, None]
    return torch.nn.functional.normalize(vectors - vectors.mean(0), dim=-1)
