"""A stage of a job as a child process runs it: text stages, or the heads of a checkpoint."""

from collections.abc import Callable, Iterator

import pyarrow as pa

from luke_batch.annotate.annotator import ModelStage, model_stages
from luke_batch.annotate.preparation import Preparation
from luke_batch.config import JobConfig
from luke_batch.isolation.limits import limit_memory
from luke_batch.isolation.messages import StageOrder, from_stream, to_stream
from luke_batch.isolation.net import isolated, written_by
from luke_batch.model.engine.device import pick_device


class Stage:
    """A stage with the columns that it writes."""

    def __init__(self, order: StageOrder) -> None:
        """Load what it needs, within the memory that the order gives."""
        config = JobConfig.from_json(order.config)
        self._columns, self._vector = written_by(config, order.stage)
        spec = None if order.stage is None else model_stages(config)[order.stage]
        device = "cpu" if spec is None else pick_device(spec.model.device, order.gpu_assigned)
        if order.memory is not None and device == "cpu":
            limit_memory(order.memory)
        if spec is None:
            self.name = "segment"
            self._work: Callable[[pa.Table], pa.Table] = Preparation(config)
        else:
            self.name = config.heads[spec.heads[0]].head
            self._work = ModelStage(config, spec, device)

    def answers(self, request: bytes) -> Iterator[pa.Buffer]:
        """The annotated table of a stream; see `net.isolated`."""
        yield to_stream(isolated(self._work, from_stream(request), self._columns, self._vector, self.name))
