"""`totes plan` and `totes apply`: show how changed models differ from the star, and bring the star in line with them."""

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
    from totes.pipeline import Pipeline

_KINDS = {
    "new": "new table",
    "removed": "removed",
    "query": "another query",
    "columns": "other columns",
    "key": "another key",
}
_NOTHING = "Nothing to apply: the star is as its models declare it."


def plan(
    context: typer.Context,
    check: Annotated[
        bool, typer.Option("--check", help="Exit with 1 if something differs, for a CI job.")
    ] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Write Markdown, for a pull request.")] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Show what differs between the models and the star, and what `totes apply` would do; changes nothing.

    The source is not read. Without --markdown or --json the output is for people.
    """
    with session(context, config, as_json, debug) as current:
        found = _planned(current, current.pipeline())
        current.show(found.as_json(), lambda out: _markdown(out, found) if markdown else _show(out, found))
        if check and found.changes:
            raise typer.Exit(1)


def apply(
    context: typer.Context,
    yes: Annotated[
        bool, typer.Option("--yes", help="Do not ask before a column, a table or digits are lost.")
    ] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Apply changed models to the star, for all of history, whether the source has anything new or not."""
    from totes import engine
    from totes.errors import WouldLose

    with session(context, config, as_json, debug) as current:
        pipeline = current.pipeline()
        found = _planned(current, pipeline)
        if found.obstacles:
            raise WouldLose(
                f"objects of others depend on the tables: {'; '.join(found.obstacles)}",
                hint="Drop them, or retain the columns; `totes plan` has the statements",
            )
        if found.loses and not yes and not _agreed(current, found):
            raise WouldLose(
                f"this loses {', '.join(found.loses)}",
                hint="`totes plan` shows it; `totes apply --yes` does it anyway",
            )
        with waiting(current) as progress, engine.faults():
            progress("computing history from the lake, and loading it")
            processed, loaded = pipeline.apply()
        document = {"applied": list(found.changes), "batch": loaded.batch, "loaded": loaded.rows}
        current.show(document, lambda out: _show_applied(out, found, loaded.rows, processed.batch))


def _planned(current: Session, pipeline: Pipeline) -> Plan:
    from totes.monitoring.plan import plan as planned

    with waiting(current) as progress:
        progress("comparing the models with the star")
        return planned(pipeline)


def _agreed(current: Session, found: Plan) -> bool:
    """Asks for confirmation of what would be lost, if somebody can answer."""
    if current.json or not (sys.stdin and sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    for lost in found.loses:
        typer.echo(f"This loses {lost}.", err=True)
    return typer.confirm("Apply it anyway?", err=True)


def _show(out: Console, found: Plan) -> None:
    if not found.changes:
        out.print(_NOTHING)
        return
    for name, planned in found.changes.items():
        out.print(f"{name}: {_KINDS[planned.change.kind]}", style="bold")
        for line in _lines(planned):
            out.print(f"  {line}")
    if found.unknown:
        out.print(f"Whether objects of others depend on the warehouse's tables is not known: {found.unknown}")
    waiting_for_apply = [name for name, one in found.changes.items() if not one.by_run]
    if not waiting_for_apply:
        out.print("The next totes run applies this by itself; totes apply does it now.")
    elif found.loses:
        out.print("totes apply --yes applies this; what is lost in the star stays in the lake.")
    else:
        out.print("totes apply applies this.")


def _lines(planned: PlannedChange) -> list[str]:
    """The lines that describe a change."""
    change = planned.change
    lines = [f"cannot be applied: {planned.problem}"] if planned.problem else []
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
    """Prints the plan as Markdown; text from models and the source is escaped."""
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
    out.print(f"The warehouse is at batch {batch}, as its models declare it.")
