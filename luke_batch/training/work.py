"""What every worker of a run does: the same steps on batches of its own, scores on its part of dev.

Only files leave a worker, and only the first one writes (`plan.py` lists them).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from luke_batch.model.engine.device import multiplies_bfloat16
from luke_batch.model.files.reading import read_object
from luke_batch.model.files.weights import WORD_TABLE, Table
from luke_batch.training.batches import Batches, PooledBatches
from luke_batch.training.corpus import read_corpus
from luke_batch.training.curve import append, read_curve
from luke_batch.training.encoder import EncoderConfig
from luke_batch.training.examples import proposer
from luke_batch.training.loop import LoopConfig, Trainer
from luke_batch.training.model import MultiTaskModel
from luke_batch.training.outputs import HeadOutputs, ner_outputs, relations_outputs, types_outputs
from luke_batch.training.parallel import WorkerGroup
from luke_batch.training.plan import START, TrainingPlan, input_builder
from luke_batch.training.result import Result, write_result
from luke_batch.training.scoring import CalibratedHead, calibrated, labels_of, score, threshold_of
from luke_batch.training.settings import FinetuneConfig, HeadName
from luke_batch.training.span_scorer import FittedScorer, LikelySpans, fit
from luke_batch.training.start import read_start

CHECKPOINT = "checkpoint.pt"
BEST = "best.safetensors"
CURVE = "curve.jsonl"
MODEL = "model"
SCORER = "span_scorer"
TRAINED_SCORER = "span_scorer_trained"
"""The scorer for the word embeddings that a run starts with, and the one for those that it has trained."""

_POOL = 2048
"""Examples that are cut into batches together."""
_LINES = 200
"""Points of the loss curve."""


class TrainingWorker:
    """One process of a run."""

    def __init__(self, run: Path, group: WorkerGroup) -> None:
        """Load data and model. Raises as `read_corpus` and `resolve` do."""
        self.run = run
        self.plan = TrainingPlan.read(run)
        self.group = group
        self.skipped: Counter[str] = Counter()
        config = self.plan.config
        encoder = EncoderConfig.from_luke(read_object(run / START / "config.json"))
        self._builder = input_builder(run / START)
        self._rows = read_corpus("TRAIN", self.plan.train).rows
        self._dev = [] if self.plan.dev is None else read_corpus("DEV", self.plan.dev).rows
        # All processes start from the same new heads; the trainer then gives each its own generator.
        torch.manual_seed(config.seed)
        freeze = config.freeze_words or read_start(run / START).freeze_words
        specs = {str(name): head.spec for name, head in self.plan.heads.items()}
        self._model = MultiTaskModel(encoder, specs, config.dropout, freeze_words=freeze)
        self._model.encoder.load_state_dict(load_file(run / START / "model.safetensors"))
        self._words_stay = freeze
        self._propose = proposer(self.plan.max_words)
        self._scorer = self._find_scorer(SCORER, 0) if "ner" in self.plan.heads else None
        self._likely = self._likely_spans()
        if config.gradient_checkpointing:
            self._model.recompute_layers()
        self._trainer = self._make_trainer(*config.rates(encoder.hidden_size))
        self._points = _points(self.plan.steps, config.evaluations) if self._dev else set[int]()

    def train(self) -> None:
        """Start or resume, train to the end, and write the result."""
        checkpoint = self.run / CHECKPOINT
        if checkpoint.exists():
            self._trainer.resume(checkpoint)
        else:
            self._trainer.start()
        self._trainer.run(checkpoint, watch=self._watch)
        if self._dev:
            self._load_best()
        if self._scorer is not None and not self._words_stay:
            self._scorer = self._find_scorer(TRAINED_SCORER, self.plan.steps)
            self._likely = self._likely_spans()
        found = self._calibrate() if self._dev else {}
        skipped = sum((Counter(part) for part in self.group.gather(dict(self.skipped))), Counter[str]())
        if self.group.leads:
            result = Result(
                steps=self.plan.steps,
                seconds=self._trainer.progress.elapsed,
                examples=dict(self._trainer.progress.examples),
                workers=self.group.size,
                left_out=dict(sorted(skipped.items())),
                calibrated=found,
                curve=read_curve(self.run / CURVE),
                span_scorer=self._scorer.describe() if isinstance(self._scorer, FittedScorer) else self._scorer,
            )
            scorer = self._scorer if isinstance(self._scorer, FittedScorer) else None
            write_result(self.run / MODEL, self.run / START, self.plan, self._model, result, scorer)
        self.group.wait()

    def _make_trainer(self, encoder_rate: float, head_rate: float) -> Trainer:
        config, group = self.plan.config, self.group
        sources: dict[str, Batches] = {
            name: PooledBatches(
                self.plan.examples(name, self._rows, self._builder, self.skipped, self._likely),
                config.batch_tokens,
                _POOL,
                config.seed + 101 * number,
                rank=group.rank,
                size=group.size,
            )
            for number, name in enumerate(self.plan.passes)
        }
        weights: dict[str, Tensor] = {name: head.weights() for name, head in self.plan.heads.items()}
        return Trainer(
            self._model,
            sources,
            self.plan.batches,
            self._builder.tokenizer.pad_id,
            LoopConfig(
                steps=self.plan.steps,
                encoder_rate=encoder_rate,
                head_rate=head_rate,
                weight_decay=config.weight_decay,
                warm_up=config.warm_up,
                bfloat16=_bfloat16(config, group.device),
                checkpoint_every=config.checkpoint_seconds,
                seed=config.seed,
            ),
            group=group,
            weights=weights if config.class_weights == "balanced" else None,
        )

    def _find_scorer(self, name: str, step: int) -> FittedScorer | str:
        """The scorer of the run's folder, which the first process trains for the words of the model as it is; or why
        there is none.
        """
        file, reason = self.run / f"{name}.safetensors", self.run / f"{name}.txt"
        if self.group.leads and not (file.exists() or reason.exists()):
            table = self._table()
            labels = self.plan.heads["ner"].spec.labels
            made = fit(self._rows, self._dev, labels, self._builder, self._propose, table, self.plan.config.seed)
            written, partial = (reason if isinstance(made, str) else file), self.run / f"{name}.partial"
            if isinstance(made, str):
                partial.write_text(made, encoding="utf-8")
            else:
                made.save(partial)
            partial.replace(written)
            note = made if isinstance(made, str) else made.describe()
            append(self.run / CURVE, {"step": step, "steps": self.plan.steps, "seconds": 0.0, "note": note})
        self.group.wait()
        return FittedScorer.load(file) if file.exists() else reason.read_text(encoding="utf-8")

    def _table(self) -> Table:
        return Table(self._model.encoder.state_dict()[WORD_TABLE].detach().float().cpu(), None)

    def _likely_spans(self) -> LikelySpans | None:
        """What inference looks at with `spans: auto`; None: all candidates."""
        if not isinstance(self._scorer, FittedScorer):
            return None
        return LikelySpans(self._scorer.net, self._table(), self._scorer.threshold, self._builder, self._propose)

    def _watch(self) -> None:
        progress = self._trainer.progress
        every = max(1, self.plan.steps // _LINES)
        if progress.step % every == 0 or progress.step == self.plan.steps:
            self._note(losses=dict(progress.losses), examples=dict(progress.examples))
        if progress.step in self._points:
            scores = {name: self._dev_score(name) for name in self.plan.heads}
            mean = sum(scores.values()) / len(scores)
            self._note(dev=scores)
            if progress.best is None or mean > progress.best:
                progress.best = mean
                self._save_best()

    def _note(self, **values: object) -> None:
        """One line more of the curve."""
        if self.group.leads:
            progress = self._trainer.progress
            place = {"step": progress.step, "steps": self.plan.steps, "seconds": round(progress.elapsed, 2)}
            append(self.run / CURVE, {**place, **values})

    def _outputs(self, head: HeadName) -> HeadOutputs:
        """Of all processes, each on its part of dev."""
        rows = self._dev[self.group.rank :: self.group.size]
        if head == "ner":
            own = ner_outputs(self._model, rows, self._builder, self._likely or self._propose)
        elif head == "types":
            own = types_outputs(self._model, rows, self._builder)
        else:
            own = relations_outputs(self._model, rows, self._builder, given=self.plan.given_pairs)
        return HeadOutputs.joined(self.group.gather(own))

    def _dev_score(self, head: HeadName) -> float:
        spec = self.plan.heads[head].spec
        outputs = self._outputs(head)
        labels = labels_of(spec)
        if spec.multi_label:
            threshold = threshold_of(outputs, labels, self.plan.config.precision_floor)
            labels = replace(labels, threshold=threshold)
        found = score(outputs, labels, is_typing=head == "types")
        return found.f1 if found.accuracy is None or spec.multi_label else found.accuracy

    def _calibrate(self) -> dict[HeadName, CalibratedHead]:
        floor = self.plan.config.precision_floor
        return {
            name: calibrated(self._outputs(name), head.spec, floor, is_typing=name == "types")
            for name, head in self.plan.heads.items()
        }

    def _save_best(self) -> None:
        if self.group.leads:
            trained = {name: item.detach().cpu() for name, item in self._model.named_parameters() if item.requires_grad}
            partial = self.run / f"{BEST}.partial"
            save_file(trained, partial)
            partial.replace(self.run / BEST)
        self.group.wait()

    def _load_best(self) -> None:
        self._model.load_state_dict(load_file(self.run / BEST), strict=False)


def _points(steps: int, evaluations: int) -> set[int]:
    """The steps after which dev is scored; the last is one of them."""
    return {max(1, round(steps * (number + 1) / evaluations)) for number in range(evaluations)}


def _bfloat16(config: FinetuneConfig, device: str) -> bool:
    if config.precision != "auto":
        return config.precision == "bfloat16"
    return multiplies_bfloat16() if device == "cpu" else torch.cuda.is_bf16_supported(including_emulation=False)
