"""Where INPUT and OUTPUT may lie: asked before anything is written."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from luke_batch.base.errors import ConfigError, InputError, OutputError, UsageError
from luke_batch.base.problems import Problems
from luke_batch.config import EMBEDDED, AliasConfig, GazetteerConfig, JobConfig, OutputConfig
from luke_batch.corpus.storage import Storage
from luke_batch.model.files.fetch import is_relative as is_relative_model

_SUBMITTED = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Ray sets this variable for the entry point of a submitted job, and for nothing else."""


def check_absolute(input: str, output: str, config: JobConfig, environment: Mapping[str, str]) -> None:
    """Refuse relative paths in a submitted job: its working directory is an unpacked copy, removed
    afterwards.
    """
    kinds: tuple[tuple[str, str, type[UsageError]], ...] = (
        ("INPUT", input, InputError),
        ("OUTPUT", output, OutputError),
    )
    relative = list(kinds)
    models = {head.model: config.model_of(head).path for head in config.heads}
    relative += [(f"models.{name}.path", path, ConfigError) for name, path in models.items() if is_relative_model(path)]
    gazetteer = config.proposers.gazetteer
    if gazetteer is not None:
        relative.append(("proposers.gazetteer.path", gazetteer.path, ConfigError))
    aliases = config.proposers.aliases.path
    if config.uses_aliases and aliases != EMBEDDED:
        relative.append(("proposers.aliases.path", aliases, ConfigError))
    refuse_relative(relative, environment)


def refuse_relative(places: Sequence[tuple[str, str, type[UsageError]]], environment: Mapping[str, str]) -> None:
    """Raise the errors of all places (name, path, error) that are relative, in a submitted job."""
    if _SUBMITTED not in environment:
        return
    problems = Problems()
    for name, path, kind in places:
        if _is_relative(path):
            problems.add(
                kind(
                    f"{name} {path} is relative, but a submitted job runs in a temporary copy of its working"
                    " directory; give an absolute path or an s3:// URL"
                )
            )
    problems.raise_any()


def with_pinned_tables(config: JobConfig, hashes: Mapping[str, str]) -> JobConfig:
    """The same job for workers, whose working directory is another: the tables of names by absolute paths
    and by `hashes`, as from `table_hashes`. A worker that finds another content refuses it.
    """
    tables: dict[str, GazetteerConfig | AliasConfig] = {}
    for key, table in (("gazetteer", config.proposers.gazetteer), ("aliases", config.proposers.aliases)):
        if table is not None and key in hashes:
            fixed = table.path == EMBEDDED or not _is_relative(table.path)
            path = table.path if fixed else str(Path(table.path).absolute())
            tables[key] = table.model_copy(update={"path": path, "content_hash": hashes[key]})
    proposers = config.proposers.model_copy(update=tables)
    return config.model_copy(update={"proposers": proposers})


def check_reachable(source: Storage, output: Storage, config: OutputConfig, nodes: int) -> None:
    """Refuse local folders on a cluster of several nodes, unless the user says that all nodes see them."""
    if nodes <= 1 or config.shared:
        return
    kinds: tuple[tuple[str, Storage, type[UsageError]], ...] = (
        ("INPUT", source, InputError),
        ("OUTPUT", output, OutputError),
    )
    problems = Problems()
    for name, storage, kind in kinds:
        if storage.is_local:
            problems.add(
                kind(
                    f"{name} {storage.url} is a local path, but the cluster has {nodes} nodes; use an s3://"
                    " URL, or a folder that is mounted on every node together with --set output.shared=true"
                )
            )
    problems.raise_any()


def _is_relative(path: str) -> bool:
    return "://" not in path and not Path(path).expanduser().is_absolute()
