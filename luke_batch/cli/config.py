"""`luke-batch config`: the schema of the configuration, and the effective one."""

import json
import os

import typer
import yaml

from luke_batch.cli.options import Assignments, ConfigFile
from luke_batch.config import JobConfig
from luke_batch.config.loading import load_config

app = typer.Typer(help="Schema of the configuration, and the effective one.")


@app.command()
def schema() -> None:
    """Print the JSON schema of the configuration."""
    typer.echo(json.dumps(JobConfig.model_json_schema(), indent=2, ensure_ascii=False))


@app.command()
def show(config: ConfigFile = None, assignments: Assignments = None) -> None:
    """Print the effective configuration as YAML: file, environment and --set over the defaults."""
    settings = load_config(config, assignments or [], os.environ).model_dump(mode="json")
    typer.echo(yaml.safe_dump(settings, sort_keys=False, allow_unicode=True), nl=False)
