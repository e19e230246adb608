"""`totes dashboards`: what Superset imports to start from a star."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from totes.cli.overwriting import check_overwriting
from totes.cli.session import ConfigOption, DebugOption, JsonOption, session
from totes.display import count

if TYPE_CHECKING:
    from totes.console import Console


def dashboards(
    context: typer.Context,
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="The folder for the files; made if it is not there.")
    ],
    warehouse: Annotated[
        str | None,
        typer.Option(
            "--warehouse",
            metavar="URL",
            help="The warehouse as Superset reaches it; that of warehouse.url by default.",
        ),
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Write over files that are there, without asking.")
    ] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Write what Superset imports to start from the star: a dataset a table, with joins, metrics and descriptions.

    Dashboards that stand beside the models, in `dashboards/`, come with them. No file has a password in it.
    """
    from totes.dashboards.assets import assets
    from totes.output_files import write
    from totes.redaction import register_secret
    from totes.secrets import resolve_secret

    with session(context, config, as_json, debug) as current:
        pipeline = current.pipeline()
        settings = pipeline.settings
        if warehouse is not None:
            register_secret(warehouse)
            url = resolve_secret(warehouse, "--warehouse")
        else:
            url = settings.warehouse_url()
        files = assets(pipeline.project, url, settings.warehouse.schema_, settings.base)
        check_overwriting(current, folder, files, yes=yes)
        write(folder, files)
        document = {"folder": str(folder), "files": sorted(files)}
        current.show(document, lambda out: _show(out, folder, files))


def _show(out: Console, folder: Path, files: dict[str, str]) -> None:
    kinds = {"dataset": "datasets/", "chart": "charts/", "dashboard": "dashboards/"}
    made = {kind: sum(name.startswith(prefix) for name in files) for kind, prefix in kinds.items()}
    shown = ", ".join(count(number, kind) for kind, number in made.items() if number)
    place, name = shlex.quote(str(folder)), folder.absolute().name
    out.print(f"{folder} has {shown}, as Superset imports them.")
    out.print()
    out.print("Next, where Superset runs:")
    out.print(f"  superset import-directory {place} --overwrite")
    out.print("or as a file, on its pages of datasets and dashboards:")
    out.print(f"  python3 -m zipfile -c {shlex.quote(f'{name}.zip')} {place}")
