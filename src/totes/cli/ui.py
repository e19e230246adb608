"""`totes ui`: the pipeline, the star and any row's history in a browser."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from totes.cli.session import ConfigOption, DebugOption, JsonOption, Session, session
from totes.display import count

if TYPE_CHECKING:
    from totes.ui.desk import Desk

_NEEDED = ("jinja2", "starlette", "uvicorn")


def ui(
    context: typer.Context,
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="The port; 0 takes one that is free.")
    ] = 8765,
    host: Annotated[
        str,
        typer.Option(
            "--host", help="The address to listen on; on another than loopback a token is required."
        ),
    ] = "127.0.0.1",
    no_open: Annotated[bool, typer.Option("--no-open", help="Do not open a browser.")] = False,
    export: Annotated[
        Path | None,
        typer.Option(
            "--export",
            metavar="DIR",
            help="Write the pages that need no server, without any row's values, into a new or empty folder instead.",
        ),
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Show the pipeline, the star and any row's history in a browser; changes nothing but by a retry of quarantine.

    Needs the extra `ui`. Runs until it is stopped.
    """
    from totes.errors import ConfigurationError

    with session(context, config, as_json, debug) as current:
        if missing := [name for name in _NEEDED if find_spec(name) is None]:
            raise ConfigurationError(
                f"totes ui needs {', '.join(missing)}", hint="Install the extra: pip install 'totes[ui]'"
            )
        from totes.ui.desk import Desk, SharedPipeline

        desk = Desk(SharedPipeline(current.pipeline().settings))
        _ = desk.pipeline.project  # a project that is wrong is wrong for every page
        if export is not None:
            _export(current, desk, export)
            return
        from totes.ui.server import serve

        serve(desk, host, port, lambda url, warning: _announce(current, url, warning, not no_open))


def _export(current: Session, desk: Desk, folder: Path) -> None:
    from totes.ui.export import export_site

    written = export_site(desk, folder)
    document = {"folder": str(folder), "files": written}
    current.show(
        document,
        lambda out: out.print(f"{count(len(written), 'file')} written to {folder}: open index.html."),
    )


def _announce(current: Session, url: str, warning: str, wants_browser: bool) -> None:
    # The address is for the person at this terminal, token and all, and not for a log.
    if current.json:
        current.show({"url": url}, lambda _: None)
    else:
        typer.echo(f"The pipeline is at {url}")
        typer.echo("Ctrl-C stops it.")
    if warning:
        typer.echo(f"warning: {warning}", err=True)
    sys.stdout.flush()
    if wants_browser and sys.stdout.isatty():
        import webbrowser

        webbrowser.open(url)
