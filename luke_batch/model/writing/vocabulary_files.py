"""Writes the entity vocabulary of a model folder: where its tokenizer keeps it, and config.json's size."""

import json
from collections.abc import Mapping
from pathlib import Path

from luke_batch.model.inputs.pieces import read_object

VOCABULARY = "entity_vocab.json"
INLINE = "tokenizer_config.json"
"""Where transformers 5 keeps it, under the key `entity_vocab`."""


def write_vocabulary(folder: Path, vocabulary: Mapping[str, int], size: int) -> None:
    """Titles and their ids into the folder's files, and `size`, the rows of the entity table."""
    inline = read_object(folder / INLINE) if (folder / INLINE).exists() else {}
    if "entity_vocab" in inline:
        _write(folder / INLINE, {**inline, "entity_vocab": vocabulary})
    if "entity_vocab" not in inline or (folder / VOCABULARY).exists():
        _write(folder / VOCABULARY, vocabulary)
    _write(folder / "config.json", {**read_object(folder / "config.json"), "entity_vocab_size": size})


def _write(file: Path, content: object) -> None:
    file.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
