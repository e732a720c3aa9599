"""The tokenizers of LUKE (byte-level BPE) and mLUKE (SentencePiece), out of a local folder.

The ids are those of transformers 4.57.6, token for token, save that text which spells a special token is
plain text. transformers itself is not used: release 5 shifts mLUKE's ids and crashes on the text "[MASK]".
"""

import mmap
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Literal, cast

import numpy as np

from luke_batch.base.arrays import IntArray
from luke_batch.base.errors import CheckpointError
from luke_batch.model.files.reading import State, read_object, state_of, whole_number
from luke_batch.model.inputs.pieces import Pieces, PlacedPieces, SentencePieces, byte_pairs, from_json

Kind = Literal["luke", "mluke"]


# All values are numbers. A quote inside a title is written \" in JSON, so the byte before is looked at too;
# a look-behind would say it in the pattern, and make the search ten times slower.
SPECIAL_ENTRY = re.compile(rb'"(\[(?:MASK2?|PAD|UNK)\])"\s*:\s*(\d+)')
SPECIAL_ENTRIES = frozenset({"[MASK]", "[MASK2]", "[PAD]", "[UNK]"})


class EntityVocab:
    """Entity titles and their ids, from entity_vocab.json or transformers 5's tokenizer_config.json.

    Raises CheckpointError where a file is malformed, or lacks [MASK], [PAD] or [UNK].
    """

    def __init__(self, path: Path, inline: object = None) -> None:
        """`path` is named in messages, and read unless `inline` holds the vocabulary already."""
        self._path = path
        self._titles = None if inline is None else self._checked(inline)
        ids = self._scan() if self._titles is None else self._titles
        for token in ("[MASK]", "[PAD]", "[UNK]"):
            if token not in ids:
                raise CheckpointError(f"{path}: the entity vocabulary has no {token}; download it again")
        self.mask_id = ids["[MASK]"]
        self.mask2_id = ids.get("[MASK2]")
        self.pad_id = ids["[PAD]"]
        self.unk_id = ids["[UNK]"]

    @property
    def titles(self) -> dict[str, int]:
        """Title -> id, special entries included; multilingual titles read "en:Beyoncé". Parsed once."""
        if self._titles is None:
            self._titles = self._checked(read_object(self._path))
        return self._titles

    def _scan(self) -> dict[str, int]:
        try:
            with (
                self._path.open("rb") as file,
                mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
            ):
                return {
                    match[1].decode(): int(match[2])
                    for match in SPECIAL_ENTRY.finditer(content)
                    if content[match.start() - 1] != ord("\\")
                }
        except FileNotFoundError as error:
            raise CheckpointError(f"{self._path}: no such file; copy the whole folder of the checkpoint") from error
        except (OSError, ValueError) as error:  # mmap refuses an empty file with ValueError
            raise CheckpointError(f"{self._path}: not readable ({error}); download it again") from error

    def _checked(self, content: object) -> dict[str, int]:
        entries = cast("dict[str, object]", content if isinstance(content, dict) else {})
        if not entries or any(type(value) is not int for value in entries.values()):
            raise CheckpointError(f"{self._path}: the entity vocabulary is not {{title: id}}; download it again")
        return cast("dict[str, int]", entries)


class Tokenizer:
    """Word pieces, special ids and entity vocabulary of one checkpoint. Build it with `Tokenizer.load`."""

    def __init__(
        self,
        kind: Kind,
        pieces: Pieces,
        special_ids: dict[str, int],
        entities: EntityVocab,
        *,
        max_mention_length: int,
        add_prefix_space: bool,
        first_prefix_space: bool = False,
    ) -> None:
        self.kind: Kind = kind
        self.bos_id = special_ids["<s>"]
        self.pad_id = special_ids["<pad>"]
        self.eos_id = special_ids["</s>"]
        self.mask_id = special_ids["<mask>"]
        self.entity_marker_id = special_ids["<ent>"]
        self.entity_marker2_id = special_ids["<ent2>"]
        # The rows that the word embedding must have: for text alone, and for the markers as well.
        self.text_size = max(pieces.size, 1 + max(self.bos_id, self.pad_id, self.eos_id))
        self.vocab_size = max(pieces.size, 1 + max(special_ids.values()))
        self.max_mention_length = max_mention_length
        self.add_prefix_space = add_prefix_space
        # Input building puts a space before a text, not before each of its pieces (`prefix_space: first`).
        self.first_prefix_space = first_prefix_space
        self.entity_mask_id = entities.mask_id
        self.entity_mask2_id = entities.mask2_id
        self.entity_pad_id = entities.pad_id
        self.entity_unk_id = entities.unk_id
        self._pieces = pieces
        self._entities = entities

    @classmethod
    def load(cls, folder: Path, add_prefix_space: bool | None = None) -> "Tokenizer":
        """Read a folder: transformers 4's files (sentencepiece.bpe.model, or vocab.json and merges.txt) where
        they are there, otherwise a tokenizer.json. Read once a process while its files stay as they are.

        add_prefix_space: put a space before every piece of text (byte-level BPE only); None takes the
        folder's own setting. Raises CheckpointError where a file is missing or malformed.
        """
        return _load(folder, add_prefix_space, state_of(folder))

    @property
    def entity_vocab(self) -> dict[str, int]:
        """Title -> entity id, special entries included; parsed on first use."""
        return self._entities.titles

    @property
    def has_titles(self) -> bool:
        """Whether entities have names at all: lite checkpoints have the special entries alone."""
        return any(title not in SPECIAL_ENTRIES for title in self.entity_vocab)

    def word_texts(self) -> list[str | None]:
        """What each word id spells, without space around it; None for special tokens and for what is no text
        by itself.
        """
        return self._pieces.texts()

    def encode_flat(self, texts: Sequence[str]) -> tuple[IntArray, IntArray]:
        """(sum of t,) the ids of all texts one after another, (n,) how many each has; no special tokens."""
        if self.add_prefix_space:
            texts = [" " + text if text and not text[0].isspace() else text for text in texts]
        return self._pieces.encode(texts)

    def place(self, text: str, *, first: bool = True) -> PlacedPieces:
        """The pieces of a text as input building has them, and where they stand in it; `first`: it is the
        first of those that a text is cut into.
        """
        wanted = self.add_prefix_space or (self.first_prefix_space and first)
        led = wanted and bool(text) and not text[0].isspace()
        placed = self._pieces.place(" " + text if led else text)
        return replace(placed, characters=np.maximum(placed.characters - led, 0).astype(np.int32))

    def encode(self, texts: Sequence[str]) -> list[IntArray]:
        """(t,) ids of each text, tokenised alone and without special tokens."""
        ids, lengths = self.encode_flat(texts)
        ends = np.cumsum(lengths)
        return [ids[end - length : end] for end, length in zip(ends, lengths, strict=True)]


@lru_cache(maxsize=4)
def _load(folder: Path, add_prefix_space: bool | None, state: State) -> Tokenizer:  # noqa: ARG001 - it keys the cache
    config_file = folder / "tokenizer_config.json"
    config = read_object(config_file) if config_file.exists() else {}
    kind: Kind = "luke"
    prefix = False
    if (folder / "sentencepiece.bpe.model").exists():
        kind, pieces = "mluke", SentencePieces(folder / "sentencepiece.bpe.model")
    elif (folder / "vocab.json").exists():
        pieces = byte_pairs(folder / "vocab.json", folder / "merges.txt")
    elif (folder / "tokenizer.json").exists():
        pieces, model_type, prefix = from_json(folder / "tokenizer.json")
        kind = "luke" if model_type == "BPE" else "mluke"
    else:
        raise CheckpointError(
            f"{folder}: no tokenizer (neither vocab.json, sentencepiece.bpe.model nor tokenizer.json); "
            "copy the whole folder of the checkpoint"
        )
    special_ids = _special_ids(folder, pieces, config)
    if add_prefix_space is None:
        add_prefix_space = bool(config.get("add_prefix_space", prefix))
    return Tokenizer(
        kind,
        pieces,
        special_ids,
        _entity_vocab(folder, config),
        max_mention_length=whole_number({"max_mention_length": 30} | config, "max_mention_length", str(config_file), 1),
        add_prefix_space=add_prefix_space and kind == "luke",
        first_prefix_space=config.get("prefix_space") == "first",
    )


def _special_ids(folder: Path, pieces: Pieces, config: dict[str, object]) -> dict[str, int]:
    """The id of every special token; CheckpointError where one is missing or 5.x has shifted the ids."""
    ids = dict(pieces.special_ids)
    added = folder / "added_tokens.json"
    if added.exists():
        content = read_object(added)
        if any(type(value) is not int for value in content.values()):
            raise CheckpointError(f"{added}: not {{token: id}}; download it again")
        ids |= cast("dict[str, int]", content)
    # transformers 4 appends the markers to a vocabulary without them.
    for marker in ("<ent>", "<ent2>"):
        ids.setdefault(marker, max(pieces.size, 1 + max(ids.values(), default=0)))
    missing = [token for token in ("<s>", "<pad>", "</s>", "<mask>") if token not in ids]
    if missing:
        raise CheckpointError(f"{folder}: the vocabulary lacks {' '.join(missing)}; download it again")
    if config.get("tokenizer_class") == "MLukeTokenizer" and ids["<s>"] != 0:
        raise CheckpointError(
            f"{folder / 'tokenizer.json'}: transformers 5 wrote it with the ids of mLUKE's pieces shifted by "
            "one; put the original checkpoint's sentencepiece.bpe.model into the folder"
        )
    return ids


def _entity_vocab(folder: Path, config: dict[str, object]) -> EntityVocab:
    path = folder / "entity_vocab.json"
    if not path.exists() and "entity_vocab" in config:  # where transformers 5 keeps it
        return EntityVocab(folder / "tokenizer_config.json", config["entity_vocab"])
    return EntityVocab(path)
