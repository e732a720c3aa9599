"""A loaded checkpoint as an actor: Arrow tables in, annotated Arrow tables out."""

import os
import sys

import pyarrow as pa
import ray

from luke_batch.annotator import ModelStage, model_stages
from luke_batch.columns import output_columns
from luke_batch.config import JobConfig
from luke_batch.distributed import wire
from luke_batch.distributed.isolation import isolated
from luke_batch.errors import DeviceError
from luke_batch.model.device import pick_device


class TableActor:
    """One model stage of a job; loads its checkpoint when it starts."""

    def __init__(self, config: JobConfig, stage: int) -> None:
        spec = model_stages(config)[stage]
        # The actors are the parallelism: further threads would fight over the same cores. Torch and the
        # tokenizer read these variables when they are loaded, which happens below.
        os.environ["OMP_NUM_THREADS"] = str(max(1, round(spec.model.num_cpus)))
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        device = pick_device(spec.model.device, gpu_assigned())
        self._columns = output_columns(config)
        self._name = config.heads[spec.heads[0]].head
        self._stage = ModelStage(config, spec, device)

    def __call__(self, table: pa.Table) -> pa.Table:
        """Run the heads over a prepared table. A process whose GPU is lost ends, as after a crash: Ray starts
        another in its place, which tries the table again.
        """
        try:
            return isolated(self._stage, table, self._columns, self._stage.vector, self._name)
        except DeviceError as error:
            sys.stderr.write(f"{error}\n")
            sys.stderr.flush()
            os._exit(1)  # SystemExit would be caught on its way, or taken for an end that was wanted


class ItemActor(TableActor):
    """The same for rows of `wire`: one work item each."""

    def __call__(self, row: pa.Table) -> pa.Table:
        """Annotate the table inside a row."""
        return wire.replace_table(row, super().__call__(wire.decode_table(row)))


def gpu_assigned() -> bool:
    """Whether Ray assigned a GPU, or a part of one, to this worker."""
    return bool(ray.get_runtime_context().get_accelerator_ids().get("GPU"))
