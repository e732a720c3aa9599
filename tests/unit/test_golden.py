"""Inputs equal those of transformers 4.57.6, from every layout of a tokenizer's folder."""

import json
import shutil
from pathlib import Path
from typing import Any, cast
from unicodedata import is_normalized

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tokenizers
from sentencepiece import sentencepiece_model_pb2
from tokenizers import Regex
from tokenizers.models import Unigram
from tokenizers.normalizers import Precompiled, Replace, Sequence, Strip
from tokenizers.pre_tokenizers import Metaspace
from transformers import LukeTokenizer, MLukeTokenizer

from luke_batch.base.errors import CheckpointError
from luke_batch.model.inputs.tokenizer import Tokenizer
from tests.golden.check import KINDS, main, mismatches, read_cases

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.mark.parametrize("kind", KINDS)
def test_inputs_equal_those_of_transformers_4(kind: str) -> None:
    """Every stored case agrees: token, entity and position ids, starts and ends of the spans."""
    assert mismatches(GOLDEN, kind) == []


def test_cases_cover_what_they_are_for() -> None:
    """The cases hold all four tasks, titles with and without an id, and mentions of more than 30 tokens."""
    cases = read_cases(GOLDEN)
    assert len(cases) >= 240
    assert {case["task"] for case in cases} == {
        None,
        "entity_classification",
        "entity_pair_classification",
        "entity_span_classification",
    }
    assert sum(case["luke_titles"] is not None for case in cases) >= 40
    spans = [case["luke"] for case in cases if case["task"] == "entity_span_classification"]
    lengths = [
        end - start + 1
        for made in spans
        for start, end in zip(made["entity_start_positions"], made["entity_end_positions"], strict=True)
    ]
    assert sum(length > 30 for length in lengths) >= 20


def test_command_line_reports_a_difference(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The script exits with 0 where all agree, and with 1 and the case's number where one does not."""
    total = len(read_cases(GOLDEN))
    assert main(GOLDEN) == 0
    assert capsys.readouterr().out == f"luke {total}/{total}, mluke {total}/{total}\n"

    for kind in KINDS:
        shutil.copytree(GOLDEN / f"{kind}-v4-layout", tmp_path / f"{kind}-v4-layout")
    table = pq.read_table(GOLDEN / "inputs.parquet").slice(0, 2)
    rows = table.to_pylist()
    rows[1]["mluke"]["entity_ids"][0] += 1
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), tmp_path / "inputs.parquet")
    assert main(tmp_path) == 1
    assert capsys.readouterr().out == "mluke case 1: entity_ids differs\nluke 2/2, mluke 1/2\n"


def test_luke_saved_by_transformers_5_gives_the_same_inputs(tmp_path: Path) -> None:
    """A folder that 5.x wrote (tokenizer.json, entity vocabulary in its configuration) changes no id."""
    LukeTokenizer.from_pretrained(GOLDEN / "luke-v4-layout").save_pretrained(tmp_path)
    assert not (tmp_path / "entity_vocab.json").exists()
    tokenizer = Tokenizer.load(tmp_path)
    assert mismatches(GOLDEN, "luke", tokenizer) == []
    assert tokenizer.vocab_size == Tokenizer.load(GOLDEN / "luke-v4-layout").vocab_size


def test_mluke_saved_by_transformers_5_is_refused(tmp_path: Path) -> None:
    """5.23 writes mLUKE's pieces with ids off by one: loading them would be silently wrong."""
    MLukeTokenizer.from_pretrained(GOLDEN / "mluke-v4-layout").save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="shifted by one"):
        Tokenizer.load(tmp_path)


def test_mluke_as_a_fast_tokenizer_gives_the_same_inputs(tmp_path: Path) -> None:
    """A tokenizer.json with fairseq's ids and the model's normaliser, as XLM-R has one, changes no id."""
    write_fast_mluke(tmp_path)
    tokenizer = Tokenizer.load(tmp_path)
    slow = Tokenizer.load(GOLDEN / "mluke-v4-layout")
    # Decomposed text is left out: `tokenizers` neither keeps all of its accents nor composes its Hangul.
    texts = [case["text"] for case in read_cases(GOLDEN) if is_normalized("NFC", case["text"])]
    assert len(texts) > 200
    assert [ids.tolist() for ids in tokenizer.encode(texts)] == [ids.tolist() for ids in slow.encode(texts)]
    for name in ("kind", "bos_id", "pad_id", "eos_id", "mask_id", "entity_marker_id", "entity_marker2_id"):
        assert getattr(tokenizer, name) == getattr(slow, name)
    assert tokenizer.vocab_size == slow.vocab_size


def write_fast_mluke(folder: Path) -> None:
    """The golden mLUKE tokenizer in the layout of transformers 5, with the ids that its weights expect.

    5.23 itself cannot write it.
    """
    source = GOLDEN / "mluke-v4-layout"
    proto = cast("Any", sentencepiece_model_pb2).ModelProto()
    proto.ParseFromString((source / "sentencepiece.bpe.model").read_bytes())
    first = [(token, 0.0) for token in ("<s>", "<pad>", "</s>", "<unk>")]
    pieces = [(piece.piece, piece.score) for piece in proto.pieces[3:]]
    backend = tokenizers.Tokenizer(Unigram([*first, *pieces, ("<mask>", 0.0)], unk_id=3))
    steps = [
        Precompiled(proto.normalizer_spec.precompiled_charsmap),
        Strip(left=False, right=True),
        Replace(Regex(" {2,}"), "▁"),
    ]
    backend.normalizer = Sequence(steps)
    backend.pre_tokenizer = Metaspace(replacement="▁", prepend_scheme="always")
    names = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "<ent>", "<ent2>"]
    backend.add_special_tokens([tokenizers.AddedToken(name, special=True) for name in names])
    backend.save(str(folder / "tokenizer.json"))
    entities = json.loads((source / "entity_vocab.json").read_text("utf-8"))
    config = {"tokenizer_class": "MLukeTokenizer", "entity_vocab": entities}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), "utf-8")
