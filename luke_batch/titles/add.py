"""`models add-entities`: a copy of a checkpoint that knows further titles."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from luke_batch.base.arrays import FloatArray, IntArray
from luke_batch.base.errors import InputError
from luke_batch.heads.titles import Titles
from luke_batch.model.files.checkpoint import resolve
from luke_batch.model.files.fit import check_fit
from luke_batch.model.inputs.tokenizer import SPECIAL_ENTRIES, Tokenizer
from luke_batch.model.task import Task
from luke_batch.model.writing.added_entities import EntitySpace, NewEntities, write_with
from luke_batch.model.writing.new_folder import check_destination
from luke_batch.titles.links import TEXT
from luke_batch.titles.mentions import of_names, read_mentions
from luke_batch.titles.placement import Placement
from luke_batch.titles.vectors import MeanVectors, MentionReader

KNOWN = 1000
"""Known titles whose names are read. On the embedded model 200 give the same figures (`recipes/added_entities.py`)."""


@dataclass(frozen=True, slots=True)
class Added:
    """What was written."""

    added: int
    """Titles."""
    mentions: int
    """Mentions, descriptions among them, that their rows come from."""
    existing: int
    """Titles that the checkpoint had already."""
    skipped: dict[str, int]
    """Reason -> what was left out."""


def add_entities(
    path: str,
    table: str,
    destination: Path,
    *,
    text_column: str = "text",
    title_language: str = "en",
    device: str = "auto",
) -> Added:
    """Write a copy of the checkpoint `path` to the folder `destination` with the titles of `table` added.

    Args:
        path: `embedded`, a folder, a hub id or a URL.
        table: Parquet file, folder or glob, local or a URL; see `read_mentions`.
        destination: appears whole or not at all.
        text_column: of linked documents.
        title_language: that of titles which name none.
        device: auto, cpu or cuda.

    Raises CheckpointError where the checkpoint has no entity head or no titles, or where the destination
    exists; InputError where the table cannot be used, or has no new title.
    """
    check_destination(destination)
    checkpoint = resolve(path)
    checkpoint.require("links")
    tokenizer = Tokenizer.load(checkpoint.folder)
    check_fit(checkpoint, tokenizer, {Task.LINKS}, titles=True)
    known = Titles.of(tokenizer, title_language)
    skipped: Counter[str] = Counter()
    new, existing = _new_titles(
        (mentions.titles for mentions in read_mentions(table, text_column, skipped)), known, skipped
    )
    if not len(new):
        raise InputError(f"{table}: no title that {path} lacks ({existing} titles are there already); nothing to add")
    space = EntitySpace(checkpoint)
    reader = MentionReader(checkpoint.pinned, device, space)
    placement = Placement.fit(*known_vectors(tokenizer.entity_vocab, reader, space, KNOWN), path)
    found = reader.means(read_mentions(table, text_column, Counter()), new)
    skipped["mention that cannot be read"] += found.unread
    skipped["title without a mention that can be read"] += int((found.counts == 0).sum())
    entities = placed(new, found, placement)
    if not entities.titles:
        raise InputError(f"{table}: none of its mentions can be read; nothing to add")
    write_with(checkpoint, tokenizer.entity_vocab, entities, destination)
    return Added(
        added=len(entities.titles),
        mentions=int(found.counts.sum()),
        existing=existing,
        skipped={reason: count for reason, count in sorted(skipped.items()) if count},
    )


def known_vectors(
    vocabulary: dict[str, int], reader: MentionReader, space: EntitySpace, count: int
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """(k, width) z of the names of at most `count` titles, spread evenly over the vocabulary, and the
    (k, width) rows and (k,) biases of these.
    """
    by_id: dict[int, str] = {}
    for title, entity in vocabulary.items():  # several languages may name one entity
        if title not in SPECIAL_ENTRIES:
            by_id.setdefault(entity, title)
    ids: IntArray = np.array(sorted(by_id), np.int32)
    ids = ids[np.unique(np.linspace(0, len(ids) - 1, min(count, len(ids))).astype(np.int64))]
    titles = [by_id[entity] for entity in ids.tolist()]
    means = reader.means([of_names(titles)], pa.array(titles, TEXT))
    read = means.counts > 0
    return means.vectors[read], space.rows(ids[read]), space.bias(ids[read])


def placed(titles: pa.LargeStringArray, found: MeanVectors, placement: Placement) -> NewEntities:
    """Those of the titles that have a vector, with their rows."""
    read = found.counts > 0
    kept: list[str] = titles.filter(pa.array(read)).to_pylist()
    return NewEntities(kept, placement.rows(found.vectors[read]), placement.biases(len(kept)))


def _new_titles(
    titles: Iterable[pa.LargeStringArray], known: Titles, skipped: Counter[str]
) -> tuple[pa.LargeStringArray, int]:
    """The titles that are not known, sorted, and how many are."""
    distinct = pa.chunked_array([pa.array([], TEXT), *(part.unique() for part in titles)]).unique().drop_null()
    listed: list[str] = sorted(distinct.to_pylist())
    special = [title for title in listed if title in SPECIAL_ENTRIES]
    skipped["name of a special entity"] += len(special)
    unknown = [title for title in listed if title not in SPECIAL_ENTRIES and known.find(title) is None]
    new = list({known.key(title): title for title in reversed(unknown)}.values())[::-1]
    skipped["another form of a new title"] += len(unknown) - len(new)
    return pa.array(new, TEXT), len(listed) - len(unknown) - len(special)
