"""What the joint head of relations learns from, and how it is judged between found mentions."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from safetensors.torch import load_file

from luke_batch.annotate.annotator import Annotator
from luke_batch.config import JobConfig
from luke_batch.heads.consistency import Consistency
from luke_batch.model.files.checkpoint import resolve
from luke_batch.model.files.weights import encoder_state
from luke_batch.model.inputs.tokenizer import Tokenizer
from luke_batch.model.inputs.windows import InputBuilder
from luke_batch.training.corpus import GoldEntity, GoldRelation, Row
from luke_batch.training.encoder import EncoderConfig
from luke_batch.training.joint import JointRelations
from luke_batch.training.model import HeadSpec, MultiTaskModel
from luke_batch.training.outputs import joint_relations_outputs
from luke_batch.training.scoring import labels_of
from recipes.joint_rows import beside
from tests.checkpoints import LABELS, make_joint

PEOPLE = "Ada Lovelace met Charles Babbage in London."


def row(text: str, names: tuple[str, ...], relations: tuple[GoldRelation, ...] = (), document: str = "a") -> Row:
    """A row whose mentions are the names, persons but for London."""
    kinds = {"London": "LOC", "Jedburgh": "LOC"}
    spans = [(text.index(name), text.index(name) + len(name), kinds.get(name, "PER")) for name in names]
    return Row(document, "en", "redocred", text, tuple(GoldEntity(*span) for span in spans), relations, document)


MET = row(PEOPLE, ("Ada Lovelace", "Charles Babbage", "London"), (GoldRelation(0, 2, "born_in"),))
KNEW = row("He knew Mary of Jedburgh.", ("Mary", "Jedburgh"), (GoldRelation(0, 1, "born_in"),), "b")


def test_a_sentence_beside_another_teaches_what_does_not_hold(tmp_path: Path) -> None:
    """Persons and places of two sentences: all ten pairs across are known, and none is born there. Rows alone, as they
    were shown before, have no such pair.
    """
    both = beside(MET, KNEW)
    assert both.text == f"{MET.text} {KNEW.text}"
    assert [both.text[item.start : item.end] for item in both.entities][3:] == ["Mary", "Jedburgh"]
    assert both.relations == (GoldRelation(0, 2, "born_in"), GoldRelation(3, 4, "born_in"))
    builder = InputBuilder(Tokenizer.load(make_joint(tmp_path / "model")))
    example = JointRelations("relations", [both], ["born_in"], builder, Counter()).at(0, np.random.default_rng(0), 0.0)
    assert example is not None
    assert np.argwhere(example.targets[..., 0] > 0).tolist() == [[0, 2], [3, 4]]
    assert example.known is not None
    assert example.known[:3, 3:].all()
    assert example.known[3:, :3].all()


@pytest.mark.parametrize(
    "other",
    [
        row("London grew.", ("London",), document="b"),
        row(KNEW.text, ("Mary",)),
        row("x" * 400 + " Mary", ("Mary",), (), "b"),
    ],
    ids=["the same name", "the same document", "too long"],
)
def test_sentences_between_which_something_may_hold_stay_alone(other: Row) -> None:
    """They would teach what is wrong, or fit no window."""
    assert beside(MET, other) is MET


def test_relations_are_judged_between_found_mentions_as_inference_writes_them(tmp_path: Path) -> None:
    """The logits are those of the head in a job; a relation is right where both mentions touch the data's, and what the
    rules forbid is neither right nor written. Marked places of given mentions were all that was judged before.
    """
    folder = make_joint(tmp_path / "model")
    rules = {"format": 1, "types": ["PER", "LOC"], "every": {"heads": ["PER"]}}
    (folder / "relations.json").write_text(json.dumps(rules))
    checkpoint = resolve(str(folder))
    spec = HeadSpec("pair", LABELS["relations"], multi_label=True, joint=True)
    model = MultiTaskModel(EncoderConfig.from_luke(dict(checkpoint.config)), {"relations": spec})
    model.encoder.load_state_dict(encoder_state(checkpoint))
    own = {
        name: item for name, item in load_file(folder / "heads.safetensors").items() if name.startswith("relations.")
    }
    net = model.heads["relations"]
    width = own["relations.head.weight"].shape[0]
    model.heads["relations"] = type(net)(checkpoint.hidden_size, len(LABELS["relations"]), width)
    model.heads.load_state_dict(own)
    found = [[(0, 12, "PER"), (17, 24, "PER"), (36, 42, "LOC")]]  # Charles alone
    told = row(
        PEOPLE,
        ("Ada Lovelace", "Charles Babbage", "London"),
        (GoldRelation(1, 2, "born_in"), GoldRelation(2, 0, "member_of")),
    )
    judge = Consistency(labels_of(spec), checkpoint.constraints) if checkpoint.constraints else None
    outputs = joint_relations_outputs(model, [told], found, InputBuilder(Tokenizer.load(folder)), judge)

    given = pa.array([[{"start": start, "end": end, "label": label} for start, end, label in found[0]]])
    job = JobConfig.model_validate(
        {
            "input": {"mentions_column": "given"},
            "models": {"main": {"path": str(folder)}},
            "heads": [{"head": "relations", "spans": "given", "threshold": 1e-6, "consistent": False}],
        }
    )
    written = Annotator.from_config(job).annotate(pa.table({"id": ["a"], "text": [PEOPLE], "given": given}))
    pairs = [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)]
    scores = 1 / (1 + np.exp(-outputs.logits.astype(np.float64)))
    for item in written["relations"].to_pylist()[0]:
        place = pairs.index((item["head"], item["tail"])), LABELS["relations"].index(item["label"])
        assert scores[place] == pytest.approx(item["score"] if item["head"] < 2 else 0, abs=0.02)  # bfloat16, perhaps
    born_in, member_of = (LABELS["relations"].index(name) for name in ("born_in", "member_of"))
    assert np.argwhere(outputs.gold).tolist() == [[pairs.index((1, 2)), born_in]]
    assert outputs.logits[pairs.index((2, 0)), member_of] == -30
    assert outputs.missed == 1
