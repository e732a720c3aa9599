"""Plain text to word-piece ids, for the three kinds of vocabulary file.

Special tokens are never matched in text: `<s>`, `<ent>`, `<mask>` or `[MASK]` in a corpus are characters like
any others. Ids come from `encode` as plain lists without special tokens.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self, TypedDict, cast

import numpy as np
import sentencepiece as spm
import tokenizers
from numpy.typing import NDArray
from tokenizers import decoders
from tokenizers.decoders import Decoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel

from luke_batch.base.arrays import IntArray
from luke_batch.base.errors import CheckpointError
from luke_batch.model.files.reading import read_object

# The word tokens with a role in LUKE's inputs.
SPECIAL_TOKENS = ("<s>", "<pad>", "</s>", "<unk>", "<mask>", "<ent>", "<ent2>")

# The model part of a tokenizer never sees a raw space: ByteLevel turns it into "Ġ", Metaspace into "▁".
UNREACHABLE = " "

_SPACE_MARKS = "Ġ▁"


@dataclass(frozen=True, slots=True, eq=False)
class PlacedPieces:
    """The pieces of one text and where they stand in it."""

    ids: IntArray
    """(t,)"""
    characters: IntArray
    """(t, 2) the characters [start, end) that each piece was made of, the white space before it included.
    Pieces of one character share it, but where that is a ligature or fraction all but the last may be empty.
    """
    visible: NDArray[np.bool_]
    """(t,) pieces that show something though their characters may not: parts of a ligature."""
    spaces: NDArray[np.bool_]
    """(t,) pieces that are the space before a word, which then begins with another piece."""

    @classmethod
    def joined(cls, parts: Sequence[Self], starts: IntArray) -> Self:
        """Those of a text out of those of its parts, which begin at the characters `starts`."""
        if not parts:
            return cls(np.empty(0, np.int32), np.empty((0, 2), np.int32), *np.empty((2, 0), bool))
        moved = [part.characters + start for part, start in zip(parts, starts, strict=False)]
        return cls(
            np.concatenate([part.ids for part in parts]),
            np.concatenate(moved),
            np.concatenate([part.visible for part in parts]),
            np.concatenate([part.spaces for part in parts]),
        )


class Pieces(Protocol):
    """A vocabulary: how text becomes ids, and which ids the special tokens have in the file."""

    @property
    def special_ids(self) -> dict[str, int]:
        """The ids of those SPECIAL_TOKENS that the file holds."""
        ...

    @property
    def size(self) -> int:
        """One more than the largest id of the vocabulary itself, markers added later not counted."""
        ...

    def encode(self, texts: Sequence[str]) -> tuple[IntArray, IntArray]:
        """(sum of t,) ids of all texts one after another, and (n,) the number of ids of each text."""
        ...

    def place(self, text: str) -> PlacedPieces:
        """The ids that `encode` gives for one text, with the characters of each."""
        ...

    def texts(self) -> list[str | None]:
        """What each id of the vocabulary spells, without space around it; None where that is nothing, a
        special token or a part of a character.
        """
        ...


def flatten(rows: Sequence[Sequence[int]]) -> tuple[IntArray, IntArray]:
    """(sum of t,) the rows one after another, (n,) their lengths."""
    lengths = np.fromiter((len(row) for row in rows), np.int32, len(rows))
    flat = np.fromiter((value for row in rows for value in row), np.int32, int(lengths.sum()))
    return flat, lengths


def shows(piece: str) -> bool:
    """Whether a piece of a vocabulary holds more than white space and invisible characters."""
    return any(character.isprintable() for character in piece.replace("▁", ""))


class BackendPieces:
    """A vocabulary of the `tokenizers` library: byte-level BPE, or Unigram out of a tokenizer.json."""

    def __init__(self, backend: tokenizers.Tokenizer, decoder: Decoder, special_ids: dict[str, int], size: int) -> None:
        """`decoder`: from a piece to its text."""
        self._backend = backend
        self._decoder = decoder
        self.special_ids = special_ids
        self.size = size
        # Bytes say nothing of what they show, but stand where they are; only Unigram normalises its text.
        self._normalises = not isinstance(backend.model, BPE)
        spaces = [backend.token_to_id(mark) for mark in _SPACE_MARKS]
        self._spaces = [id for id in spaces if id is not None]

    def encode(self, texts: Sequence[str]) -> tuple[IntArray, IntArray]:
        """See Pieces."""
        batch = self._backend.encode_batch_fast(list(texts), add_special_tokens=False)
        return flatten([encoding.ids for encoding in batch])

    def place(self, text: str) -> PlacedPieces:
        """See Pieces."""
        encoding = self._backend.encode_batch([text], add_special_tokens=False)[0]
        ids = np.array(encoding.ids, np.int32)
        characters = np.array(encoding.offsets, np.int32).reshape(-1, 2)
        shown = [self._normalises and shows(piece) for piece in encoding.tokens]
        return PlacedPieces(ids, characters, np.array(shown, bool), np.isin(ids, self._spaces))

    def texts(self) -> list[str | None]:
        """See Pieces."""
        found: list[str | None] = [None] * self.size
        for piece, number in self._backend.get_vocab(with_added_tokens=False).items():
            if not piece.startswith(UNREACHABLE):
                found[number] = plain_text(self._decoder.decode([piece]))
        return found


def byte_pairs(vocab_file: Path, merges_file: Path) -> BackendPieces:
    """The vocab.json and merges.txt of LUKE, RoBERTa and GPT-2.

    Raises CheckpointError where a file is missing or malformed.
    """
    vocab = cast("dict[str, int]", read_object(vocab_file))
    try:
        # The first line is "#version"; the pieces hold no white space, since bytes are written as letters.
        lines = merges_file.read_text(encoding="utf-8").split("\n")[1:]
        merges = [(first, second) for first, second in (line.split() for line in lines if line)]
        names = _hide(vocab, set(SPECIAL_TOKENS))
        model = BPE(names, merges, unk_token=UNREACHABLE + "<unk>", fuse_unk=False)
        size = max(vocab.values()) + 1
        backend = tokenizers.Tokenizer(model)
    except Exception as error:  # tokenizers raises Exception itself
        raise CheckpointError(
            f"{merges_file}: does not fit {vocab_file.name} ({error}); download both again"
        ) from error
    backend.pre_tokenizer = ByteLevel(add_prefix_space=False)
    special_ids = {token: vocab[token] for token in SPECIAL_TOKENS if token in vocab}
    return BackendPieces(backend, decoders.ByteLevel(), special_ids, size)


def from_json(path: Path) -> tuple[BackendPieces, str, bool]:
    """A tokenizer.json: its pieces, its model's type ("BPE" or "Unigram") and its add_prefix_space.

    The file's own matching of added tokens in text, its truncation, padding and templates are all left out.
    Raises CheckpointError where the file is malformed or holds another type of model.
    """
    content = read_object(path)
    try:
        model = cast("dict[str, object]", content["model"])
        model_type = str(model["type"])
        added = _added_tokens(content)
        hidden = {*SPECIAL_TOKENS, *added}
        if model_type == "BPE":
            vocab = cast("dict[str, int]", model["vocab"])
            model["vocab"] = _hide(vocab, hidden)
            if model.get("unk_token") in hidden:
                model["unk_token"] = f"{UNREACHABLE}{model['unk_token']}"
        elif model_type == "Unigram":
            rows = cast("list[tuple[str, float]]", model["vocab"])
            vocab = {piece: index for index, (piece, _) in enumerate(rows)}
            names = _hide(vocab, hidden)
            model["vocab"] = [(name, score) for name, (_, score) in zip(names, rows, strict=True)]
        else:
            raise ValueError(f"its model is {model_type}")
        prefix = _take_prefix_space(content.get("pre_tokenizer"))
        content.update(added_tokens=[], post_processor=None, truncation=None, padding=None)
        backend = tokenizers.Tokenizer.from_str(json.dumps(content))
        size = max(vocab.values()) + 1
    except Exception as error:  # tokenizers raises Exception itself
        raise CheckpointError(f"{path}: not a byte-level BPE or Unigram tokenizer ({error}); save it again") from error
    special_ids = {token: vocab[token] for token in SPECIAL_TOKENS if token in vocab}
    # transformers 5 writes mLUKE's markers as "▁<ent>" and "▁<ent2>".
    special_ids |= {token.removeprefix("▁"): value for token, value in added.items()}
    special_ids = {token: special_ids[token] for token in SPECIAL_TOKENS if token in special_ids}
    decoder = decoders.ByteLevel() if model_type == "BPE" else decoders.Metaspace()
    return BackendPieces(backend, decoder, special_ids, size), model_type, prefix


def plain_text(text: str) -> str | None:
    """Without space around it; None for nothing, and for bytes that are no whole character."""
    return None if "\ufffd" in text else text.strip() or None


def _hide(vocab: dict[str, int], names: set[str]) -> dict[str, int]:
    """The vocabulary with these pieces under names that no text can reach."""
    return {UNREACHABLE + piece if piece in names else piece: value for piece, value in vocab.items()}


def _added_tokens(content: dict[str, object]) -> dict[str, int]:
    rows = cast("list[dict[str, object]]", content.get("added_tokens") or [])
    return {str(row["content"]): cast("int", row["id"]) for row in rows if row.get("special")}


def _take_prefix_space(node: object) -> bool:
    """Switch ByteLevel's add_prefix_space off, and say whether it was on.

    Raises ValueError where neither ByteLevel nor Metaspace is there to keep raw spaces from the model.
    """
    steps = cast("dict[str, object]", node or {})
    for step in cast("list[dict[str, object]]", steps.get("pretokenizers") or [steps]):
        if step.get("type") == "ByteLevel":
            prefix = bool(step.get("add_prefix_space"))
            step["add_prefix_space"] = False
            return prefix
        if step.get("type") == "Metaspace":
            return False
    raise ValueError("it has neither a ByteLevel nor a Metaspace pre-tokenizer")


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
