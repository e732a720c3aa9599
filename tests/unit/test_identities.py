"""What mention vectors learn from: who is whom in linked rows, in clusters and in plain NER rows."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from luke_batch.base.errors import InputError
from luke_batch.model.inputs.tokenizer import Tokenizer
from luke_batch.model.inputs.windows import InputBuilder
from luke_batch.training.corpus import GoldEntity, Row
from recipes.identities import TARGETS, NameExamples, guessed, linked
from recipes.identity_loss import identity_loss, name_loss
from recipes.rows import read_clusters, read_linked

GOLDEN = Path(__file__).parents[1] / "golden" / "luke-v4-layout"


def row(text: str, *names: tuple[str, str | None]) -> Row:
    """A sentence whose mentions are `names`, (surface, label), each at its first place."""
    spans = [(text.index(name), label) for name, label in names]
    entities = tuple(
        GoldEntity(start, start + len(name), label) for (start, label), (name, _) in zip(spans, names, strict=True)
    )
    return Row("id", "en", "test", text, entities, ())


def identities(groups: list[list[np.ndarray]]) -> list[int]:
    """The entity of every mention, in order."""
    return [int(target[0]) for group in groups for targets in group for target in targets]


def targets_of(rows: list[tuple[str, Row]], *, guess: bool) -> list[int]:
    """The entity of every mention of the groups that are made of `rows`."""
    groups = guessed(rows, {}) if guess else linked(rows, {})
    return identities([[item.targets for item in group] for group in groups])


def test_a_linked_mention_is_its_title() -> None:
    """Equal labels are one entity, whatever the surfaces; groups without a pair are out."""
    rows = [
        ("a", row("Bonn and the city", ("Bonn", "Bonn"), ("the city", "Bonn"))),
        ("a", row("Rome is old", ("Rome", "Rome"))),
        ("b", row("Lima is far", ("Lima", "Lima"))),
    ]
    bonn, city, rome = targets_of(rows, guess=False)
    assert bonn == city != rome


def test_every_surface_has_its_place_among_the_names() -> None:
    """Spelling counts, sentences do not; the targets point into the names in the order of their places."""
    names: dict[str, int] = {}
    rows = [("a", row("Bonn or BONN", ("Bonn", "B"), ("BONN", "B"))), ("a", row("in Bonn", ("Bonn", "B")))]
    (group,) = linked(rows, names)
    assert list(names) == ["Bonn", "BONN"]
    assert [item.targets[:, 2].tolist() for item in group] == [[0, 1], [0]]


def test_plain_names_are_one_entity_where_words_begin_alike() -> None:
    """Inside a document and a label: inflected forms and parts of a name; not across labels or documents."""
    rows = [
        ("a", row("Hrvatska zove, Ana Novak", ("Hrvatska", "LOC"), ("Ana Novak", "PER"))),
        ("a", row("u Hrvatskoj je Novak", ("Hrvatskoj", "LOC"), ("Novak", "PER"))),
        ("b", row("Hrvatska i Hrvatskoj", ("Hrvatska", "LOC"), ("Hrvatskoj", "PER"))),
        ("b", row("Hrvatsku", ("Hrvatsku", "LOC"))),
    ]
    land, ana, inflected, novak, other, person, again = targets_of(rows, guess=True)
    assert land == inflected
    assert ana == novak != land
    assert other == again != land
    assert person != other


def files(folder: Path, column: str, values: Sequence[object]) -> Path:
    """A file of one-mention sentences with one more column."""
    names = ["U.S.", "United States", "Smith", "Smith", "1998", "1998"]
    labels = ["LOC", "LOC", "PER", "PER", "TIME", "TIME"]
    table = pa.table(
        {
            "text": names,
            "doc_id": ["a", "b", "a", "b", "a", "b"],
            "entities": [
                [{"start": 0, "end": len(name), "label": label}] for name, label in zip(names, labels, strict=True)
            ],
            column: values,
        }
    )
    pq.write_table(table, folder / "rows.parquet")
    return folder / "rows.parquet"


def test_clusters_of_two_documents_meet_in_a_shared_name(tmp_path: Path) -> None:
    """A cluster that holds both names joins them everywhere; single surnames and years join nothing."""
    path = files(tmp_path, "clusters", [[0], [0], [1], [1], [2], [2]])
    both = pa.table(
        {
            "text": ["the U.S. or United States"],
            "doc_id": ["c"],
            "entities": [[{"start": 4, "end": 8, "label": "LOC"}, {"start": 12, "end": 25, "label": "LOC"}]],
            "clusters": [[5, 5]],
        }
    )
    pq.write_table(pa.concat_tables([pq.read_table(path), both]), path)
    label = [item.label for found in read_clusters(path) for item in found.entities]
    assert label[0] == label[1] == label[6] == label[7]
    assert len({label[2], label[3], label[4], label[5], label[0]}) == 5


def test_links_become_labels_and_faulty_rows_are_counted(tmp_path: Path) -> None:
    """A title names the entity, else the Wikidata id; a link outside of the text skips its row."""
    link = {"start": 0, "end": 4, "title": "T", "qid": "Q1"}
    values = [[link], [{**link, "title": None}], [], None, [{**link, "end": 99}], [{**link, "qid": None}]]
    skipped: Counter[str] = Counter()
    rows = read_linked([files(tmp_path, "links", values)], skipped)
    assert [[item.label for item in found.entities] for found in rows] == [["T"], ["Q1"], [], [], ["T"]]
    assert skipped == {"offset out of range": 1}
    with pytest.raises(InputError, match="no column clusters"):
        read_clusters(tmp_path / "rows.parquet")


def targets(*entities: tuple[int, int]) -> torch.Tensor:
    """Targets of mentions that are (entity, surface), without word beginnings."""
    found = torch.zeros(len(entities), TARGETS, dtype=torch.int64)
    found[:, :2] = torch.tensor(entities)
    return found


def test_the_loss_wants_one_near_mention_of_the_entity() -> None:
    """Near the other surface of its entity: no loss; near another entity: a large one."""
    near = torch.tensor([[1.0, 0], [1, 0.01], [0, 1], [0.01, 1]])
    assert identity_loss(near, targets((1, 1), (1, 2), (2, 3), (2, 4))) < 1e-3
    assert identity_loss(near, targets((1, 1), (2, 2), (1, 3), (2, 4))) > 10


def test_equal_surfaces_of_two_entities_say_nothing() -> None:
    """Neither do two whose words begin alike; without a positive or a negative there is nothing to learn."""
    vectors = torch.tensor([[1.0, 0], [1, 0]])
    assert identity_loss(vectors, targets((1, 7), (2, 7))) == 0
    begun = targets((1, 1), (1, 2), (2, 3))
    begun[:, 3] = torch.tensor([5, 6, 5])
    vectors = torch.tensor([[1.0, 0], [0, 1], [1, 0]])
    alone = identity_loss(vectors, targets((1, 1), (1, 2), (2, 3)))
    assert identity_loss(vectors, begun) < alone


@given(st.integers(2, 8), st.integers(0, 2**31 - 1))
@settings(max_examples=50, deadline=None)
def test_the_loss_ignores_lengths_and_order(count: int, seed: int) -> None:
    """Cosines alone count, and mentions have no order; it is never negative and its gradient is finite."""
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.randn(count, 5, generator=generator, requires_grad=True)
    wanted = torch.randint(1, 4, (count, TARGETS), generator=generator)
    loss = identity_loss(vectors, wanted)
    order = torch.randperm(count, generator=generator)
    again = identity_loss((vectors * torch.rand(count, 1, generator=generator).add(0.1))[order], wanted[order])
    assert loss >= 0
    assert torch.allclose(loss, again, atol=1e-4)
    loss.backward()
    assert vectors.grad is not None
    assert vectors.grad.isfinite().all()


def test_a_mention_learns_to_compare_as_its_name_does() -> None:
    """A vector that is its name's has the least loss; the farther from it, the more."""
    names = torch.nn.functional.normalize(torch.randn(40, 8, generator=torch.Generator().manual_seed(0)), dim=-1)
    places = torch.tensor([3, 7, 3])
    losses: list[float] = []
    for share in (0.0, 0.3, 0.9):
        torch.manual_seed(1)
        vectors = (1 - share) * names[places] + share * names[places + 1]
        losses.append(float(name_loss(vectors, places, names)))
    assert losses == sorted(losses)
    assert losses[0] < losses[1] - 1e-3


def test_names_are_cut_out_with_what_is_near_them() -> None:
    """Every entity of an example covers exactly its name, whatever the cut; all mentions come up."""
    names: dict[str, int] = {}
    texts = ["Ada Byron met Charles Babbage in London on a day of June", "in Łódź"]
    rows = [
        ("a", row(texts[0], ("Ada Byron", "A"), ("Charles Babbage", "B"), ("London", "L"))),
        ("a", row("Ada Byron came again", ("Ada Byron", "A"))),
        ("b", row(texts[1], ("Łódź", "Z"), ("in", "Z"))),
    ]
    builder = InputBuilder(Tokenizer.load(GOLDEN))
    skipped: Counter[str] = Counter()
    task = NameExamples([(1.0, linked(rows, names))], builder, skipped, context=20)
    rng = np.random.default_rng(0)
    spelled = list(names)
    seen: set[str] = set()
    for number in range(100):
        example = task.at(number % len(task), rng, 0.0)
        assert example is not None
        window = example.window
        assert example.targets.shape == (len(window.entity_ids), 1)
        for (start, end), (place,) in zip(window.entity_spans.tolist(), example.targets.tolist(), strict=True):
            covered = window.token_ids[start:end]
            assert covered.tolist() in [
                builder.tokenizer.encode([prefix + spelled[place]])[0].tolist() for prefix in ("", " ")
            ]
            seen.add(spelled[place])
    assert seen == set(names)
    assert not skipped
