"""The whole of the annotation on Arrow tables, in one process and without Ray: prepare -> model stages.

The distributed pipeline runs the same functions, each in its own kind of worker.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import pyarrow as pa

from luke_batch.annotate.preparation import Preparation
from luke_batch.base import meters
from luke_batch.base.errors import FragmentError, InputError
from luke_batch.base.problems import Problems
from luke_batch.config import JobConfig, ModelConfig
from luke_batch.corpus.checks import check_source
from luke_batch.document.columns import ERROR, drop_internal, read_documents, set_column, write_documents
from luke_batch.document.source import rename_collisions
from luke_batch.heads.registry import build_head, head_class
from luke_batch.heads.run import run_head
from luke_batch.model.engine.device import pick_device
from luke_batch.model.engine.engine import LoadEngine, load_engine
from luke_batch.model.files.checkpoint import Checkpoint, resolve, resolve_model
from luke_batch.model.files.fit import check_fit, longest_window
from luke_batch.model.inputs.tokenizer import Tokenizer
from luke_batch.model.inputs.windows import InputBuilder


@dataclass(frozen=True, slots=True)
class StageSpec:
    """Consecutive heads on one checkpoint: they share an actor pool and one loaded model."""

    name: str
    model: ModelConfig
    heads: tuple[int, ...]


def model_stages(config: JobConfig) -> list[StageSpec]:
    """The stages of a job, in the order of its heads."""
    stages: list[StageSpec] = []
    for number, head in enumerate(config.heads):
        model = config.model_of(head)
        if stages and stages[-1].model == model:
            stages[-1] = StageSpec(stages[-1].name, model, (*stages[-1].heads, number))
        else:
            stages.append(StageSpec(head.model, model, (number,)))
    return stages


def check_models(config: JobConfig) -> dict[str, Checkpoint]:
    """Resolve every checkpoint in use and check it against the heads that use it: labels, tokenizer, and the
    names and shapes of all weights. Before any work, and without torch.

    The checkpoints by their paths in `config`. Raises CheckpointError or ConfigError, or PreflightError with
    the problems of several checkpoints and heads.
    """
    found: dict[str, Checkpoint] = {}
    problems = Problems()
    for spec in model_stages(config):
        with problems.noted():
            found[spec.model.path] = _check_model(config, spec)
    problems.raise_any()
    return found


def _check_model(config: JobConfig, spec: StageSpec) -> Checkpoint:
    checkpoint = resolve_model(spec.model)
    heads = [config.heads[number] for number in spec.heads]
    for head in heads:
        head_class(head).require(head, checkpoint)
    problems = Problems()
    for head in heads:
        with problems.noted():
            head_class(head).check(head, checkpoint)
    problems.raise_any()
    tokenizer = Tokenizer.load(checkpoint.folder, spec.model.add_prefix_space)
    predicted = {name for head in heads for name in head.predicts}
    titles = any(head.needs_titles for head in heads)
    tasks = {task for head in heads for task in head_class(head).tasks(head, checkpoint)}
    check_fit(checkpoint, tokenizer, tasks, predicted, titles=titles, engine=spec.model.engine)
    return checkpoint


def pinned(config: JobConfig, found: Mapping[str, Checkpoint]) -> JobConfig:
    """The same job for other processes: checkpoints by commits, absolute folders and content hashes.

    `found` as from `check_models`. A ModelStage that finds something else refuses it.
    """

    def pin(model: ModelConfig) -> ModelConfig:
        checkpoint = found[model.path]
        return model.model_copy(update={"path": checkpoint.pinned, "weights_hash": checkpoint.weights_hash})

    return config.with_models(pin)


def vector_type(config: JobConfig) -> pa.DataType | None:
    """The fixed_size_list type of the embedding columns; None where no head writes one."""
    for head in config.heads:
        if head.vectors is not None:
            size = resolve(config.model_of(head).path).hidden_size
            return pa.list_(pa.float32() if head.vectors == "float32" else pa.float16(), size)
    return None


class ModelStage:
    """One loaded checkpoint with its heads; CheckpointError where it is not the one that was pinned."""

    def __init__(self, config: JobConfig, spec: StageSpec, device: str, load: LoadEngine = load_engine) -> None:
        checkpoint = resolve_model(spec.model)
        tokenizer = Tokenizer.load(checkpoint.folder, spec.model.add_prefix_space)
        builder = InputBuilder(tokenizer, longest_window(checkpoint, tokenizer))
        heads = [config.heads[number] for number in spec.heads]
        tasks = {task for head in heads for task in head_class(head).tasks(head, checkpoint)}
        self._heads = [build_head(head, config.proposers, checkpoint, builder) for head in heads]
        self._engine = load(spec.model, checkpoint, tasks, device)
        self._device = device
        self._text_column = config.input.text_column
        self._columns = config.columns
        self._source_columns = {column.name for head in heads for column in head.source_columns}
        self._vector = vector_type(config)

    def __call__(self, table: pa.Table) -> pa.Table:
        """Run the heads over a prepared table; its annotation columns are written anew."""
        with meters.spending("build"):
            documents = read_documents(table, self._text_column, self._columns, self._source_columns)
        for head in self._heads:
            run_head(head, documents, self._engine, self._device)
        with meters.spending("decode"):
            return write_documents(table, documents, self._columns, self._vector)


def with_error(annotated: pa.Table) -> pa.Table:
    """Drop what the stages told one another, and append `error`: struct<stage, error_class, message>,
    null for a good row.
    """
    return set_column(drop_internal(annotated), "error", annotated[ERROR].combine_chunks())


class Annotator:
    """Annotates Arrow tables in this process. Build it with `from_config`."""

    def __init__(self, config: JobConfig, preparation: Preparation, stages: Sequence[ModelStage]) -> None:
        self._config = config
        self._preparation = preparation
        self._stages = stages

    @classmethod
    def from_config(cls, config: JobConfig) -> Self:
        """Load every checkpoint of `config`. Raises a UsageError where one, or the configuration, cannot
        be used.
        """
        check_models(config)
        stages = model_stages(config)
        loaded = [ModelStage(config, spec, pick_device(spec.model.device, gpu_assigned=False)) for spec in stages]
        return cls(config, Preparation(config), loaded)

    def annotate(self, table: pa.Table) -> pa.Table:
        """`table` with its annotation columns and `error`.

        A row that fails keeps null annotations and says why in `error` (struct<stage, error_class,
        message>, null elsewhere). Raises InputError where a column that the job reads is missing or of
        another type; ids are not read.
        """
        try:
            check_source(table.schema, self._config, "the table", ids=False)
        except FragmentError as error:
            raise InputError(str(error)) from None
        written = {*self._config.columns, "error"}
        annotated = self._preparation(rename_collisions(table, written))
        for stage in self._stages:
            annotated = stage(annotated)
        return with_error(annotated)
