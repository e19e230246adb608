"""`totes init`: a first project for any PostgreSQL database, from what its catalog says."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from totes.cli.overwriting import check_overwriting
from totes.cli.session import DebugOption, JsonOption, session, waiting

if TYPE_CHECKING:
    from totes.console import Console
    from totes.scaffold.project import Proposal


def init(
    context: typer.Context,
    url: Annotated[
        str, typer.Argument(metavar="URL", help="The source: a PostgreSQL URL, or secretsmanager:NAME.")
    ],
    folder: Annotated[
        Path, typer.Argument(metavar="[DIR]", help="The project's folder; the working directory by default.")
    ] = Path(),
    schema: Annotated[
        str | None,
        typer.Option("--schema", help="The schema; public by default, or the only one that has tables."),
    ] = None,
    tables: Annotated[
        list[str] | None,
        typer.Option(
            "--tables",
            help="Tables, as names or patterns such as 'sales_*'; may be given again. All by default.",
        ),
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Write over files that are there, without asking.")
    ] = False,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Make a project for a database: settings, a role's statements, and a model a table. It runs and verifies as it is.

    It reads the database's catalog, and of tables with dates or numbers without limits the first rows.
    """
    from totes.output_files import write
    from totes.redaction import register_secret
    from totes.scaffold.folder import check_others
    from totes.scaffold.project import propose
    from totes.scaffold.settings import check_url
    from totes.scaffold.summary import summary
    from totes.secrets import resolve_secret

    with session(context, None, as_json, debug) as current:
        register_secret(url)
        patterns = tuple(one.strip() for each in tables or () for one in each.split(",") if one.strip())
        check_url(url)
        known = resolve_secret(url, "URL")
        with waiting(current) as progress:
            proposal = propose(known, url, schema, patterns, progress)
        others = check_others(folder, proposal.files)
        check_overwriting(current, folder, proposal.files, yes=yes)
        write(folder, proposal.files)
        lines = summary(proposal, folder, url, others)
        current.show(_document(proposal, folder), lambda out: _show(out, lines))


def _show(out: Console, lines: list[str]) -> None:
    for line in lines:
        out.print(line)


def _document(proposal: Proposal, folder: Path) -> dict[str, object]:
    return {
        "folder": str(folder),
        "files": sorted(proposal.files),
        "models": {
            draft.name: {"kind": draft.kind.name.lower(), "table": draft.table} for draft in proposal.drafts
        },
        "joined": proposal.plan.folded,
        "left_out": {name: one.reason for name, one in sorted(proposal.catalog.left_out.items())},
    }
