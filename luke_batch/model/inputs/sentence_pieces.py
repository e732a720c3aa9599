"""mLUKE's vocabulary, `sentencepiece.bpe.model`.

It goes through sentencepiece itself and not through `tokenizers`: the latter's copy of its normaliser drops
accents of some decomposed letters, it takes control pieces such as `<s>` for text, and it is three to seven
times slower.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict, cast

import numpy as np
import sentencepiece as spm

from luke_batch.base.arrays import IntArray
from luke_batch.base.errors import CheckpointError
from luke_batch.model.inputs.pieces import PlacedPieces, flatten, plain_text, shows


class _OffsetMapping(TypedDict):
    ids: list[int]
    offsets: list[tuple[int, int]]


class SentencePieces:
    """A sentencepiece model under fairseq's ids: `<s>` `<pad>` `</s>` `<unk>` are 0 to 3, every other piece
    is moved up by one, and `<mask>` follows the last piece.

    Raises CheckpointError where the file is missing or malformed.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._model = spm.SentencePieceProcessor(model_proto=path.read_bytes())
            count = self._model.piece_size()
        except (OSError, RuntimeError) as error:
            raise CheckpointError(f"{path}: not a sentencepiece model ({error}); download it again") from error
        if count < 4:
            raise CheckpointError(f"{path}: it holds {count} pieces; download it again")
        self.special_ids = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, "<mask>": count + 1}
        self.size = count + 2
        names = self._model.id_to_piece(list(range(count)))
        self._visible = np.array([shows(name) for name in names], bool)
        self._visible[0] = False  # <unk> stands for any character
        self._space = self._model.piece_to_id("▁")

    def encode(self, texts: Sequence[str]) -> tuple[IntArray, IntArray]:
        """See Pieces."""
        # One thread: parallelism is the business of whoever runs this, and a thread pool per call costs more
        # than a short batch.
        rows = cast("list[list[int]]", self._model.encode(list(texts), num_threads=1))
        ids, lengths = flatten(rows)
        return _fairseq(ids), lengths

    def place(self, text: str) -> PlacedPieces:
        """See Pieces."""
        mapping = cast("_OffsetMapping", self._model.encode(text, return_type="offset_mapping"))
        ids = np.array(mapping["ids"], np.int32)
        characters = np.array(mapping["offsets"], np.int32).reshape(-1, 2)
        return PlacedPieces(_fairseq(ids), characters, self._visible[ids], (ids == self._space) & (ids > 0))

    def texts(self) -> list[str | None]:
        """See Pieces."""
        model = self._model
        numbers = range(3, model.piece_size())
        spelled = [
            None if model.is_byte(number) or model.is_control(number) or model.is_unused(number)
            else plain_text(str(model.id_to_piece(number)).replace("▁", " "))
            for number in numbers
        ]  # fmt: skip
        return [None, None, None, None, *spelled, None]


def _fairseq(ids: IntArray) -> IntArray:
    return np.where(ids == 0, np.int32(3), ids + np.int32(1))
