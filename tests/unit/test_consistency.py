"""Relations that make sense: the best set that the rules of a checkpoint allow, and what breaks them."""

import json
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from luke_batch.annotate.annotator import Annotator, check_models
from luke_batch.base.errors import CheckpointError, ConfigError
from luke_batch.config import JobConfig
from luke_batch.document.state import Document, Mentions
from luke_batch.heads.consistency import Consistency, best_set
from luke_batch.heads.head import Labels
from luke_batch.model.files.checkpoint import resolve
from luke_batch.model.files.constraints import Constraints
from luke_batch.training.corpus import GoldEntity, GoldRelation, Row
from recipes.constraints import learned
from tests.checkpoints import LABELS, make_joint, make_multi_head

NAMES = ("Ann", "Bonn", "Cy", "Bonn", "Dee")
TEXT = " ".join(NAMES) + "."
SPANS = np.array([(match, match + len(name)) for name, match in zip(NAMES, (0, 4, 9, 12, 17), strict=True)], np.int32)
KINDS = ("PER", "LOC", "PER", "LOC", None)
RELATIONS = ("born in", "father", "child", "spouse", "inside", "part", "whole")
RULES: dict[str, Any] = {
    "born in": {"heads": ["PER"], "tails": ["LOC"], "one_tail": "nested"},
    "father": {"heads": ["PER"], "tails": ["PER"], "one_tail": True, "symmetric": False, "inverse": "child"},
    "child": {"symmetric": False, "heads": ["PER"], "tails": ["PER"]},
    "spouse": {"excludes": ["father", "child"], "symmetric": True, "one_tail": True, "one_head": True},
    "inside": {"symmetric": False},
    "part": {"inverse": "whole"},
    "whole": {"inverse": "part", "one_head": True},
}
CONSTRAINTS = {"format": 1, "types": ["PER", "LOC"], "inside": ["inside"], "relations": RULES}
PAIRS = np.array([(head, tail) for head in range(5) for tail in range(5) if head != tail], np.int32)


def document() -> Document:
    """One sentence with five mentions, two of them of one surface."""
    made = Document(TEXT, np.array([[0, len(TEXT)]], np.int32))
    made.mentions = Mentions.unlabelled(SPANS)
    made.mentions.labels = list(KINDS)
    return made


def decode(scores: dict[tuple[int, int, str], float], *, multi: bool = True) -> tuple[list[tuple[int, int, str]], int]:
    """The relations of the document whose pairs have these probabilities, near none for others."""
    names = RELATIONS if multi else (*RELATIONS, "none")
    logits = np.full((len(PAIRS), len(names)), -8.0, np.float32)
    if not multi:
        logits[:, -1] = 0
    places = {(head, tail): number for number, (head, tail) in enumerate(PAIRS.tolist())}
    for (head, tail, label), score in scores.items():
        logits[places[head, tail], names.index(label)] = np.log(score / (1 - score))
    labels = Labels(names, -1 if multi else len(names) - 1, multi)
    found, lost = Consistency(labels, Constraints.model_validate(CONSTRAINTS)).decode(document(), PAIRS, list(logits))
    return [(*PAIRS[pair].tolist(), label) for pair, label, _ in found], lost


@given(
    st.lists(st.floats(0.05, 1), min_size=1, max_size=9),
    st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), max_size=20),
)
def test_the_best_set_is_that_of_trying_all(gains: list[float], rivals: list[tuple[int, int]]) -> None:
    """Greedy choice, the code before the search, loses on the first chain of three."""
    conflicts: list[set[int]] = [set() for _ in gains]
    for one, two in rivals:
        if one != two and max(one, two) < len(gains):
            conflicts[one].add(two)
            conflicts[two].add(one)
    found = best_set(gains, conflicts)
    assert all(two not in conflicts[one] for one, two in combinations(found, 2))
    numbers = range(len(gains))
    every = (group for size in range(len(gains) + 1) for group in combinations(numbers, size))
    allowed = (group for group in every if all(two not in conflicts[one] for one, two in combinations(group, 2)))
    assert sum(gains[number] for number in found) == pytest.approx(
        max(sum(gains[n] for n in group) for group in allowed)
    )


def test_a_search_that_cannot_end_has_at_least_the_most_probable() -> None:
    """A hundred rivals in a ring: steps are counted, and the set is still one without conflicts."""
    conflicts = [{(n + step) % 100 for step in (-7, -3, -1, 1, 3, 7)} for n in range(100)]
    gains = [1 + (n * 37 % 100) / 1000 for n in range(100)]
    found = best_set(gains, conflicts)
    assert all(two not in conflicts[one] for one, two in combinations(found, 2))
    assert found == best_set(gains, conflicts)
    assert len(found) > 20


def breaks(found: set[tuple[int, int, str]], nested: bool) -> str | None:
    """Which rule a set breaks, said once more and naively."""
    for head, tail, label in found:
        rule, kinds = RULES[label], (KINDS[head], KINDS[tail])
        if NAMES[head] == NAMES[tail]:
            return "same surface"
        for side, kind in zip(("heads", "tails"), kinds, strict=True):
            if kind is not None and side in rule and kind not in rule[side]:
                return f"{label} {side}"
        for other in found:
            broken = breaks_beside((head, tail, label), other, nested)
            if broken:
                return broken
    return None


def breaks_beside(item: tuple[int, int, str], rival: tuple[int, int, str], nested: bool) -> str | None:
    """Which rule one relation breaks beside another."""
    (head, tail, label), (other_head, other_tail, other), rule = item, rival, RULES[item[2]]
    same_head, same_tail = NAMES[head] == NAMES[other_head], NAMES[tail] == NAMES[other_tail]
    crossed = NAMES[head] == NAMES[other_tail] and NAMES[tail] == NAMES[other_head]
    one_tail = rule.get("one_tail") is True or (rule.get("one_tail") == "nested" and not nested)
    broken = {
        f"two tails of {label}": label == other and one_tail and same_head and not same_tail,
        f"two heads of {label}": label == other and rule.get("one_head") and same_tail and not same_head,
        f"{label} both ways": label == other and rule.get("symmetric") is False and crossed,
        f"{label} and {other}": rule.get("inverse") == other and same_head and same_tail,
        f"{label} beside {other}": other in rule.get("excludes", ()) and (crossed or (same_head and same_tail)),
    }
    return next((name for name, is_so in broken.items() if is_so), None)


SCORED = st.dictionaries(
    st.tuples(st.sampled_from(PAIRS.tolist()).map(tuple), st.sampled_from(RELATIONS)).map(lambda x: (*x[0], x[1])),
    st.floats(0.51, 0.99),
    max_size=6,
)


@given(SCORED)
def test_no_rule_is_broken_and_no_better_set_is_left(scores: dict[tuple[int, int, str], float]) -> None:
    """Decoding each pair by itself, the code before, writes all of `scores`."""
    scores = {key: score for key, score in scores.items() if key[2] not in ("inside", "spouse", "part", "whole")}
    found, lost = decode(scores)
    assert breaks(set(found), nested=False) is None
    assert lost == len(scores) - len(found)
    groups = (group for size in range(len(scores) + 1) for group in combinations(scores, size))
    best = max(sum(scores[key] for key in group) for group in groups if breaks(set(group), nested=False) is None)
    assert sum(scores[key] for key in found) == pytest.approx(best, abs=1e-5)


@given(SCORED)
def test_every_rule_holds_of_what_is_written(scores: dict[tuple[int, int, str], float]) -> None:
    """With symmetric and inverse relations, which bring their other half."""
    found, _ = decode(scores)
    nested = any(label == "inside" for _, _, label in scores)
    assert breaks(set(found), nested) is None
    for head, tail, label in found:
        if label == "spouse":
            assert (tail, head, label) in found


def test_one_birthplace_or_two_that_lie_in_one_another() -> None:
    """By itself each pair is written: Haruki Murakami was born in Kyoto and in Tokyo."""
    born = {(0, 1, "born in"): 0.8, (0, 4, "born in"): 0.7}
    assert decode(born) == ([(0, 1, "born in")], 1)
    assert decode({**born, (4, 1, "inside"): 0.9})[0] == [(0, 1, "born in"), (0, 4, "born in"), (4, 1, "inside")]


def test_nobody_is_the_child_of_a_sibling() -> None:
    """By themselves all three are written."""
    kin = {(0, 2, "spouse"): 0.7, (2, 0, "spouse"): 0.7, (2, 0, "child"): 0.9}
    assert decode(kin) == ([(0, 2, "spouse"), (2, 0, "spouse")], 1)


def test_a_statement_is_read_both_ways() -> None:
    """One direction at 0.9 and the other at 0.4 are one marriage; at 0.6 and 0.1 they are none. Each by itself: one
    half of both.
    """
    assert decode({(0, 2, "spouse"): 0.9, (2, 0, "spouse"): 0.4})[0] == [(0, 2, "spouse"), (2, 0, "spouse")]
    assert decode({(0, 2, "spouse"): 0.6, (2, 0, "spouse"): 0.1}) == ([], 1)
    assert decode({(0, 4, "part"): 0.9, (4, 0, "whole"): 0.4})[0] == [(0, 4, "part"), (4, 0, "whole")]


def test_a_pair_has_one_label_where_labels_exclude_one_another() -> None:
    """The best one, and the next where that breaks a rule: a place is nobody's father."""
    both = {(0, 4, "father"): 0.9, (0, 4, "inside"): 0.8}
    assert decode(both, multi=False) == ([(0, 4, "father")], 0)
    assert decode({(0, 1, "father"): 0.9, (0, 1, "inside"): 0.8}, multi=False) == ([(0, 1, "inside")], 1)


SENTENCE = "Ada Lovelace met Charles Babbage in London."
MENTIONS = [(SENTENCE.index(name), name, kind) for name, kind in (("Ada Lovelace", "PER"), ("Charles Babbage", "PER"))]
MENTIONS.append((SENTENCE.index("London"), "London", "LOC"))
GIVEN = pa.list_(pa.struct([("start", pa.int32()), ("end", pa.int32()), ("label", pa.string())]))


def annotated(folder: Path, **settings: Any) -> dict[str, Any]:
    """The row of SENTENCE."""
    given_mentions = [[{"start": at, "end": at + len(name), "label": kind} for at, name, kind in MENTIONS]]
    table = pa.table({"id": ["a"], "text": [SENTENCE], "given": pa.array(given_mentions, GIVEN)})
    return Annotator.from_config(job(folder, **settings)).annotate(table).to_pylist()[0]


def job(folder: Path, **settings: Any) -> JobConfig:
    """A job of relations over given mentions."""
    return JobConfig.model_validate(
        {
            "input": {"mentions_column": "given"},
            "models": {"main": {"path": str(folder)}},
            "heads": [{"head": "relations", "spans": "given", "threshold": 0.01, **settings}],
        }
    )


def dropped(row: dict[str, Any]) -> dict[str, int]:
    """What was left out, by reason."""
    return {item["reason"]: item["count"] for item in row["coverage"]["dropped"]}


@pytest.fixture(scope="module", params=["marked", "joint"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint without rules whose relations are marked, one a pair, or joint, several a pair."""
    path = tmp_path_factory.mktemp("sense") / "model"
    return make_joint(path) if request.param == "joint" else make_multi_head(path)


@pytest.fixture
def ruled(folder: Path) -> Path:
    """The same with rules: heads are persons."""
    rules = {"format": 1, "types": ["PER", "LOC"], "every": {"heads": ["PER"]}}
    (folder / "relations.json").write_text(json.dumps(rules))
    return folder


def test_nothing_changes_without_rules_or_with_consistent_false(folder: Path, ruled: Path) -> None:
    """A checkpoint that brings rules writes as before where the job says so; by default no place is a head."""
    free = annotated(ruled, consistent=False)
    sensible = annotated(ruled)
    (folder / "relations.json").unlink()
    assert annotated(folder)["relations"] == free["relations"]
    assert any(item["head"] == 2 for item in free["relations"])
    if resolve(str(folder)).heads["relations"].multi_label:
        assert sensible["relations"] == [item for item in free["relations"] if item["head"] != 2]
    assert not any(item["head"] == 2 for item in sensible["relations"])
    assert dropped(sensible)["inconsistent_relation"] == sum(item["head"] == 2 for item in free["relations"])
    assert "inconsistent_relation" not in dropped(free)


def test_pairs_that_no_rule_allows_are_not_read(ruled: Path) -> None:
    """`pairs: auto` writes what `all` writes, over four pairs of six."""
    every, auto = annotated(ruled), annotated(ruled, pairs="auto")
    assert [(item["head"], item["tail"], item["label"]) for item in auto["relations"]] == [
        (item["head"], item["tail"], item["label"]) for item in every["relations"]
    ]
    assert dropped(auto)["unlikely_pair"] == 2
    if resolve(str(ruled)).heads["relations"].input == "marked":
        assert auto["coverage"]["windows"] == every["coverage"]["windows"] - 2


def add_pairs(folder: Path, head: str, **facts: Any) -> Path:
    """Give a folder a joint head of pairs with one label and random weights, the same ones for every name."""
    generator = torch.Generator().manual_seed(7)
    width = load_file(folder / "heads.safetensors")["types.weight"].shape[1]
    shapes = {"head.weight": (6, width), "tail.weight": (6, width), "tail.bias": (6,), "out.weight": (1, 6)}
    shapes["out.bias"] = (1,)
    own = {f"{head}.{part}": torch.randn(shape, generator=generator) for part, shape in shapes.items()}
    others = {name: item for name, item in load_file(folder / "heads.safetensors").items() if head not in name}
    save_file({**others, **own}, folder / "heads.safetensors")
    manifest = json.loads((folder / "luke_batch.json").read_text())
    manifest["heads"][head] = {"labels": ["related"], "input": "joint", "multi_label": True, **facts}
    (folder / "luke_batch.json").write_text(json.dumps(manifest))
    return folder


def test_a_pair_scorer_reads_one_window_and_leaves_out_pairs(tmp_path: Path) -> None:
    """Those below its threshold; `all`, which was all there was, reads six windows."""
    whole = annotated(add_pairs(make_multi_head(tmp_path / "scores"), "relations"), threshold=1e-9)["relations"]
    cut = float(np.sort([item["score"] for item in whole])[2:4].mean())
    likely = {(item["head"], item["tail"]) for item in whole if item["score"] >= cut}
    folder = add_pairs(make_multi_head(tmp_path / "model"), "pairs", threshold=cut)
    every, auto = annotated(folder), annotated(folder, pairs="auto")
    assert len(likely) == 3
    assert auto["relations"] == [item for item in every["relations"] if (item["head"], item["tail"]) in likely]
    assert len(auto["relations"]) > 0
    assert dropped(auto)["unlikely_pair"] == 3
    assert (every["coverage"]["windows"], auto["coverage"]["windows"]) == (6, 4)


def test_rules_that_are_asked_for_must_be_there(folder: Path) -> None:
    """Both settings were unknown before."""
    (folder / "relations.json").unlink(missing_ok=True)
    for settings, message in (
        ({"consistent": True}, "no relations.json"),
        ({"pairs": "auto"}, "neither a pair scorer"),
    ):
        with pytest.raises(ConfigError, match=message):
            check_models(job(folder, **settings))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"types": []}, "format: Field required"),
        ({"format": 1, "types": ["PER"], "every": {"head": ["PER"]}}, "every.head: Extra inputs"),
        ({"format": 1, "types": ["PER"], "relations": {"x": {"heads": ["ORG"]}}}, "'ORG' not among its `types`"),
        ({"format": 1, "types": ["PER"], "relations": {"born inn": {}}}, "'born inn' not among the labels"),
        ({"format": 1, "types": ["PER"], "relations": {LABELS["relations"][1]: {"inverse": "chidl"}}}, "'chidl' not"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(folder: Path, content: dict[str, Any], message: str) -> None:
    """It was not read before."""
    (folder / "relations.json").write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=message) as caught:
        resolve(str(folder))
    (folder / "relations.json").unlink()
    assert str(folder / "relations.json") in str(caught.value)


def test_other_rules_are_another_checkpoint(folder: Path, ruled: Path) -> None:
    """The fingerprint holds the content of the file."""
    with_rules = resolve(str(ruled)).weights_hash
    (folder / "relations.json").unlink()
    assert resolve(str(folder)).weights_hash != with_rules


def test_rules_are_learned() -> None:
    """Persons are born in one place, and marriages hold both ways."""
    entities = (GoldEntity(0, 3, "PER"), GoldEntity(4, 8, "LOC"), GoldEntity(9, 11, "PER"), GoldEntity(17, 20, None))
    told = (GoldRelation(0, 1, "born in"), GoldRelation(0, 2, "spouse"), GoldRelation(2, 0, "spouse"))
    rows = [
        Row(str(number), "en", "x", f"{chr(65 + number)}nn Bonn Cy Bonn Dee.", entities, told) for number in range(25)
    ]
    found = learned(rows, [[0, 1, 2, 3] for _ in rows], ["born in", "spouse"])
    assert found["relations"] == {
        "born in": {"heads": ["PER"], "tails": ["LOC"], "one_tail": True, "one_head": True, "symmetric": False},
        "spouse": {"heads": ["PER"], "tails": ["PER"], "one_tail": True, "one_head": True, "symmetric": True},
    }
    Constraints.model_validate(found)
