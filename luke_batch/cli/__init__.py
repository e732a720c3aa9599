"""The command line: arguments to functions, errors to one line and an exit code.

Commands import what they run when they run it, so that `--help` and `config show` load neither torch nor Ray.
"""

import json
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated

import typer
import yaml

from luke_batch import __version__
from luke_batch.base.errors import IncompleteError, LukeBatchError, PreflightError, UsageError
from luke_batch.cli import (
    aliases,
    annotate,
    estimate,
    evaluate,
    finetune,
    forget,
    index,
    models,
    output,
    plan,
)
from luke_batch.cli.options import Assignments, ConfigFile
from luke_batch.config import JobConfig
from luke_batch.config.loading import load_config

_INTERRUPTED = 130
"""What typer makes of Ctrl-C."""

app = typer.Typer(
    name="luke-batch",
    help="Entity-aware annotation of Parquet corpora with LUKE and mLUKE on Ray.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
configuration = typer.Typer(help="Schema of the configuration, and the effective one.")
app.command("annotate")(annotate.annotate)
app.command("plan")(plan.plan)
app.command("estimate")(estimate.estimate)
app.command("replay")(annotate.replay)
app.command("compact")(output.compact)
app.command("forget")(forget.forget)
app.command("report")(output.report)
app.command("explain")(output.explain)
app.command("demo")(annotate.demo)
app.command("evaluate")(evaluate.evaluate)
app.command("finetune")(finetune.finetune)
app.add_typer(configuration, name="config")
app.add_typer(models.app, name="models")
app.add_typer(aliases.app, name="aliases")
app.add_typer(index.app, name="index")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and exit with its code (see `luke_batch.base.errors`)."""
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: Sequence[str]) -> int:
    """Run a command; its exit code."""
    debug = "--debug" in arguments or os.environ.get("LUKE_BATCH_DEBUG", "") not in ("", "0")
    # Legal anywhere on the line, and of no concern to any command.
    arguments = [argument for argument in arguments if argument != "--debug"] or ["--help"]
    try:
        code = app(arguments, prog_name="luke-batch", standalone_mode=False)
    except typer.TyperException as error:
        return _fail(f"{error.format_message()} (see `luke-batch --help`)", UsageError.exit_code)
    except LukeBatchError as error:
        if debug:
            traceback.print_exc()
        for problem in error.problems if isinstance(error, PreflightError) else (error,):
            _fail(str(problem), error.exit_code)
        return error.exit_code
    except typer.Abort:
        return _fail("stopped", IncompleteError.exit_code)
    except Exception as error:
        if debug:
            traceback.print_exc()
        what = " ".join(f"{type(error).__name__}: {error}".split())
        return _fail(f"unexpected {what}" + ("" if debug else "; --debug shows where"), 1)
    if code == _INTERRUPTED:
        return _fail("stopped; run the same command again to go on", IncompleteError.exit_code)
    return int(code or 0)


def _fail(message: str, code: int) -> int:
    """One line, also where a library's message inside has several."""
    line = " ".join(message.splitlines())
    print(f"error: {line}", file=sys.stderr)  # noqa: T201 - this is the command line
    return code


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"luke-batch {__version__}")
        raise typer.Exit


@app.callback()
def _options(  # pyright: ignore[reportUnusedFunction]: typer calls it
    debug: Annotated[bool, typer.Option("--debug", help="Print a traceback with an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Entity-aware annotation of Parquet corpora with LUKE and mLUKE on Ray."""


@configuration.command()
def schema() -> None:
    """Print the JSON schema of the configuration."""
    typer.echo(json.dumps(JobConfig.model_json_schema(), indent=2, ensure_ascii=False))


@configuration.command()
def show(config: ConfigFile = None, assignments: Assignments = None) -> None:
    """Print the effective configuration as YAML: file, environment and --set over the defaults."""
    settings = load_config(config, assignments or [], os.environ).model_dump(mode="json")
    typer.echo(yaml.safe_dump(settings, sort_keys=False, allow_unicode=True), nl=False)
