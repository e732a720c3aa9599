"""What the tests of heads for whole texts share: a long document, jobs, transformers' classes."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
import transformers

from luke_batch.annotate.annotator import Annotator
from luke_batch.base.arrays import FloatArray
from luke_batch.base.contracts import load_contract
from luke_batch.config import JobConfig
from luke_batch.model.inputs.tokenizer import Tokenizer
from tests.checkpoints import HEADS

_SENTENCES = (
    "Marie Curie was born in Warsaw in {n}.",
    "The European Central Bank (ECB) raised rates by 0.{n}% on 14 September; markets weren't surprised.",
    "Im Jahr {n} gründete Wilhelm I. in Versailles das Deutsche Kaiserreich.",
    "東京タワーは{n}年に完成した。",
    "Москва — столица Российской Федерации, {n}.",
    "L'été dernier, l'Assemblée nationale a élu sa présidente n° {n} à Paris 😀.",
)
LONG = " ".join(_SENTENCES[n % len(_SENTENCES)].format(n=n) for n in range(80))
"""3,000 tokens and more of the golden tokenizers, in 80 sentences."""
NOTHING = (None, "", " \n\t", "\u200b")
"""Texts without a word for mLUKE, whose tokenizer leaves out the zero-width space."""
SHORT = "Marie Curie was born in Warsaw. She moved to Paris, and met Pierre Curie there."


def job(folder: Path, head: dict[str, Any], engine: str = "fast") -> JobConfig:
    """A job of one head on one checkpoint."""
    return JobConfig.model_validate({"models": {"main": {"path": str(folder), "engine": engine}}, "heads": [head]})


def annotate(
    folder: Path, head: dict[str, Any], texts: Sequence[str | None], engine: str = "fast", **columns: pa.Array
) -> list[dict[str, Any]]:
    """The rows of some texts with one head; none of them fails."""
    table = pa.table({"text": pa.array(texts, pa.string()), **columns})
    annotated = Annotator.from_config(job(folder, head, engine)).annotate(table)
    load_contract("annotations").check(annotated.schema)
    rows = annotated.to_pylist()
    assert [row["error"] for row in rows] == [None] * len(rows)
    return rows


class Reference:
    """A checkpoint's class in transformers, for one input at a time."""

    def __init__(self, folder: Path, head: str) -> None:
        self._model: Any = getattr(transformers, HEADS[head]).from_pretrained(folder).eval()
        self.tokenizer = Tokenizer.load(folder)
        self._choice = head == "choice"

    def ids(self, text: str) -> list[int]:
        """The ids of a text."""
        return self.tokenizer.encode([text])[0].tolist()

    def __call__(self, first: list[int], second: list[int] | None = None) -> FloatArray:
        """The logits of one text or pair; for questions (t, 2)."""
        tokenizer = self.tokenizer
        ids = [tokenizer.bos_id, *first, tokenizer.eos_id]
        ids += [] if second is None else [tokenizer.eos_id, *second, tokenizer.eos_id]
        inputs = torch.tensor([[ids]] if self._choice else [ids])
        with torch.inference_mode():
            output = self._model(input_ids=inputs, attention_mask=torch.ones_like(inputs))
        if hasattr(output, "start_logits"):
            return torch.stack([output.start_logits[0], output.end_logits[0]], 1).numpy()
        return output.logits[0].numpy()


def softmax(logits: FloatArray, temperature: float = 1.0) -> FloatArray:
    """Over the last axis."""
    weights = np.exp((logits - logits.max(-1, keepdims=True)) / temperature)
    return weights / weights.sum(-1, keepdims=True)


def starts(count: int, room: int, stride: int) -> list[int]:
    """Where windows begin that overlap by `stride`, as `return_overflowing_tokens` makes them."""
    found = [0]
    while found[-1] + room < count:
        found.append(found[-1] + room - stride)
    return found


def most_context(count: int, room: int, stride: int) -> list[int]:
    """For each token the number of the window where it has most context, by the SQuAD script of BERT."""

    def context(token: int, start: int) -> float:
        end = min(start + room, count)
        if not start <= token < end:
            return -1.0
        return min(token - start, end - 1 - token) + 0.01 * (end - start)

    places = starts(count, room, stride)
    return [max(range(len(places)), key=lambda n: (context(token, places[n]), -n)) for token in range(count)]


def with_section(folder: Path, target: Path, **facts: Any) -> Path:
    """A copy of a checkpoint whose config.json says more of its head."""
    shutil.copytree(folder, target)
    config = json.loads((target / "config.json").read_text())
    config["luke_batch"] = {"format": 1, **facts}
    (target / "config.json").write_text(json.dumps(config))
    return target
