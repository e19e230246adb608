"""Makes the pictures of the docs: TerrificTotes trades for a while, and Chromium shows what became of it.

`python -m tests.ui.pictures` writes docs/pictures; with `--keep DIR` it also leaves the pipeline there, to look at.
"""

from __future__ import annotations

import argparse
import random
import shutil
import subprocess
import sys
import tempfile
from importlib import resources
from pathlib import Path

import psycopg

from tests import processes
from tests.conftest import run_cleanly
from tests.ui import chromium
from tests.ui.site import Site, write_settings
from totes import log
from totes.config import load_settings
from totes.monitoring.alerts import watch
from totes.monitoring.verdict_file import write_verdict
from totes.monitoring.verification import verify
from totes.pipeline import Pipeline
from totes.terrifictotes import demo_source
from totes.terrifictotes.server import LocalServer

PICTURES = Path(__file__).parents[2] / "docs" / "pictures"
ORDERS, BATCHES = 3000, 40
# By name of the picture: the page, the width and the height of the window, and the colours.
SHOWN = {
    "pipeline": ("/", 1180, 900, "light"),
    "star": ("/star", 1180, 880, "light"),
    "lineage": ("/star/dim_staff", 1180, 820, "light"),
    "rows": ("/rows/fact_sales_order?sort=-unit_price&f.units_sold=%3E3000", 1180, 620, "dark"),
    "history": ("/history/fact_sales_order?key={order}", 1180, 760, "light"),
    "quarantine": ("/quarantine", 1180, 420, "light"),
    "plan": ("/plan", 1180, 460, "dark"),
    "phone": ("/", 390, 780, "dark"),
}


def main() -> None:
    """Makes the pictures."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--keep", type=Path)
    arguments.add_argument("--into", type=Path, default=PICTURES)
    wished = arguments.parse_args()
    if why := chromium.missing():
        sys.exit(f"no pictures: {why}")
    log.configure(terminal=False)
    processes.start_server()
    with tempfile.TemporaryDirectory(prefix="totes-pictures-") as place, LocalServer.start() as server:
        folder = wished.keep or Path(place)
        order = live(server, folder)
        wished.into.mkdir(parents=True, exist_ok=True)
        with Site(folder) as site, chromium.chromium() as browser:
            for name, (path, width, height, scheme) in SHOWN.items():
                page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
                page.goto(site.url.rstrip("/") + path.format(order=order))
                page.screenshot(path=wished.into / f"{name}.png")
                page.close()
    if optimise := shutil.which("optipng"):
        subprocess.run([optimise, "-quiet", "-o4", "-strip", "all", *wished.into.glob("*.png")], check=True)


def live(server: LocalServer, folder: Path) -> int:
    """Lets the company trade, with a pipeline beside it; gives an order that changed several times."""
    chance = random.Random(4)
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute("CREATE DATABASE totesys")
    url = server.url("totesys")
    demo_source.create(url, ORDERS)
    project = folder / "terrifictotes"
    built_in = Path(str(resources.files("totes.terrifictotes")))
    for part in ("models", "reference"):
        shutil.copytree(built_in / part, project / part)
    warehouse = f"duckdb:///{folder.resolve()}/warehouse.duckdb"
    write_settings(folder, url, warehouse, {"name": "terrifictotes", "path": project.resolve()})
    pipeline = Pipeline(load_settings(folder / "totes.toml"))
    run_cleanly(pipeline)
    day = demo_source.trade(url)
    order = day.changed_order_ids[0]
    with psycopg.connect(url, autocommit=True) as connection:
        for batch in range(BATCHES):
            if batch % 9 == 4:
                demo_source.trade(url)
            connection.execute(
                "UPDATE sales_order SET units_sold = units_sold + 10, last_updated = last_updated + interval '7 hours'"
                " WHERE sales_order_id IN (SELECT sales_order_id FROM sales_order ORDER BY random() LIMIT %s)",
                [chance.choice([1, 2, 3, 5, 8, 30, 120])],
            )
            if batch in (12, 30):
                connection.execute(
                    "UPDATE sales_order SET units_sold = units_sold * 2, unit_price = unit_price - 0.15,"
                    " last_updated = (SELECT max(last_updated) FROM sales_order) WHERE sales_order_id = %s",
                    [order],
                )
            run_cleanly(pipeline)
        for column, value in (("agreed_payment_date", "on delivery"), ("agreed_delivery_date", "2026-11-31")):
            connection.execute(
                f"UPDATE sales_order SET {column} = %s, last_updated = now() AT TIME ZONE 'UTC' WHERE sales_order_id IN"
                " (SELECT sales_order_id FROM sales_order ORDER BY random() LIMIT 2)".encode(),
                [value],
            )
    watch(pipeline.settings, run_cleanly(pipeline))
    write_verdict(pipeline.settings, verify(pipeline, (), 1.0, lambda _: None))
    change_a_model(project / "models" / "dim_staff.sql")
    return order


def change_a_model(file: Path) -> None:
    """Makes a plan of some changes: a column that is renamed, and one that is new."""
    text = file.read_text("utf-8")
    text = text.replace(
        "email_address    VARCHAR NOT NULL",
        "email            VARCHAR NOT NULL, -- was: email_address\n    manager          VARCHAR",
    )
    text = text.replace("staff.email_address", "staff.email_address AS email,\n    department.manager")
    file.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
