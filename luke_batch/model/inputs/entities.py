"""The entity vocabulary of a checkpoint: Wikipedia titles and four special entries, in any order of ids.

An English file has 500 thousand titles and a multilingual one millions, while most heads need the special
entries alone: these are found by a scan of the mapped file, and the titles are parsed on first use.
"""

import mmap
import re
from pathlib import Path
from typing import cast

from luke_batch.base.errors import CheckpointError
from luke_batch.model.inputs.pieces import read_object

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
