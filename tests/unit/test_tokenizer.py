"""Loading tokenizers, special ids, and text that spells special tokens."""

import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers.models import BPE, Unigram
from tokenizers.pre_tokenizers import ByteLevel, Metaspace, Whitespace

from luke_batch.base.errors import CheckpointError
from luke_batch.model.inputs.tokenizer import Tokenizer

GOLDEN = Path(__file__).parents[1] / "golden"
KINDS = ("luke", "mluke")
LITERALS = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "<ent>", "<ent2>", "[MASK]", "[PAD]", "▁<ent>"]

# Any text without lone surrogates, and texts that hold special tokens between spaces and letters.
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
literal_texts = st.lists(st.sampled_from([*LITERALS, " ", "a", "Beyoncé", "京", "\n"]), max_size=12).map("".join)


@cache
def golden(kind: str) -> Tokenizer:
    """The golden tokenizer of one kind."""
    return Tokenizer.load(GOLDEN / f"{kind}-v4-layout")


def copy(kind: str, folder: Path) -> Path:
    """A copy of a golden tokenizer that a test may damage."""
    return shutil.copytree(GOLDEN / f"{kind}-v4-layout", folder / kind)


def special_ids(tokenizer: Tokenizer) -> set[int]:
    """The ids that no text may give; `<unk>` is not among them."""
    markers = {tokenizer.entity_marker_id, tokenizer.entity_marker2_id}
    return markers | {tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id, tokenizer.mask_id}


def write_plain(folder: Path, backend: tokenizers.Tokenizer) -> Path:
    """A tokenizer.json and an entity vocabulary, and nothing beside them."""
    backend.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>", "<mask>", "<ent>", "<ent2>"])
    backend.save(str(folder / "tokenizer.json"))
    (folder / "entity_vocab.json").write_text('{"[MASK]": 0, "[UNK]": 1, "[PAD]": 2, "x": 3}', "utf-8")
    return folder


def plain_unigram(folder: Path) -> Path:
    """A Unigram tokenizer.json whose vocabulary holds the special tokens as pieces, the best ones of all."""
    pieces = [(name, 0.0) for name in ("<s>", "<pad>", "</s>", "<unk>", "<mask>", "<ent>", "<ent2>")]
    letters = [(letter, -9.0) for letter in "▁<>/[]abcdefghijklmnopqrstuvwxyzMASKPDUN2"]
    backend = tokenizers.Tokenizer(Unigram([*pieces, *letters], unk_id=3))
    backend.pre_tokenizer = Metaspace(replacement="▁", prepend_scheme="always")
    return write_plain(folder, backend)


def plain_bpe(folder: Path, add_prefix_space: bool = False) -> Path:
    """A byte-level BPE tokenizer.json without a merge, which takes words of the vocabulary as they are."""
    names = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "<ent>", "<ent2>", *sorted(ByteLevel.alphabet())]
    vocab = {name: index for index, name in enumerate(names)}
    backend = tokenizers.Tokenizer(BPE(vocab, [], ignore_merges=True, unk_token="<unk>"))
    backend.pre_tokenizer = ByteLevel(add_prefix_space=add_prefix_space, use_regex=False)
    return write_plain(folder, backend)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("luke", (0, 1, 2, 507, 508, 509, 510)), ("mluke", (0, 1, 2, 453, 454, 455, 456))],
)
def test_special_ids_are_those_of_the_folder(kind: str, expected: tuple[int, ...]) -> None:
    """Special ids and the vocabulary's size are what transformers 4 gives for the same folder."""
    made = golden(kind)
    ids = (made.bos_id, made.pad_id, made.eos_id, made.mask_id, made.entity_marker_id, made.entity_marker2_id)
    assert (*ids, made.vocab_size) == expected
    assert made.kind == kind
    assert made.max_mention_length == 30
    assert not made.add_prefix_space


@pytest.mark.parametrize("kind", KINDS)
def test_entity_vocabulary_is_read_in_any_order(kind: str) -> None:
    """Special entries agree with the file, whatever titles stand beside them; unknown titles are [UNK]."""
    made = golden(kind)
    vocab = json.loads((GOLDEN / f"{kind}-v4-layout" / "entity_vocab.json").read_text("utf-8"))
    assert made.entity_vocab == vocab
    assert (made.entity_mask_id, made.entity_mask2_id) == (vocab["[MASK]"], vocab["[MASK2]"])
    assert (made.entity_pad_id, made.entity_unk_id) == (vocab["[PAD]"], vocab["[UNK]"])
    title = "en:Los Angeles" if kind == "mluke" else "Los Angeles"
    assert made.entity_vocab[title] == vocab[title]


def test_titles_are_parsed_only_when_asked_for(tmp_path: Path) -> None:
    """A folder loads although its titles are damaged; the damage is reported once titles are needed."""
    folder = copy("luke", tmp_path)
    (folder / "entity_vocab.json").write_text('{"[PAD]": 0, "[UNK]": 1, "[MASK]": 2, "a": ', "utf-8")
    made = Tokenizer.load(folder)
    assert (made.entity_pad_id, made.entity_unk_id, made.entity_mask_id) == (0, 1, 2)
    with pytest.raises(CheckpointError, match=r"entity_vocab\.json"):
        _ = made.entity_vocab


def test_titles_that_end_like_special_entries_are_titles(tmp_path: Path) -> None:
    """A title such as `see "[MASK]` is not taken for the special entry."""
    folder = copy("luke", tmp_path)
    vocab = {"[PAD]": 0, "[UNK]": 1, "[MASK]": 2, 'see "[MASK]': 3, '"[PAD]"': 4, "[UNK] ": 5, "x [MASK2]": 6}
    (folder / "entity_vocab.json").write_text(json.dumps(vocab), "utf-8")
    made = Tokenizer.load(folder)
    assert (made.entity_pad_id, made.entity_unk_id, made.entity_mask_id) == (0, 1, 2)
    assert made.entity_mask2_id is None
    assert made.entity_vocab == vocab


def test_checkpoint_without_mask2_loads(tmp_path: Path) -> None:
    """[MASK2] may be missing from the entity vocabulary."""
    assert Tokenizer.load(plain_bpe(tmp_path)).entity_mask2_id is None


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None)
@given(text=texts | literal_texts)
def test_no_text_gives_a_special_id(kind: str, text: str) -> None:
    """Text that spells special tokens is plain text, in both kinds of vocabulary."""
    made = golden(kind)
    assert special_ids(made).isdisjoint(made.encode([text])[0].tolist())


@pytest.mark.parametrize("write", [plain_unigram, plain_bpe])
@pytest.mark.parametrize("literal", LITERALS)
def test_no_text_gives_a_special_id_of_a_tokenizer_json(
    write: Callable[[Path], Path], literal: str, tmp_path: Path
) -> None:
    """The same for a tokenizer.json whose own vocabulary holds the special tokens."""
    made = Tokenizer.load(write(tmp_path))
    alone, inside, unknown = made.encode([literal, f"a {literal} b", "\u2603"])
    assert special_ids(made).isdisjoint([*alone.tolist(), *inside.tolist()])
    assert len(alone) >= len(literal)
    assert (unknown[-1] == 3) == (made.kind == "mluke")


def test_a_folder_is_read_once_until_it_changes(tmp_path: Path) -> None:
    """Whoever loads a folder again in one process gets the same tokenizer, and another once a file changed."""
    first, again = Tokenizer.load(plain_bpe(tmp_path)), Tokenizer.load(tmp_path)
    assert again is first
    assert Tokenizer.load(plain_unigram(tmp_path)).kind == "mluke"


@pytest.mark.parametrize("kind", KINDS)
def test_every_text_is_encoded_alone(kind: str) -> None:
    """A batch gives what its texts give one by one, empty texts included."""
    batch = ["Los Angeles", "", " ", "京都", "Los Angeles", "\n\n", "e\u0301\u0302"]
    made = golden(kind).encode(batch)
    assert [ids.dtype for ids in made] == [np.dtype(np.int32)] * len(batch)
    assert [ids.tolist() for ids in made] == [golden(kind).encode([text])[0].tolist() for text in batch]
    assert golden(kind).encode([]) == []
    assert len(made[1]) == 0


def test_prefix_space_comes_from_the_folder_unless_overridden(tmp_path: Path) -> None:
    """add_prefix_space puts a space before every text that has none, for byte-level BPE alone."""
    plain = golden("luke")
    spaced = Tokenizer.load(GOLDEN / "luke-v4-layout", add_prefix_space=True)
    pairs = zip(spaced.encode(["Los", " Los", "\tLos", ""]), plain.encode([" Los", " Los", "\tLos", ""]), strict=True)
    assert all(ours.tolist() == theirs.tolist() for ours, theirs in pairs)

    folder = copy("luke", tmp_path)
    config = json.loads((folder / "tokenizer_config.json").read_text("utf-8"))
    (folder / "tokenizer_config.json").write_text(json.dumps(config | {"add_prefix_space": True}), "utf-8")
    assert Tokenizer.load(folder).encode(["Los"])[0].tolist() == plain.encode([" Los"])[0].tolist()
    assert not Tokenizer.load(folder, add_prefix_space=False).add_prefix_space

    (tmp_path / "json").mkdir()
    own = Tokenizer.load(plain_bpe(tmp_path / "json", add_prefix_space=True))
    assert own.add_prefix_space
    assert len(own.encode(["a"])[0]) == len(own.encode([" a"])[0]) == 2
    assert not Tokenizer.load(GOLDEN / "mluke-v4-layout", add_prefix_space=True).add_prefix_space


def test_markers_follow_a_vocabulary_that_lacks_them(tmp_path: Path) -> None:
    """As in transformers 4, a folder without added_tokens.json gets <ent> and <ent2> after its last id."""
    for kind in KINDS:
        folder = copy(kind, tmp_path)
        (folder / "added_tokens.json").unlink()
        made = Tokenizer.load(folder)
        assert made.entity_marker_id == golden(kind).entity_marker_id
        assert made.entity_marker2_id == golden(kind).entity_marker2_id


def test_mention_length_comes_from_the_folder(tmp_path: Path) -> None:
    """max_mention_length is read, is 30 without a configuration, and must be a positive number."""
    folder = copy("luke", tmp_path)
    config = folder / "tokenizer_config.json"
    config.write_text('{"max_mention_length": 16}', "utf-8")
    assert Tokenizer.load(folder).max_mention_length == 16
    config.write_text('{"max_mention_length": "16"}', "utf-8")
    with pytest.raises(CheckpointError, match="max_mention_length"):
        Tokenizer.load(folder)
    config.unlink()
    assert Tokenizer.load(folder).max_mention_length == 30


@pytest.mark.parametrize(
    ("kind", "name", "content", "message"),
    [
        ("luke", "vocab.json", None, "no tokenizer"),
        ("luke", "vocab.json", "{}", "does not fit vocab.json"),
        ("luke", "vocab.json", "[1]", "not a JSON object"),
        ("luke", "vocab.json", '{"a": 0}', "does not fit vocab.json"),
        ("luke", "vocab.json", '{"a": 1e999', "not readable as JSON"),
        ("luke", "merges.txt", None, "merges.txt"),
        ("luke", "merges.txt", "#version: 0.2\none two three\n", "merges.txt"),
        ("mluke", "sentencepiece.bpe.model", "nonsense", "not a sentencepiece model"),
        ("mluke", "sentencepiece.bpe.model", "", "sentencepiece.bpe.model"),
        ("luke", "entity_vocab.json", None, "no such file"),
        ("mluke", "entity_vocab.json", "", "entity_vocab.json"),
        ("mluke", "entity_vocab.json", '{"[MASK]": 1, "[PAD]": 0}', r"no \[UNK\]"),
        ("luke", "tokenizer_config.json", "{", "not readable as JSON"),
        ("luke", "added_tokens.json", "[]", "not a JSON object"),
    ],
)
def test_damaged_folders_are_named(kind: str, name: str, content: str | None, message: str, tmp_path: Path) -> None:
    """A missing or malformed file is a CheckpointError of one line that names the file or the folder."""
    folder = copy(kind, tmp_path)
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_text(content, "utf-8")
    with pytest.raises(CheckpointError, match=message) as caught:
        Tokenizer.load(folder)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_tokenizer_json_of_another_kind_is_refused(tmp_path: Path) -> None:
    """Neither a WordPiece model nor a pre-tokenizer that lets raw spaces through can be read."""
    path = plain_bpe(tmp_path) / "tokenizer.json"
    content = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps(content | {"model": {"type": "WordPiece", "vocab": {}}}), "utf-8")
    with pytest.raises(CheckpointError, match="its model is WordPiece"):
        Tokenizer.load(tmp_path)

    backend = tokenizers.Tokenizer(BPE({"a": 0}, []))
    backend.pre_tokenizer = Whitespace()
    with pytest.raises(CheckpointError, match="neither a ByteLevel nor a Metaspace"):
        Tokenizer.load(write_plain(tmp_path, backend))


def test_vocabulary_without_special_tokens_is_refused(tmp_path: Path) -> None:
    """The message lists the special tokens that are missing."""
    path = plain_bpe(tmp_path) / "tokenizer.json"
    content = json.loads(path.read_text("utf-8"))
    del content["model"]["vocab"]["<mask>"]
    kept = [token for token in content["added_tokens"] if token["content"] != "<mask>"]
    path.write_text(json.dumps(content | {"added_tokens": kept}), "utf-8")
    with pytest.raises(CheckpointError, match="lacks <mask>"):
        Tokenizer.load(tmp_path)
