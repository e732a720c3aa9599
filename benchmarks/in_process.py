"""The job without Ray: `python -m benchmarks.in_process INPUT OUTPUT`: Parquet in, annotated Parquet out.

Documents are read, annotated and written so many at a time as a fragment of the Ray job has, under the same
configuration.
"""

import argparse
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from luke_batch.annotate.annotator import Annotator
from luke_batch.config import JobConfig
from luke_batch.corpus.output_file import to_parquet


def annotate(input: Path, output: Path, config: JobConfig) -> None:
    """Annotate one Parquet file; a file of `output` for every `output.max_rows` documents."""
    output.mkdir(parents=True, exist_ok=True)
    annotator = Annotator.from_config(config)
    batches = pq.ParquetFile(input).iter_batches(config.output.max_rows)
    for number, batch in enumerate(batches):
        done = annotator.annotate(pa.Table.from_batches([batch]))
        content = to_parquet(done, config.output.compression)
        (output / f"{input.stem}-{number:05}.parquet").write_bytes(content)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.in_process", description=__doc__)
    parser.add_argument("input", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--config", default="{}", help="the job as JSON")
    arguments = parser.parse_args()
    annotate(arguments.input, arguments.output, JobConfig.model_validate_json(arguments.config))


if __name__ == "__main__":
    main()
