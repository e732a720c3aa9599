"""Entity keys of mentions, and names as they are compared.

A key says its kind: `qid:Q42`, `title:Douglas Adams`, `surface:PER:douglas adams`. In the label of the last
kind `:` and `%` are percent-encoded, so that no two pairs of label and surface share a key.

Surfaces and titles may hold anything that Unicode has. Compared are their NFKC forms without control, format
and unassigned characters, blanks joined; a mention of which nothing is left has no such key.
"""

import hashlib
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from luke_batch.index.settings import KeyKind, Policy

_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Cn", "Co"})
ID_BITS = 63
"""Ids are hashes of keys that fit a signed 64-bit integer and are not negative."""


def comparable(name: str, *, fold: bool = True) -> str:
    """`name` as it is compared; empty where nothing visible is left."""
    if name.isascii():
        text = name
    else:
        text = unicodedata.normalize("NFKC", name)
        if fold:
            # Folding may undo the normal form and the other way round (UAX 15, 31): once more settles it.
            text = unicodedata.normalize("NFKC", text.casefold())
    if fold:
        text = text.casefold()
    if not text.isprintable():
        blank = (" " if c.isspace() else c for c in text)
        text = "".join(c for c in blank if unicodedata.category(c) not in _INVISIBLE)
    return " ".join(text.split())


def entity_keys(mentions: pa.StructArray, policy: Policy) -> pa.StringArray:
    """The key of each mention (struct with text, label, title, qid; each may be missing); null where it has none."""
    size = len(mentions)
    makers: dict[KeyKind, Callable[[], pa.Array]] = {
        "qid": partial(_prefixed, mentions, "qid", partial(comparable, fold=False)),
        "title": partial(_prefixed, mentions, "title", partial(comparable, fold=False)),
        "surface": partial(_surfaces, mentions, policy),
    }
    keys: pa.Array = pa.nulls(size, pa.string())
    for kind in policy.keys:
        if keys.null_count == 0 and size:
            break
        keys = pc.call_function("coalesce", [keys, makers[kind]()])
    return keys


def ids_of(keys: Iterable[str]) -> NDArray[np.int64]:
    """Hashes of keys, 0 to 2**63 - 1: ids of entities, which also say where they lie."""
    digests = b"".join(hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).digest() for key in keys)
    return (np.frombuffer(digests, np.uint64) >> np.uint64(64 - ID_BITS)).astype(np.int64)


def name_ids(names: Sequence[str]) -> NDArray[np.int64]:
    """Hashes by which `names` are looked up, whatever their case."""
    return ids_of([comparable(name) for name in names])


def member(structs: pa.StructArray, name: str, kind: pa.DataType | None = None) -> pa.Array:
    """A member of structs as strings or `kind`; null where a struct is, and everywhere without such a member."""
    index = structs.type.get_field_index(name)
    if index < 0:
        return pa.nulls(len(structs), kind or pa.string())
    # flatten, unlike field, knows of null structs
    return structs.flatten()[index].cast(kind or pa.string())


def _prefixed(mentions: pa.StructArray, name: str, clean: Callable[[str], str]) -> pa.Array:
    return _mapped(member(mentions, name), lambda value: f"{name}:{text}" if (text := clean(value)) else None)


def _surfaces(mentions: pa.StructArray, policy: Policy) -> pa.Array:
    fold = policy.case == "fold"
    labels = _mapped(
        pc.fill_null(member(mentions, "label"), ""),
        lambda label: "surface:" + label.replace("%", "%25").replace(":", "%3A") + ":",
    )
    names = _mapped(member(mentions, "text"), lambda text: comparable(text, fold=fold) or None)
    return pc.call_function("binary_join_element_wise", [labels, names, ""])  # null where one is null


def _mapped(values: pa.Array, function: Callable[[str], str | None]) -> pa.Array:
    """`function` of each value, called once for each distinct one; null for null."""
    if values.null_count == len(values):
        return values
    encoded = values.dictionary_encode()
    results = pa.array([function(value) for value in encoded.dictionary.to_pylist()], pa.string())
    return results.take(encoded.indices)
