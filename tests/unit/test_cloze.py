"""The head `cloze`: prompts, what fills their gaps, and equality with LukeForMaskedLM."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from pydantic import ValidationError
from transformers import LukeForMaskedLM

from luke_batch import Annotator, JobConfig
from luke_batch.annotate.annotator import check_models
from luke_batch.base.errors import CheckpointError
from luke_batch.heads.cloze import entity_names
from luke_batch.model.files.checkpoint import resolve
from luke_batch.model.inputs.tokenizer import Tokenizer
from tests.checkpoints import TOKENIZERS, Recipe, with_head
from tests.unit.test_golden import write_fast_mluke

Folders = Callable[[Recipe], Path]
Rows = list[dict[str, Any]] | None

RECIPES = {
    "luke": with_head("cloze", Recipe(seed=4)),
    "mluke": with_head("cloze", Recipe(kind="mluke", entity_aware=False, seed=4)),
}
TEMPLATE = "[X] lives in [Y], they said."
CANDIDATES = ["Los Angeles", "California", "Москва", "Beyoncé", "Nowhere at all", "Tokyo"]


def job(folder: Path, head: dict[str, Any], engine: str = "fast") -> JobConfig:
    """A job of this head alone."""
    return JobConfig.model_validate(
        {
            "models": {"main": {"path": str(folder), "engine": engine}},
            "heads": [{"head": "cloze", **head}],
        }
    )


def annotated(config: JobConfig, **columns: list[Any]) -> pa.Table:
    """The columns and what the job makes of them; `text` is made up where it is not given."""
    rows = len(next(iter(columns.values())))
    texts = columns.pop("text", ["A text."] * rows)
    table = pa.table({"id": [str(row) for row in range(rows)], "text": pa.array(texts, pa.string())})
    for name, values in columns.items():
        kind = pa.list_(pa.string()) if any(isinstance(value, list) for value in values) else pa.string()
        table = table.append_column(name, pa.array(values, kind))
    return Annotator.from_config(config).annotate(table)


def cloze(config: JobConfig, **columns: list[Any]) -> list[Rows]:
    """The column `cloze`; no row has failed."""
    table = annotated(config, **columns)
    assert table["error"].null_count == len(table)
    return table["cloze"].to_pylist()


def dropped(table: pa.Table) -> list[dict[str, int]]:
    """Counts of what was left out of each document, by reason."""
    rows = table["coverage"].to_pylist()
    return [{entry["reason"]: entry["count"] for entry in row["dropped"]} for row in rows]


class Reference:
    """LukeForMaskedLM on one prompt at a time; the inputs are put together here from pieces of text."""

    def __init__(self, folder: Path) -> None:
        self.tokenizer = Tokenizer.load(folder)
        self._model = LukeForMaskedLM.from_pretrained(folder).eval()

    def pieces(self, text: str) -> list[int]:
        """Ids of one piece of text."""
        return self.tokenizer.encode([text])[0].tolist() if text else []

    def logs(self, left: str, masks: int, right: str, *, entity: bool) -> tuple[torch.Tensor, ...]:
        """(masks, words) and (1, entities) log-probabilities of a gap of `masks` tokens."""
        before = [self.tokenizer.bos_id, *self.pieces(left.removesuffix(" "))]
        ids = [*before, *[self.tokenizer.mask_id] * masks, *self.pieces(right), self.tokenizer.eos_id]
        places = list(range(len(before), len(before) + masks))
        inputs = {"input_ids": ids, "attention_mask": [1] * len(ids)}
        if entity:
            inputs["entity_ids"] = [self.tokenizer.entity_mask_id]
            inputs["entity_position_ids"] = [(places + [-1] * 30)[:30]]  # type: ignore[list-item]
            inputs["entity_attention_mask"] = [1]
        with torch.inference_mode():
            output = self._model(**{name: torch.tensor([value]) for name, value in inputs.items()})
        words = output.logits[0, places].double().log_softmax(-1)
        return words, output.entity_logits[0].double().log_softmax(-1) if entity else words[:0]

    def scores(self, left: str, candidate: str, right: str, *, entity: bool) -> tuple[float, float | None]:
        """Word and entity score of a candidate."""
        pieces = self.pieces((" " if left.endswith(" ") else "") + candidate)
        words, entities = self.logs(left, len(pieces), right, entity=entity)
        vocabulary = self.tokenizer.entity_vocab
        number = vocabulary.get(candidate, vocabulary.get(f"en:{candidate}"))
        word = words[range(len(pieces)), pieces].mean().item()
        return word, entities[0, number].item() if entity and number is not None else None


@pytest.mark.parametrize("engine", ["fast", "transformers"])
@pytest.mark.parametrize("kind", RECIPES)
def test_candidates_score_as_in_transformers(kind: str, engine: str, checkpoint_folder: Folders) -> None:
    """Word and entity scores of candidates of several lengths, best word score first."""
    folder = checkpoint_folder(RECIPES[kind])
    head = {"subject_column": "who", "candidates": CANDIDATES, "template": TEMPLATE, "best": 10}
    reference = Reference(folder)
    for of, entity in ((["words"], False), (["words", "entities"], True)):
        found = cloze(job(folder, {**head, "of": of}, engine), who=["Beyoncé", " the Bank "])
        for rows, subject in zip(found, ["Beyoncé", "the Bank"], strict=True):
            wanted = {
                text: reference.scores(f"{subject} lives in ", text, ", they said.", entity=entity)
                for text in CANDIDATES
            }
            assert rows is not None
            assert {row["text"]: (row["word_score"], row["entity_score"]) for row in rows} == {
                text: (
                    pytest.approx(word, abs=1e-4),
                    None if other is None else pytest.approx(other, abs=1e-4),
                )
                for text, (word, other) in wanted.items()
            }
            assert [row["word_score"] for row in rows] == sorted((row["word_score"] for row in rows), reverse=True)
    lengths = {len(reference.pieces(f" {text}")) for text in CANDIDATES}
    assert len(lengths) > 2


@pytest.mark.parametrize("engine", ["fast", "transformers"])
@pytest.mark.parametrize("kind", RECIPES)
def test_open_prediction_gives_the_best_of_both_vocabularies(
    kind: str, engine: str, checkpoint_folder: Folders
) -> None:
    """Words of one piece and then entities, each by the log-softmax of transformers; no special token."""
    folder = checkpoint_folder(RECIPES[kind])
    config = job(folder, {"template": "[X] is in [Y].", "of": ["words", "entities"], "best": 4}, engine)
    (rows,) = cloze(config, text=["Los Angeles"])
    reference = Reference(folder)
    words, entities = reference.logs("Los Angeles is in ", 1, ".", entity=True)
    texts = reference.tokenizer.word_texts()
    best: dict[str, float] = {}
    for number in words[0].argsort(descending=True).tolist():
        text = texts[number] if number < len(texts) else None
        if text is not None:
            best.setdefault(text, words[0, number].item())
    names = entity_names(reference.tokenizer.entity_vocab, "en")
    order = [number for number in entities[0].argsort(descending=True).tolist() if number in names]
    assert rows is not None
    assert [row["text"] for row in rows] == [*list(best)[:4], *(names[number] for number in order[:4])]
    assert [row["word_score"] for row in rows[:4]] == pytest.approx(list(best.values())[:4], abs=1e-4)
    expected = [entities[0, number].item() for number in order[:4]]
    assert [row["entity_score"] for row in rows[4:]] == pytest.approx(expected, abs=1e-4)
    assert all(row["entity_score"] is None for row in rows[:4])
    assert all(row["word_score"] is None for row in rows[4:])


def test_entities_alone(checkpoint_folder: Folders) -> None:
    """Candidates that the model knows no entity for are left out and counted; their order is the scores'."""
    folder = checkpoint_folder(RECIPES["mluke"])
    head = {"template": TEMPLATE, "of": "entities", "candidates_column": "who", "best": 2}
    table = annotated(job(folder, head), who=[["Los Angeles", "ja:ビヨンセ", "Atlantis", "Moscow"]])
    (rows,) = table["cloze"].to_pylist()
    reference = Reference(folder)
    scores = {
        text: reference.logs("A text. lives in ", len(reference.pieces(text)), ", they said.", entity=True)[1][
            0, reference.tokenizer.entity_vocab[name]
        ].item()
        for text, name in (
            ("Los Angeles", "en:Los Angeles"),
            ("ja:ビヨンセ", "ja:ビヨンセ"),
            ("Moscow", "en:Moscow"),
        )
    }
    order = sorted(scores, key=lambda text: -scores[text])[:2]
    assert [(row["text"], row["word_score"]) for row in rows] == [(text, None) for text in order]
    assert [row["entity_score"] for row in rows] == pytest.approx([scores[text] for text in order], abs=1e-4)
    assert dropped(table) == [{"candidate_without_entity": 1}]


def test_prompts_come_from_columns(checkpoint_folder: Folders) -> None:
    """A template for each document; where it, its subject or its candidates are missing nothing fails."""
    folder = checkpoint_folder(RECIPES["luke"])
    head = {"template_column": "prompt", "subject_column": "who", "candidates_column": "options"}
    options = ["Tokyo", None, " ", "Tokyo"]
    table = annotated(
        job(folder, head),
        prompt=["In [Y] lives [X].", None, "  ", "[X] is [Y]", "[Y] it is", "[X] and [X]: [Y]"],
        who=["Beyoncé", "a", "a", "", None, "[Y]"],
        options=[options, options, options, options, options, None],
    )
    assert table["error"].null_count == 6
    found = table["cloze"].to_pylist()
    reference = Reference(folder)
    for rows, (left, right) in ((found[0], ("In ", " lives Beyoncé.")), (found[4], ("", " it is"))):
        (row,) = rows
        wanted = reference.scores(left, "Tokyo", right, entity=False)[0]
        assert (row["text"], row["word_score"]) == ("Tokyo", pytest.approx(wanted, abs=1e-4))
    assert found[1:4] == [None, None, None]
    assert found[5] == []
    missing = {"missing_prompt": 1}
    assert dropped(table) == [{}, missing, missing, missing, {}, {"missing_candidates": 1}]


@pytest.mark.parametrize("template", ["no object", "[Y] or [Y]"])
def test_a_template_without_one_object_fails_its_document(template: str, checkpoint_folder: Folders) -> None:
    """The message shows it and names the column; the neighbour is annotated."""
    config = job(checkpoint_folder(RECIPES["luke"]), {"template_column": "prompt"})
    table = annotated(config, prompt=[template, "It is [Y]."])
    error, nothing = table["error"].to_pylist()
    assert nothing is None
    assert (error["stage"], error["error_class"]) == ("cloze", "DocumentError")
    assert template in error["message"]
    assert error["message"].endswith("mend it in column prompt")
    assert table["cloze"].is_valid().to_pylist() == [False, True]


def test_a_long_prompt_is_cut_around_the_gap(checkpoint_folder: Folders) -> None:
    """What is nearest to the gap stays, the same for candidates of every length; coverage says so."""
    folder = checkpoint_folder(RECIPES["luke"])
    words = ["Tokyo"] * 900
    candidates = ["Tokyo", "Beyoncé lives", "x" * 3000]
    config = job(folder, {"template": "[X] [Y] [X]", "candidates": candidates})
    table = annotated(config, text=[" ".join(words)])
    (rows,) = table["cloze"].to_pylist()
    assert dropped(table) == [{"candidate_longer_than_window": 1, "cut_prompt": 1}]
    reference = Reference(folder)
    longest = max(len(reference.pieces(f" {text}")) for text in candidates[:2])
    before, after = reference.pieces(" ".join(words)), reference.pieces(" " + " ".join(words))
    half, rest = (510 - longest) // 2, 510 - longest - (510 - longest) // 2
    sizes = (half, rest) if len(before) < len(after) else (rest, half)
    left, right = before[len(before) - sizes[0] :], after[: sizes[1]]
    reference.pieces = {"left": left, "right": right, "": []}.__getitem__  # type: ignore[method-assign]
    tokens = reference.tokenizer.encode([" Tokyo"])[0].tolist()
    logs, _ = reference.logs("left", len(tokens), "right", entity=False)
    wanted = logs[range(len(tokens)), tokens].mean().item()
    scores = {row["text"]: row["word_score"] for row in rows}
    assert len(scores) == 2
    assert scores["Tokyo"] == pytest.approx(wanted, abs=1e-4)


def test_a_prompt_depends_on_its_document_alone(checkpoint_folder: Folders) -> None:
    """In company and alone."""
    config = job(
        checkpoint_folder(RECIPES["mluke"]),
        {"template": TEMPLATE, "candidates": CANDIDATES, "of": ["words", "entities"]},
    )
    subjects = ["Beyoncé", "東京", "x", "A very long subject of many words and more words"]
    together = cloze(config, text=subjects)
    for subject, rows in zip(subjects, together, strict=True):
        (alone,) = cloze(config, text=[subject])
        assert alone is not None
        assert rows == [
            {name: value if isinstance(value, str | None) else pytest.approx(value, abs=1e-4)
             for name, value in row.items()}
            for row in alone
        ]  # fmt: skip


@pytest.mark.parametrize(
    ("recipe", "head", "match"),
    [
        (with_head("types", Recipe()), {}, r"has no word head.*such as studio-ousia/luke-base"),
        (
            with_head("cloze", Recipe(lite=True, entity_emb_size=32)),
            {"of": "entities"},
            "holds no titles.*lite checkpoint",
        ),
    ],
)
def test_a_checkpoint_that_cannot_is_refused(
    recipe: Recipe, head: dict[str, Any], match: str, checkpoint_folder: Folders
) -> None:
    """Before any work, with the reason."""
    with pytest.raises(CheckpointError, match=match):
        check_models(job(checkpoint_folder(recipe), {"template": TEMPLATE, **head}))


def test_the_embedded_model_is_refused() -> None:
    """It has no word head."""
    with pytest.raises(CheckpointError, match=r"^embedded: has no word head"):
        check_models(JobConfig.model_validate({"heads": [{"head": "cloze", "template": "[Y]"}]}))


def test_a_lite_checkpoint_predicts_words(checkpoint_folder: Folders) -> None:
    """Its word head is as good as any."""
    folder = checkpoint_folder(with_head("cloze", Recipe(lite=True, entity_emb_size=32)))
    (rows,) = cloze(job(folder, {"template": TEMPLATE, "candidates": ["Tokyo"]}), text=["x"])
    wanted = Reference(folder).scores("x lives in ", "Tokyo", ", they said.", entity=False)[0]
    assert rows == [{"text": "Tokyo", "word_score": pytest.approx(wanted, abs=1e-4), "entity_score": None}]


def test_heads_that_were_added_to_files_of_lukemodel_are_found(checkpoint_folder: Folders, tmp_path: Path) -> None:
    """By their weights, where config.json still names the class without heads."""
    source = checkpoint_folder(RECIPES["luke"])
    folder = Path(shutil.copytree(source, tmp_path / "model"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "architectures": ["LukeModel"]}))
    head = {"template": TEMPLATE, "candidates": CANDIDATES}
    assert cloze(job(folder, head), text=["x"]) == cloze(job(source, head), text=["x"])
    assert set(resolve(str(checkpoint_folder(Recipe()))).heads) == {"embeddings"}


@pytest.mark.parametrize(
    "head",
    [
        {},
        {"template": "[Y]", "template_column": "t"},
        {"template": "nothing"},
        {"template": "[Y] and [Y]"},
        {"template": "[Y]", "candidates": ["a"], "candidates_column": "c"},
    ],
)
def test_contradictory_settings_are_refused(head: dict[str, Any]) -> None:
    """One source of prompts with one object, and at most one of candidates."""
    with pytest.raises(ValidationError, match=r"needs (either|the object)"):
        JobConfig.model_validate({"heads": [{"head": "cloze", **head}]})


def test_entities_are_named_in_the_language_of_titles() -> None:
    """Without its prefix; what has no title in it keeps another's; special entries have no name."""
    vocabulary = {"ja:東京": 0, "en:Tokyo": 0, "en:Edo": 0, "[MASK]": 1, "ru:Москва": 2, "Paris": 3}
    assert entity_names(vocabulary, "en") == {0: "Tokyo", 2: "ru:Москва", 3: "Paris"}
    assert entity_names(vocabulary, "ja") == {0: "東京", 2: "ru:Москва", 3: "Paris"}


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_words_read_as_they_are_written(kind: str) -> None:
    """The text of a single piece gives that piece again; special tokens and broken characters have none."""
    tokenizer = TOKENIZERS[kind]
    texts = tokenizer.word_texts()
    for token in (tokenizer.bos_id, tokenizer.pad_id, tokenizer.eos_id, tokenizer.mask_id):
        assert texts[token] is None
    known = [text for text in texts if text]
    assert len(known) > 200
    assert all(text == text.strip() and "�" not in text for text in known)
    words = ["Los", "Angeles", "is"]
    for ids, word in zip(tokenizer.encode([" " + word for word in words]), words, strict=True):
        assert "".join(texts[number] or "" for number in ids.tolist()) == word


def test_a_fast_tokenizer_reads_the_same(tmp_path: Path) -> None:
    """A tokenizer.json of mLUKE spells its pieces as its sentencepiece model does."""
    write_fast_mluke(tmp_path)
    assert json.loads((tmp_path / "tokenizer_config.json").read_text())["tokenizer_class"] == "MLukeTokenizer"
    fast, slow = Tokenizer.load(tmp_path).word_texts(), TOKENIZERS["mluke"].word_texts()
    assert np.array(fast, object).tolist()[: len(slow)] == slow
