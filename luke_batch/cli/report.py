"""`luke-batch report`."""

from luke_batch.cli.options import Output


def report(output: Output) -> None:
    """Show the last run."""
    del output
