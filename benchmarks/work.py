"""The floating point operations that a window needs, without rows that no head reads."""

from luke_batch.model.files.checkpoint import Checkpoint
from luke_batch.model.inputs.windows import Window
from luke_batch.model.task import Task


def useful_flops(checkpoint: Checkpoint, task: Task, window: Window) -> float:
    """Multiplications and additions of all layers; the last one with the rows that `task` reads.

    Of NER all words count as read. Embeddings, norms, activations and heads are left out: below a percent.
    """
    words, entities = len(window.token_ids), len(window.entity_ids)
    rows = words + entities
    read = {Task.NER: rows, Task.TEXT: words}.get(task, entities)
    layers = checkpoint.setting("num_hidden_layers")
    return (layers - 1) * _layer(checkpoint, rows, rows, entities) + _layer(checkpoint, read, rows, entities)


def _layer(checkpoint: Checkpoint, read: int, rows: int, entities: int) -> float:
    hidden, inner = checkpoint.hidden_size, checkpoint.setting("intermediate_size")
    kinds = 2 if entities and checkpoint.entity_aware else 1
    keys_and_values = rows * 2 * hidden * hidden
    queries = read * kinds * hidden * hidden
    attention = read * rows * 2 * hidden
    after = read * (hidden * hidden + 2 * hidden * inner)
    return 2.0 * (keys_and_values + queries + attention + after)
