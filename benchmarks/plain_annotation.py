"""The job as a plain script around transformers: `python -m benchmarks.plain_annotation INPUT OUTPUT MODELS`.

What one would write by the examples of transformers' documentation: a model for each head, an item a call,
every run of up to MAX_WORDS words as a candidate of NER (transformers has no scorer of spans). Sentences,
words and token ids are those of luke-batch, which costs the script little and spares it a tokenizer:
transformers' own for mLUKE does not read this vocabulary. MODELS has the heads as `luke-batch models convert
--head` writes them. It knows no resumption, no odd input, no calibration and no text over the window.
"""

import argparse
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from transformers import (
    LukeForEntityClassification,
    LukeForEntityPairClassification,
    LukeForEntitySpanClassification,
)

from luke_batch.model.engine.transformers_engine import pad
from luke_batch.model.inputs.tokenizer import Tokenizer
from luke_batch.model.inputs.windows import InputBuilder, Window, chunks
from luke_batch.text.segmenter import sentences
from luke_batch.text.words import all_spans, words

MAX_WORDS, MAX_PAIRS = 8, 64
"""Those of the embedded model's `ner`, and the default of `relations`."""
_NONE = np.zeros(0, np.int32)
_SPAN_INPUTS = ("entity_start_positions", "entity_end_positions")


class Script:
    """The models, and what is done to a document."""

    def __init__(self, models: Path) -> None:
        # transformers' classes carry too few types for strict checking.
        classes: dict[str, Any] = {
            "ner": LukeForEntitySpanClassification,
            "types": LukeForEntityClassification,
            "relations": LukeForEntityPairClassification,
        }
        self._models = {name: made.from_pretrained(models / name).eval() for name, made in classes.items()}
        self._labels = {name: model.config.id2label for name, model in self._models.items()}
        self._tokenizer = Tokenizer.load(models / "ner")
        self._builder = InputBuilder(self._tokenizer)

    @torch.inference_mode()
    def annotate(self, text: str, language: str | None) -> dict[str, Any]:
        """Mentions with label and types, relations, and vectors of mentions and text."""
        bounds = words(text, language)
        mentions: list[dict[str, Any]] = []
        relations: list[dict[str, Any]] = []
        vectors: list[Any] = []
        for start, end in sentences(text, language).tolist():
            sentence = text[start:end]
            spans = all_spans(bounds, np.array([[start, end]], np.int32), MAX_WORDS) - np.int32(start)
            found = self._mentions(sentence, spans)
            first = len(mentions)
            for a, b, label in found:
                types = self._types(sentence, (a, b))
                mentions.append({"start": start + a, "end": start + b, "label": label, "types": types})
            for head, tail in list(permutations(range(len(found)), 2))[:MAX_PAIRS]:
                pair = np.array([found[head][:2], found[tail][:2]], np.int32)
                labels = self._relations(sentence, pair)
                relations += [{"head": first + head, "tail": first + tail, "label": label} for label in labels]
            if found:
                spans = np.array([each[:2] for each in found], np.int32)
                window = self._builder.mention_window(self._builder.tokenize(sentence, spans), _NONE, _NONE)
                vectors += list(self._encode(window).entity_last_hidden_state[0].numpy())
        whole = self._builder.text_window(self._builder.tokenize(text, np.zeros((0, 2), np.int32)).ids)
        vector = self._encode(whole).last_hidden_state[0, 1:-1].mean(0).numpy()
        return {"mentions": mentions, "relations": relations, "vectors": vectors, "vector": vector}

    def _mentions(self, sentence: str, spans: Any) -> list[tuple[int, int, str]]:
        """(start, end, label), the best first wherever two overlap."""
        tokens = self._builder.tokenize(sentence, spans)
        labels = self._labels["ner"]
        scored: list[tuple[float, int, int, str]] = []
        for part in chunks(len(spans)):
            which = np.arange(part.start, part.stop, dtype=np.int32)
            window = self._builder.mention_window(tokens, _NONE, _NONE, which)
            logits = self._models["ner"](**self._inputs(window, spans=True)).logits[0]
            best, label = logits.max(-1)
            for place, score, number in zip(which.tolist(), best.tolist(), label.tolist(), strict=True):
                if labels[number] != "NIL":
                    scored.append((score, *spans[place].tolist(), labels[number]))
        taken = np.zeros(len(sentence), bool)
        found: list[tuple[int, int, str]] = []
        for _, start, end, label in sorted(scored, reverse=True):
            if not taken[start:end].any():
                taken[start:end] = True
                found.append((start, end, label))
        return sorted(found)

    def _types(self, sentence: str, span: tuple[int, int]) -> list[str]:
        tokens = self._builder.tokenize(sentence, np.array([span], np.int32))
        window = self._builder.typing_window(tokens, _NONE, _NONE)
        logits = self._models["types"](**self._inputs(window)).logits[0]
        return [self._labels["types"][int(logits.argmax())]]

    def _relations(self, sentence: str, pair: Any) -> list[str]:
        window = self._builder.pair_window(self._builder.tokenize(sentence, pair), _NONE, _NONE)
        logits = self._models["relations"](**self._inputs(window)).logits[0]
        return [self._labels["relations"][number] for number in (logits > 0).nonzero().flatten().tolist()]

    def _encode(self, window: Window) -> Any:
        return self._models["ner"].luke(**self._inputs(window))

    def _inputs(self, window: Window, *, spans: bool = False) -> dict[str, torch.Tensor]:
        batch = pad([window], self._tokenizer.pad_id, self._tokenizer.max_mention_length)
        names = ["input_ids", "attention_mask"]
        if len(window.entity_ids):
            names += ["entity_ids", "entity_attention_mask", "entity_position_ids"]
            names += _SPAN_INPUTS if spans else ()
        return {name: torch.from_numpy(getattr(batch, name)) for name in names}


def main() -> None:
    """Annotate one file; a file of OUTPUT for every `--rows` documents."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plain_annotation", description=__doc__)
    parser.add_argument("input", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("models", type=Path)
    parser.add_argument("--rows", type=int, default=8)
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    script = Script(arguments.models)
    for number, batch in enumerate(pq.ParquetFile(arguments.input).iter_batches(arguments.rows)):
        documents = batch.to_pylist()
        found = [script.annotate(document["text"], document.get("lang")) for document in documents]
        table = pa.table({name: [each[name] for each in found] for name in found[0]})
        table = table.append_column("id", batch["id"])
        pq.write_table(table, arguments.output / f"{number:05}.parquet", compression="zstd")


if __name__ == "__main__":
    main()
