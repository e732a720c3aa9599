"""A checkpoint with its engine and resources."""

from typing import Annotated, Literal

from pydantic import Field

from luke_batch.base.section import EMBEDDED, Section

DEFAULT_MODEL = "main"

Precision = Literal["auto", "float32", "bfloat16", "float16"]


class ModelConfig(Section):
    """A checkpoint with its engine and resources."""

    path: str = EMBEDDED
    """`embedded`, a hub id (`id` or `id@revision`), a folder or `s3://…`."""
    engine: Literal["fast", "transformers"] = "fast"
    """Which implementation runs the forward pass. Both give the same within float tolerance; transformers is
    the reference, and runs activations other than gelu.
    """
    precision: Precision = "auto"
    """Of the products. auto: bfloat16 on CPUs with AVX512-BF16 or AMX (on GPUs without it float16), where a
    trial on documents of INPUT gives the same labels; else float32, and in a corpus under half a megabyte.
    """
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: the GPU that Ray assigned to the actor, else the CPU."""
    max_tokens: Literal["auto"] | Annotated[int, Field(ge=512)] = "auto"
    """Budget of a batch: words and entities together (engine transformers: padding too). auto: 768, and on
    GPUs as many as half of the free memory holds.
    """
    actors: Literal["auto"] | Annotated[int, Field(ge=1)] = "auto"
    """Size of the actor pool; auto: as many as the cluster's CPUs (or GPUs) hold."""
    num_cpus: float = Field(default=1, ge=0)
    """CPUs that Ray reserves for each actor."""
    num_gpus: float = Field(default=0, ge=0)
    """GPUs that Ray reserves for each actor; fractions share one GPU."""
    add_prefix_space: bool | None = None
    """Overrides the tokenizer's own `add_prefix_space`."""
    weights_hash: str | None = None
    """Content hash that the checkpoint must have, as in a run's manifest; null: any. A run tells it to its
    workers, so that all of them load what was planned.
    """
