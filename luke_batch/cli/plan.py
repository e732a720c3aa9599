"""`luke-batch plan`: what `annotate` would do now."""

import json as json_text
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import typer

from luke_batch.cli.annotate import settings_or_problems
from luke_batch.cli.options import Address, Assignments, ConfigFile, ConfirmVanished, Input, Json, Output, Quiet, Where

if TYPE_CHECKING:
    from luke_batch.corpus.lease import Holder
    from luke_batch.corpus.manifest import Forecast
    from luke_batch.corpus.plan import Plan
    from luke_batch.corpus.vanished import Vanished

_BAD_SHOWN = 5
_TODO = ("new", "changed", "stale")


def plan(
    input: Input,
    output: Output,
    config: ConfigFile = None,
    assignments: Assignments = None,
    where: Where = None,
    address: Address = None,  # noqa: ARG001 - the options of `annotate` are legal here, too
    confirm_vanished: ConfirmVanished = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Show what `annotate` with the same options would do; nothing is written, and no cluster is asked.

    Exit codes: 0 the plan is made, whatever there is to do; 2 bad usage, configuration or input, which
    `annotate` would refuse as well; 4 `annotate` would stop, as more of OUTPUT has vanished from INPUT than
    output.vanished_limit; 1 unexpected error.
    """
    settings = settings_or_problems(input, output, config, assignments)
    from luke_batch.corpus.lease import running
    from luke_batch.corpus.manifest import forecast
    from luke_batch.corpus.vanished import find_vanished
    from luke_batch.distributed.planning import prepare

    made = prepare(input, output, settings, where or []).plan
    holder, expected = running(made.output), forecast(made)
    vanished = find_vanished(made)
    if json:
        figures = {"vanished": None if vanished is None else vanished.figures()}
        typer.echo(json_text.dumps(_as_json(made, expected, holder) | figures, ensure_ascii=False))
    elif not quiet:
        _show(made, expected, holder, vanished)
    if vanished is not None and not confirm_vanished:
        vanished.refuse()


def _as_json(plan: "Plan", expected: "Forecast | None", holder: "Holder | None") -> dict[str, Any]:
    from luke_batch.corpus.manifest import without_secrets

    todo = [plan.tallies[state] for state in _TODO]
    return {
        "output": without_secrets(plan.output.url),
        "fingerprint": plan.fingerprint,
        "where": {key: sorted(values) for key, values in plan.where.wanted.items()},
        "states": {state: asdict(tally) for state, tally in plan.tallies.items()},
        "todo": {name: sum(getattr(tally, name) for tally in todo) for name in asdict(todo[0])},
        "work_items": len(plan.items),
        "nothing_to_do": plan.nothing_to_do,
        "on_vanished": plan.on_vanished,
        "bad": [{"path": bad.path, "message": bad.message} for bad in plan.bad],
        "forecast": None if expected is None else asdict(expected),
        "running": None if holder is None else {"run_id": holder.run_id, "host": holder.host},
    }


def _show(plan: "Plan", expected: "Forecast | None", holder: "Holder | None", vanished: "Vanished | None") -> None:
    from luke_batch.report.wording import size

    typer.echo(f"{'':<10}{'files':>12}{'fragments':>12}{'documents':>14}{'bytes':>12}")
    for state, tally in plan.tallies.items():
        if tally.files or state in (*_TODO, "done"):
            counts = f"{tally.files:>12,}{tally.fragments:>12,}{tally.rows:>14,}"
            typer.echo(f"{state:<10}{counts}{size(tally.bytes):>12}")
    for bad in plan.bad[:_BAD_SHOWN]:
        typer.echo(f"bad: {bad.message}")
    if len(plan.bad) > _BAD_SHOWN:
        typer.echo(f"bad: and {len(plan.bad) - _BAD_SHOWN:,} more")
    if plan.tallies["vanished"].files:
        fate = "removed at the end of a complete run" if plan.on_vanished == "prune" else "kept"
        typer.echo(f"vanished: outputs are {fate} (output.on_vanished)")
    if vanished is not None and vanished.fresh:
        typer.echo(f"WARNING: {vanished.words}")
    if holder is not None:
        typer.echo(f"in use: {holder.describe()}")
    typer.echo(_verdict(plan, expected))


def _verdict(plan: "Plan", expected: "Forecast | None") -> str:
    from luke_batch.report.wording import duration

    documents = sum(item.rows for item in plan.items)
    if not plan.items:
        return "nothing to do" if plan.nothing_to_do else "nothing to annotate; bad files will be reported"
    work = f"to do: {documents:,} documents in {len(plan.items):,} work items"
    if expected is None:
        return f"{work}; no forecast, as no finished run has annotated anything in OUTPUT"
    same = "" if expected.same_fingerprint else ", which had another model or settings"
    return (
        f"{work}; about {duration(expected.seconds)} at the {expected.documents_per_second:,.2g} documents a"
        f" second of run {expected.run_id} ({expected.documents:,} documents, start-up included{same})"
    )
