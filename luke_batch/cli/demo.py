"""`luke-batch demo`: the embedded corpus, annotated on local Ray with the default heads, and an excerpt."""

from pathlib import Path
from typing import Annotated

import typer

CORPUS = Path(__file__).parents[1] / "embedded" / "corpus.parquet"

_FRAGMENT_ROWS = 16
"""Small fragments keep every core of a laptop busy to the end, and the progress moving."""


def demo(
    output: Annotated[Path, typer.Option("--output", metavar="DIR", help="Folder of the annotated corpus.")] = Path(
        "demo-output"
    ),
) -> None:
    """Annotate the embedded corpus on local Ray and show an excerpt."""
    from rich.console import Console

    from luke_batch.cli.annotate import show, summarise
    from luke_batch.config import DEFAULT_MODEL, InputConfig, JobConfig, ModelConfig, OutputConfig
    from luke_batch.corpus.reader import read
    from luke_batch.distributed.run import annotate
    from luke_batch.model.engine.device import multiplies_bfloat16
    from luke_batch.report.excerpt import print_excerpt

    folder = output.absolute()
    config = JobConfig(
        input=InputConfig(lang_column="lang"),
        models={DEFAULT_MODEL: ModelConfig(precision="bfloat16" if multiplies_bfloat16() else "float32")},
        output=OutputConfig(max_rows=_FRAGMENT_ROWS),
    )
    summary = summarise(annotate(str(CORPUS), str(folder), config, "local"))
    if summary.missing:
        show(summary, quiet=False, json=False)
        raise typer.Exit(summary.exit_code)
    console = Console(highlight=False)
    print_excerpt(read(str(folder)).to_table(), console, text="text", lang="lang", title="title")
    console.print()
    show(summary, quiet=False, json=False)
    files = f"{folder}/data/**/*.parquet"
    console.print(f"\nThe annotated corpus is a dataset of Parquet files: {files}", markup=False, soft_wrap=True)
    raise typer.Exit(summary.exit_code)
