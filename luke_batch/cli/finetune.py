"""`luke-batch finetune`: a model from annotated text."""

import json as json_text
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from luke_batch.cli.options import Address, Json, Quiet, Shared

if TYPE_CHECKING:
    from luke_batch.distributed.finetune import Finetuned


class HeadChoice(StrEnum):
    """What is trained."""

    NER = "ner"
    TYPES = "types"
    RELATIONS = "relations"


Train = Annotated[
    str,
    typer.Argument(metavar="TRAIN", help="Parquet file, folder or glob with text, entities[, relations], or s3://…"),
]
Output = Annotated[str, typer.Argument(metavar="OUTPUT_MODEL", help="Folder of the model.")]
Heads = Annotated[list[HeadChoice], typer.Option("--head", help="Head to train; may be repeated.")]
Dev = Annotated[
    str | None,
    typer.Option("--dev", metavar="DEV", help="As TRAIN: chooses the best state and calibrates the scores."),
]
Base = Annotated[
    str | None,
    typer.Option(
        "--base",
        metavar="MODEL",
        help="`embedded` (default), a folder, hub id or s3:// folder: LUKE, mLUKE, RoBERTa, XLM-R.",
    ),
]
Input = Annotated[
    str | None,
    typer.Option(
        "--input",
        metavar="auto|marked|joint",
        help="What types and relations read: a pass for each mention and pair, or one for all (default: joint for"
        " several heads).",
    ),
]
Epochs = Annotated[float | None, typer.Option("--epochs", help="Passes over the data (default 3).")]
Steps = Annotated[int | None, typer.Option("--steps", help="Optimizer steps, instead of epochs.")]
BatchTokens = Annotated[
    int | None,
    typer.Option("--batch-tokens", help="Padded positions of a worker's batch (default 1024)."),
]
LearningRate = Annotated[float | None, typer.Option("--learning-rate", help="Of the encoder (default by its size).")]
HeadLearningRate = Annotated[
    float | None, typer.Option("--head-learning-rate", help="Of the heads (default ten times that).")
]
WarmUp = Annotated[
    float | None, typer.Option("--warm-up", help="Share of the steps in which rates rise (default 0.06).")
]
WeightDecay = Annotated[float | None, typer.Option("--weight-decay", help="Default 0.01.")]
Dropout = Annotated[float | None, typer.Option("--dropout", help="Before the heads (default 0.1).")]
Seed = Annotated[int | None, typer.Option("--seed", help="Default 0.")]
Workers = Annotated[int | None, typer.Option("--workers", help="Processes that train together (default 1).")]
NumCpus = Annotated[float, typer.Option("--num-cpus", min=0, help="CPUs of each worker.")]
NumGpus = Annotated[float, typer.Option("--num-gpus", min=0, help="GPUs of each worker.")]
Precision = Annotated[str | None, typer.Option("--precision", metavar="auto|float32|bfloat16", help="Of the products.")]
GradientCheckpointing = Annotated[
    bool, typer.Option("--gradient-checkpointing", help="Less memory for a third more work.")
]
FreezeWords = Annotated[bool, typer.Option("--freeze-words", help="Leave the word embeddings as they are.")]
MultiLabel = Annotated[
    str | None,
    typer.Option("--multi-label", metavar="auto|yes|no", help="Several types or relations at once."),
]
ClassWeights = Annotated[
    str | None, typer.Option("--class-weights", metavar="none|balanced", help="Rare labels count more.")
]
Negatives = Annotated[int | None, typer.Option("--negatives", help="Spans without label of a sentence (default 26).")]
Unrelated = Annotated[
    str | None,
    typer.Option("--unrelated", metavar="auto|all|given", help="Which pairs have no relation."),
]
UnrelatedWeight = Annotated[
    float | None,
    typer.Option("--unrelated-weight", help="How often such a pair is shown (default 0.5)."),
]
MaxWords = Annotated[int | None, typer.Option("--max-words", help="Longest mention (default: 99% of those in TRAIN).")]
MaxTokens = Annotated[int | None, typer.Option("--max-tokens", help="Longer examples are left out (default 256).")]
PrecisionFloor = Annotated[
    float | None,
    typer.Option("--precision-floor", help="Least precision of the threshold of several labels."),
]
Evaluations = Annotated[int | None, typer.Option("--evaluations", help="How often dev is scored (default 10).")]
CheckpointSeconds = Annotated[
    float | None, typer.Option("--checkpoint-seconds", help="Between two checkpoints (default 300).")
]
AllowOverlap = Annotated[
    bool, typer.Option("--allow-overlap", help="Train although more than 1% of DEV's texts are in TRAIN.")
]


def finetune(
    train: Train,
    output: Output,
    heads: Heads,
    dev: Dev = None,
    base: Base = None,
    input: Input = None,
    epochs: Epochs = None,
    steps: Steps = None,
    batch_tokens: BatchTokens = None,
    learning_rate: LearningRate = None,
    head_learning_rate: HeadLearningRate = None,
    warm_up: WarmUp = None,
    weight_decay: WeightDecay = None,
    dropout: Dropout = None,
    seed: Seed = None,
    workers: Workers = None,
    num_cpus: NumCpus = 1,
    num_gpus: NumGpus = 0,
    precision: Precision = None,
    gradient_checkpointing: GradientCheckpointing = False,
    freeze_words: FreezeWords = False,
    multi_label: MultiLabel = None,
    class_weights: ClassWeights = None,
    negatives: Negatives = None,
    unrelated: Unrelated = None,
    unrelated_weight: UnrelatedWeight = None,
    max_words: MaxWords = None,
    max_tokens: MaxTokens = None,
    precision_floor: PrecisionFloor = None,
    evaluations: Evaluations = None,
    checkpoint_seconds: CheckpointSeconds = None,
    allow_overlap: AllowOverlap = False,
    shared: Shared = False,
    address: Address = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Train heads of a model on annotated text, with Ray Train.

    A killed run goes on when the same command runs again.

    Exit codes: 0 done; 2 bad usage, data or base; 4 stopped: the same command goes on; 1 unexpected error.
    """
    given = dict(locals())
    from luke_batch.training.settings import FinetuneConfig, checked

    settings = {name: given[name] for name in FinetuneConfig.model_fields if given[name] is not None}
    config = checked(**{**settings, "heads": tuple(head.value for head in heads)})
    from luke_batch.distributed.finetune import Resources
    from luke_batch.distributed.finetune import finetune as run

    resources = Resources(num_cpus, num_gpus, shared)
    show(run(train, output, config, dev, resources, address, quiet=quiet), quiet=quiet, json=json)


def show(found: "Finetuned", *, quiet: bool, json: bool) -> None:
    """A few lines, or training.json without its curve as one object."""
    from luke_batch.training.plan import RECORD

    record: dict[str, Any] = json_text.loads((found.output / RECORD).read_text(encoding="utf-8"))
    if json:
        told = {name: value for name, value in record.items() if name != "curve"}
        typer.echo(json_text.dumps({"output": str(found.output), **told}, ensure_ascii=False))
        return
    if quiet:
        return
    state = "was finished before; nothing to do" if found.was_there else "finished"
    typer.echo(f"{found.output}: {state} ({record['steps']} steps, {record['seconds']:.0f} s)")
    for name, head in found.plan.heads.items():
        typer.echo(f"{name}: {len(head.counts)} labels, {sum(head.counts.values())} in TRAIN")
    for name, figures in record["calibrated"].items():
        scores = figures["scores"]
        shown = {key: scores[key] for key in ("precision", "recall", "f1", "accuracy") if scores[key] is not None}
        listed = ", ".join(f"{key} {100 * value:.1f}" for key, value in shown.items())
        typer.echo(f"{name} on dev: {listed}; ECE {100 * figures['ece_after']:.1f}")
    for note in [*record["notes"], *filter(None, [record.get("span_scorer")])]:
        typer.echo(note)
    for reason, count in record["left_out"].items():
        typer.echo(f"examples left out: {reason}: {count}")
