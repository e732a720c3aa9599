"""`luke-batch evaluate`: annotated documents against gold ones."""

import json as json_text
from typing import Annotated, Literal

import typer

from luke_batch.cli.options import Json


def evaluate(
    gold: Annotated[
        str, typer.Argument(metavar="GOLD", help="Parquet file, folder or glob with the right annotation, or s3://…")
    ],
    annotated: Annotated[
        str, typer.Argument(metavar="ANNOTATED", help="OUTPUT of `annotate`, or Parquet with the same columns.")
    ],
    task: Annotated[Literal["ner", "types", "relations", "links"], typer.Option("--task", help="What to score.")],
    labels: Annotated[
        list[str] | None,
        typer.Option(
            "--labels",
            metavar="LABEL,…",
            help="Labels to score, with commas between them; may be repeated. Without it those of GOLD.",
        ),
    ] = None,
    id_column: Annotated[
        str, typer.Option("--id-column", metavar="NAME", help="Column that both have, and are joined by.")
    ] = "id",
    text_column: Annotated[str, typer.Option("--text-column", metavar="NAME", help="Column with the text.")] = "text",
    resamples: Annotated[
        int, typer.Option("--resamples", min=0, help="Bootstrap resamples for the intervals; 0: no intervals.")
    ] = 1000,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the resamples.")] = 0,
    json: Json = False,
) -> None:
    """Score annotated documents against gold ones: precision, recall, F1, accuracy, confidence intervals.

    Exit codes: 0 done; 2 bad usage, or GOLD or ANNOTATED cannot be used; 1 unexpected error.
    """
    from luke_batch.evaluation.evaluate import evaluate as run

    result = run(
        gold,
        annotated,
        task,
        labels or [],
        id_column=id_column,
        text_column=text_column,
        resamples=resamples,
        seed=seed,
    )
    if json:
        typer.echo(json_text.dumps(result.to_dict(), ensure_ascii=False))
        return
    from rich.console import Console

    from luke_batch.evaluation.summary import print_evaluation

    print_evaluation(result, Console(highlight=False))
