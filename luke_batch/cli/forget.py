"""`luke-batch forget`: erases documents from OUTPUTs and indexes, and looks whether anything is left."""

import json as json_text
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from luke_batch.cli.options import Address, Json, Quiet

_SHOWN = 5


def forget(
    targets: Annotated[
        list[str], typer.Argument(metavar="OUTPUT|INDEX…", help="OUTPUTs of `annotate`, and indexes built from them.")
    ],
    ids: Annotated[list[str] | None, typer.Option("--id", metavar="ID", help="A document; may be repeated.")] = None,
    file: Annotated[str | None, typer.Option("--ids", metavar="FILE", help="File with ids, one a line.")] = None,
    address: Address = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Erase documents: rows, dead letters, vectors, contexts, old versions. Then look through every file for them.

    Later runs leave the documents out, too. The source files are not touched. An index is built anew from its
    outputs.

    Exit codes: 0 nothing is left; 2 bad usage, or OUTPUT or INDEX cannot be used; 4 stopped, or something is left:
    the same command goes on; 1 unexpected error.
    """
    from luke_batch.base.errors import UsageError
    from luke_batch.config import OutputConfig
    from luke_batch.corpus.erasure import Erased, erase, look_through
    from luke_batch.corpus.lease import Lease
    from luke_batch.corpus.manifest import new_run_id
    from luke_batch.corpus.storage import Storage
    from luke_batch.corpus.traces import Traces
    from luke_batch.distributed.index import build_again
    from luke_batch.index.erasure import is_index, look_through_index

    wanted = {*(ids or []), *(_lines(file) if file is not None else [])}
    if not wanted:
        raise UsageError("no document is named: give --id ID, or --ids FILE with one id a line")
    outputs = [Storage.at(target) for target in targets if not is_index(target)]
    indexes = [target for target in targets if is_index(target)]
    whole = Erased()
    for output in outputs:
        with Lease(output, f"forget-{new_run_id(datetime.now(UTC))}", OutputConfig().lease_seconds) as lease:
            whole.add(erase(output, wanted, lease))
    for index in indexes:
        build_again(index, address)
    traces = Traces.of(wanted, whole.texts)
    look_through(outputs, traces)
    for index in indexes:
        look_through_index(index, traces)
    told = {**whole.counts(), "looked_through": traces.files, "left": traces.found}
    if json:
        typer.echo(json_text.dumps(told, ensure_ascii=False))
    elif not quiet:
        typer.echo(
            f"erased {whole.documents:,} documents and {whole.letters:,} dead letters; {whole.files:,} files were"
            f" replaced or removed, {len(indexes):,} indexes built anew"
        )
        typer.echo(
            f"looked through {traces.files:,} files for {len(wanted):,} ids and {len(traces.pieces):,} pieces of text"
        )
    _refuse_traces(traces.found)
    if not quiet and not json:
        typer.echo("nothing of them is left")


def _refuse_traces(found: Sequence[str]) -> None:
    from luke_batch.base.errors import IncompleteError

    if found:
        more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        raise IncompleteError(
            f"something is left in {', '.join(found[:_SHOWN])}{more}: name the OUTPUTs of that index along with"
            " it, or remove what no run has written, and run the same command again"
        )


def _lines(path: str) -> list[str]:
    from luke_batch.base.errors import UsageError

    try:
        return [line.strip() for line in Path(path).read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--ids {path} cannot be read: {error}") from error
