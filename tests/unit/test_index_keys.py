"""Entity keys, names as they are compared, and counted strings."""

import unicodedata
from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from luke_batch.index.groups import Counts, segment_sums
from luke_batch.index.keys import comparable, entity_keys, ids_of
from luke_batch.index.settings import Policy

_TYPE = pa.struct([(name, pa.string()) for name in ("text", "label", "title", "qid")])


def keys(*mentions: Mapping[str, str | None], **policy: object) -> list[str | None]:
    """Keys of mentions that have these members."""
    full = [{name: mention.get(name) for name in ("text", "label", "title", "qid")} for mention in mentions]
    return entity_keys(pa.array(full, _TYPE), Policy.model_validate(policy)).to_pylist()


@pytest.mark.parametrize(
    ("name", "same"),
    [
        ("Marie  Curie", "marie curie"),
        ("ＮＡＴＯ", "nato"),
        ("Straße", "STRASSE"),
        ("e\u0301cole", "ÉCOLE"),
        ("a\u200bb\ufeff", "ab"),
        ("a\nb\tc\u00a0d", "A B C D"),
        ("\u202eabc\u202c", "abc"),
        ("İstanbul", "i̇stanbul"),
        ("ﷺ", "صلى الله عليه وسلم"),
    ],
)
def test_names_that_are_compared_as_one(name: str, same: str) -> None:
    """Width, case, composition, blanks and invisible characters make no difference."""
    assert comparable(name) == comparable(same) != ""


@given(st.text())
def test_a_comparable_name_stays_as_it_is(name: str) -> None:
    """Once is enough, and nothing invisible is left."""
    once = comparable(name)
    assert comparable(once) == once
    assert once == once.strip()
    assert all(unicodedata.category(character)[0] != "C" for character in once)


@pytest.mark.parametrize("nothing", ["", " ", "\u200b", "\x00\x1b", "\u202e\u202c", "\ue000"])
def test_a_mention_of_nothing_visible_has_no_key(nothing: str) -> None:
    """Nor has one without any member."""
    assert keys({"text": nothing, "label": "PER"}, {"title": nothing, "qid": nothing}, {}) == [None] * 3


def test_the_first_kind_that_a_mention_has_is_its_key() -> None:
    """In the order of the policy."""
    full = {"text": "Ada", "label": "PER", "title": "Ada Lovelace", "qid": "Q7259"}
    assert keys(full) == ["qid:Q7259"]
    assert keys(full, keys=["title", "surface"]) == ["title:Ada Lovelace"]
    assert keys(full, keys="surface", case="keep") == ["surface:PER:Ada"]
    assert keys({**full, "qid": None, "title": " "}) == ["surface:PER:ada"]


@given(st.lists(st.tuples(st.text(st.characters(codec="utf-8")), st.text(st.characters(codec="utf-8"))), max_size=8))
def test_pairs_of_label_and_surface_never_share_a_key(pairs: list[tuple[str, str]]) -> None:
    """Whatever stands in them."""
    found = keys(*({"label": label, "text": text} for label, text in pairs))
    wanted = {(label, comparable(text)) for label, text in pairs if comparable(text)}
    assert len({key for key in found if key is not None}) == len(wanted)


def test_ids_are_those_of_the_contract() -> None:
    """63 bits of a BLAKE2b digest, so that other programs can compute them."""
    from hashlib import blake2b

    expected = int.from_bytes(blake2b(b"qid:Q42", digest_size=8).digest(), "little") >> 1
    assert ids_of(["qid:Q42"]).tolist() == [expected]
    assert len(ids_of([])) == 0


_entries = st.lists(st.tuples(st.integers(0, 3), st.one_of(st.none(), st.sampled_from("abç"))), max_size=20)


@given(_entries, _entries)
def test_counts_add_up_in_any_parts(first: list[tuple[int, str | None]], second: list[tuple[int, str | None]]) -> None:
    """Counting lists of counts is counting everything at once; lists are by count, then by string."""
    parts = [count(part).lists(4, "text") for part in (first, second)]
    merged = Counts.of_lists(np.tile(np.arange(4), 2), pa.concat_arrays(parts)).lists(4, "text")
    assert merged.equals(count(first + second).lists(4, "text"))
    for group, entries in enumerate(merged.to_pylist()):
        strings = [string for owner, string in first + second if owner == group and string is not None]
        expected = sorted({(-strings.count(string), string) for string in strings})
        assert [(-entry["count"], entry["text"]) for entry in entries] == expected
    best = count(first).first(4).to_pylist()
    assert best == [entries[0]["text"] if entries else None for entries in parts[0].to_pylist()]


def count(entries: list[tuple[int, str | None]]) -> Counts:
    """Counted pairs of group and string."""
    groups = np.array([group for group, _ in entries], np.int64)
    return Counts.of(groups, pa.array([string for _, string in entries], pa.string()))


def test_a_sum_depends_on_its_own_rows_alone() -> None:
    """Bit for bit, wherever it stands, for few rows and for many."""
    rng = np.random.default_rng(0)
    for kind in (np.float32, np.float64):
        vectors = rng.standard_normal((5000, 3)).astype(kind)
        lengths = np.append(rng.integers(1, 9, 600), [64, 65, 400])
        starts = np.cumsum(lengths) - lengths
        order = rng.permutation(5000)[: lengths.sum()]
        sums = segment_sums(vectors, order, starts)
        for place in (0, 255, 256, 599, 600, 601, 602):
            rows = order[starts[place] : starts[place] + lengths[place]]
            alone = segment_sums(vectors[rows], np.arange(len(rows)), np.array([0]))
            assert (alone == sums[place]).all()
            assert sums[place] == pytest.approx(vectors[rows].sum(axis=0, dtype=np.float64), abs=1e-9)
