"""`totes plan` and `totes apply`: models that have changed, and the star made as they say."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from totes.cli.session import ConfigOption, DebugOption, JsonOption, Session, session, waiting
from totes.display import count, size

if TYPE_CHECKING:
    from totes.console import Console
    from totes.monitoring.plan import Plan, PlannedChange

_KINDS = {
    "new": "new table",
    "removed": "removed",
    "query": "another query",
    "columns": "other columns",
    "key": "another key",
}
_NOTHING = "Nothing to apply: the star is as the models say."


def plan(
    context: typer.Context,
    check: Annotated[
        bool, typer.Option("--check", help="Exit with 1 where something differs, for a CI job.")
    ] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Write Markdown, for a pull request.")] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Show what differs between the models and the star, and what `totes apply` would do; changes nothing.

    The source is not asked. Without --markdown or --json it is for people.
    """
    from totes.monitoring.plan import plan as planned

    with session(context, config, as_json, debug) as current:
        with waiting(current) as progress:
            progress("comparing the models with the star")
            found = planned(current.pipeline())
        current.show(found.as_json(), lambda out: _markdown(out, found) if markdown else _show(out, found))
        if check and found.changes:
            raise typer.Exit(1)


def apply(
    context: typer.Context,
    yes: Annotated[
        bool, typer.Option("--yes", help="Do not ask where a column, a table or digits are lost.")
    ] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Make the star as the models say, for all of history, whether the source has anything new or not."""
    from totes import engine
    from totes.errors import WouldLose
    from totes.monitoring.plan import plan as planned

    with session(context, config, as_json, debug) as current:
        pipeline = current.pipeline()
        with waiting(current) as progress:
            progress("comparing the models with the star")
            found = planned(pipeline)
        if found.obstacles:
            raise WouldLose(
                f"what others have made does not survive: {'; '.join(found.obstacles)}",
                hint="Drop it, or keep the columns; `totes plan` has the statements",
            )
        if found.loses and not yes and not _agreed(current, found):
            raise WouldLose(
                f"this loses {', '.join(found.loses)}",
                hint="`totes plan` shows it; `totes apply --yes` does it all the same",
            )
        with waiting(current) as progress, engine.faults():
            progress("computing history from the lake, and loading it")
            processed, loaded = pipeline.apply()
        document = {"applied": list(found.changes), "batch": loaded.batch, "loaded": loaded.rows}
        current.show(document, lambda out: _show_applied(out, found, loaded.rows, processed.batch))


def _agreed(current: Session, found: Plan) -> bool:
    """Asks whether what is lost may be lost, where somebody can answer."""
    if current.json or not (sys.stdin and sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    for lost in found.loses:
        typer.echo(f"This loses {lost}.", err=True)
    return typer.confirm("Apply it all the same?", err=True)


def _show(out: Console, found: Plan) -> None:
    if not found.changes:
        out.print(_NOTHING)
        return
    for name, planned in found.changes.items():
        out.print(f"{name}: {_KINDS[planned.change.kind]}", style="bold")
        for line in _lines(planned):
            out.print(f"  {line}")
    if found.unknown:
        out.print(f"What others have made on the warehouse's tables is not known: {found.unknown}")
    waiting_for_apply = [name for name, one in found.changes.items() if not one.by_run]
    if not waiting_for_apply:
        out.print("The next totes run makes this by itself; totes apply makes it now.")
    elif found.loses:
        out.print("totes apply --yes makes this; what is lost in the star stays in the lake.")
    else:
        out.print("totes apply makes this.")


def _lines(planned: PlannedChange) -> list[str]:
    """What there is to say of a change, a line each."""
    change = planned.change
    lines = [f"cannot be made: {planned.problem}"] if planned.problem else []
    lines += [f"adds {', '.join(change.added)}"] if change.added and change.kind != "new" else []
    lines += [f"renames {old} to {new}" for new, old in change.renamed.items()]
    lines += [f"retypes {name} from {old} to {new}" for name, (old, new) in change.retyped.items()]
    lines += [f"drops {', '.join(change.dropped)}"] if change.dropped else []
    lines += [f"changes: {note}" for note in change.notes]
    lines += [f"LOSES {lost}" for lost in change.loses]
    lines += [f"breaks {one.kind} {one.name} of others: {one.drop}" for one in planned.dependents]
    lines += (
        [f"rebuilds {', '.join(change.referrers)} too: their references may differ"]
        if change.referrers
        else []
    )
    lines += [f"reads {', '.join(planned.reads)}"] if planned.reads else []
    if change.kind != "removed":
        seconds = f", about {planned.seconds:,.0f} s" if planned.seconds is not None else ""
        versions = f", at most {count(planned.versions, 'version')}" if planned.versions is not None else ""
        lines.append(
            f"costs {count(planned.cost.rows, 'row')} ({size(planned.cost.bytes)}) of the lake{seconds}{versions}"
        )
    return lines


def _markdown(out: Console, found: Plan) -> None:
    """The plan as Markdown; of what a model or the source says, nothing is taken for markup."""
    if not found.changes:
        out.print(_NOTHING)
        return
    out.print("| table | change | rows read | loses |", soft_wrap=True)
    out.print("|---|---|--:|---|", soft_wrap=True)
    for name, planned in found.changes.items():
        cells = (_code(name), _KINDS[planned.change.kind], f"{planned.cost.rows:,}",
                 "; ".join(map(_code, planned.change.loses)) or "nothing")  # fmt: skip
        out.print(f"| {' | '.join(cells)} |", soft_wrap=True)
    for name, planned in found.changes.items():
        out.print()
        out.print(_code(name), soft_wrap=True)
        out.print()
        for line in _lines(planned):
            out.print(f"- {_code(line)}", soft_wrap=True)


def _code(text: str) -> str:
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * (longest + 1)
    return (
        f"{fence}{text}{fence}".replace("|", "\\|")
        if longest == 0
        else f"{fence} {text} {fence}".replace("|", "\\|")
    )


def _show_applied(out: Console, found: Plan, rows: dict[str, int], batch: int) -> None:
    if not found.changes:
        out.print(_NOTHING)
        return
    for name, planned in found.changes.items():
        loaded = f", {count(rows[name], 'row')} loaded" if name in rows else ""
        out.print(f"{name}: {_KINDS[planned.change.kind]}{loaded}")
    out.print(f"The warehouse is at batch {batch}, as the models say.")
