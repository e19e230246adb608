"""Makes the docs' pictures of TerrificTotes' dashboards in Superset: `python -m tests.dashboards.pictures`, by `make pictures`."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.dashboards import superset
from tests.ui import chromium

ROOT = Path(__file__).parents[2]
SHOWN: dict[str, tuple[str, int | None]] = {
    "superset": ("terrifictotes-sales", 790),
    "superset-sales": ("terrifictotes-sales", None),
    "superset-open": ("terrifictotes-open", None),
    "superset-purchases": ("terrifictotes-purchases", None),
}


def main() -> None:
    """Makes the pictures, over the demo's warehouse."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--into", type=Path, default=ROOT / "docs" / "pictures")
    wished = arguments.parse_args()
    if why := chromium.missing() or superset.missing():
        sys.exit(f"no pictures of dashboards: {why}")
    totes = [sys.executable, "-m", "totes"]
    with tempfile.TemporaryDirectory(prefix="totes-pictures-") as place:
        folder = Path(place)
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
        for command in (
            ["demo", "--orders", "20000"],
            ["--config", "demo/totes.toml", "dashboards", "assets"],
        ):
            subprocess.run(
                [*totes, *command], cwd=folder, check=True, env=environment, stdout=subprocess.DEVNULL
            )
        superset.pictures(folder / "assets", folder / "superset", wished.into, SHOWN)
    made = [wished.into / f"{name}.png" for name in SHOWN]
    if optimise := shutil.which("optipng"):
        subprocess.run([optimise, "-quiet", "-o4", "-strip", "all", *made], check=True)


if __name__ == "__main__":
    main()
