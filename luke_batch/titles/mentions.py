"""Texts with the mentions of titles in them: from linked documents, from descriptions, from names alone."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from luke_batch.base.arrays import IntArray
from luke_batch.base.errors import InputError
from luke_batch.evaluation.tables import as_type, batches, struct_member
from luke_batch.text.words import words
from luke_batch.titles.links import TEXT, Linked, linked, named, require
from luke_batch.titles.redirects import own_names, written

OUTSIDE = "offset outside of the text"
BLANK = "blank title"


@dataclass(frozen=True, slots=True)
class TitleMentions:
    """n mentions in texts, sorted by their texts."""

    texts: pa.LargeStringArray
    parents: NDArray[np.int64]
    """(n,) number of the text."""
    spans: NDArray[np.int64]
    """(n, 2) [start, end) in code points."""
    titles: pa.LargeStringArray
    """(n,) null where a mention is there to be read along with the others alone."""


def read_mentions(location: str, text_column: str, skipped: Counter[str]) -> Iterator[TitleMentions]:
    """The mentions of a table: a Parquet file, folder or glob, local or a URL.

    With a column `description`, one of `title` in it. Otherwise those of `links` (or `mentions`) in the text,
    where there is a column `title` those of this title alone. What cannot be used is counted in `skipped` by
    reason. Raises InputError for what cannot be read.
    """
    wanted = {text_column, "links", "mentions", "title", "description"}
    for path, batch in batches(location, wanted, named):
        if "description" in batch.schema.names:
            with named(path):
                require(path, batch, "title")
                title, description = (as_type(batch[name], TEXT) for name in ("title", "description"))
                title.validate(full=True)
                description.validate(full=True)
            yield of_descriptions(title, description, skipped)
        elif "links" in batch.schema.names or "mentions" in batch.schema.names:
            found = linked(path, batch, text_column)
            only = as_type(batch["title"], TEXT) if "title" in batch.schema.names else None
            yield _of_links(found, only, skipped)
        else:
            raise InputError(f"{path}: no column description or links; see docs/links.md for what is read")


def of_descriptions(
    titles: pa.LargeStringArray, descriptions: pa.LargeStringArray, skipped: Counter[str]
) -> TitleMentions:
    """Each title's name where it first occurs in the description, as whole words; where it does not, before
    it. An empty description leaves the name alone.
    """
    forms = written(pa.chunked_array([titles])).combine_chunks()
    usable = pc.call_function("not_equal", [forms, ""]).fill_null(False)
    skipped[BLANK] += len(forms) - int(usable.to_numpy(zero_copy_only=False).sum())
    forms = forms.filter(usable)
    names: list[str] = own_names(pa.chunked_array([forms])).to_pylist()
    texts: list[str] = []
    spans: list[tuple[int, int]] = []
    for name, description in zip(names, descriptions.filter(usable).to_pylist(), strict=True):
        text, start = _placed(name, description or "")
        texts.append(text)
        spans.append((start, start + len(name)))
    return TitleMentions(pa.array(texts, TEXT), np.arange(len(texts)), np.array(spans, np.int64).reshape(-1, 2), forms)


def of_names(titles: Sequence[str]) -> TitleMentions:
    """The name of each title, alone."""
    forms = pa.array(titles, TEXT)
    return of_descriptions(forms, pa.nulls(len(forms), TEXT), Counter())


def _placed(name: str, description: str) -> tuple[str, int]:
    """A text that holds the name, and where."""
    start = description.find(name)
    if start >= 0:
        bounds: IntArray = words(description, None)
        starts, ends = set(bounds[:, 0].tolist()), set(bounds[:, 1].tolist())
        while start >= 0 and not (start in starts and start + len(name) in ends):
            start = description.find(name, start + 1)
    if start >= 0:
        return description, start
    return (f"{name}: {description}" if description.strip() else name), 0


def _of_links(found: Linked, only: pa.LargeStringArray | None, skipped: Counter[str]) -> TitleMentions:
    named_titles = struct_member(found.mentions.values, "title")
    has_title, inside = ~found.mentions.lacks("title"), found.surfaces.inside
    skipped[OUTSIDE] += int((has_title & ~inside).sum())
    titles = written(pa.chunked_array([named_titles])).combine_chunks()
    blank = pc.call_function("equal", [titles, ""]).fill_null(False).to_numpy(zero_copy_only=False)
    skipped[BLANK] += int((blank & inside).sum())
    counts = has_title & ~blank
    parents = found.mentions.parents
    if only is not None:
        wanted = written(pa.chunked_array([only])).combine_chunks().take(pa.array(parents))
        same = pc.call_function("equal", [titles, wanted]).fill_null(False)
        counts &= same.to_numpy(zero_copy_only=False)
    titles = pc.call_function("if_else", [pa.array(counts), titles, pa.scalar(None, TEXT)])
    spans = found.mentions.integers("start", "end")
    return TitleMentions(found.texts, parents[inside], spans[inside], titles.filter(pa.array(inside)))
