"""Peers: what else a user would take, on the same tables. They are measured where `make bench-peers` installed them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from benchmarks import digest, process
from benchmarks.floor import check_copies
from benchmarks.measurement import BenchmarkFailed
from benchmarks.workbench import Source, Workbench

ROOT = Path(__file__).parents[1]
PYTHON = ROOT / ".venv-peers" / "bin" / "python"
_SLING = "lib/python*/site-packages/sling_linux_amd64/bin/sling-linux-amd64"
_COPIES = "copies"
_QUIET = {
    "RUNTIME__DLTHUB_TELEMETRY": "false",
    "RUNTIME__LOG_LEVEL": "ERROR",
    "SLING_DISABLE_TELEMETRY": "true",
}


@dataclass(frozen=True)
class Peer:
    """A tool with the settings it is run with. `arguments` are those of `peer_dlt.py`; Sling has none."""

    name: str
    warehouse: str
    arguments: tuple[str, ...] = ()


# Of dlt into PostgreSQL the backends and formats that load by COPY, or by ADBC.
PEERS = (
    Peer("dlt ConnectorX", "DuckDB", ("--backend=connectorx",)),
    Peer("dlt pyarrow, csv", "PostgreSQL", ("--backend=pyarrow", "--format=csv")),
    Peer("dlt ConnectorX, ADBC", "PostgreSQL", ("--backend=connectorx", "--format=parquet")),
    Peer("Sling", "PostgreSQL"),
)
_failed: set[str] = set()


def of(bench: Workbench, warehouse: str) -> list[Peer]:
    """The peers to measure with a kind of warehouse: those that are installed and have not failed before."""
    if not bench.with_peers:
        return []
    return [
        peer for peer in PEERS if peer.warehouse == warehouse and installed(peer) and peer.name not in _failed
    ]


def installed(peer: Peer) -> bool:
    """Whether a peer can be run."""
    return PYTHON.exists() if peer.arguments else _sling() is not None


def missing() -> list[str]:
    """The names of peers that cannot be run."""
    return [peer.name for peer in PEERS if not installed(peer)] + sorted(_failed)


def versions() -> dict[str, str]:
    """The peers' packages."""
    wanted = ("dlt", "connectorx", "sling_linux_amd64", "pyarrow", "duckdb", "adbc_driver_postgresql")
    folders = PYTHON.parents[1].glob("lib/python*/site-packages/*.dist-info")
    found = dict(folder.stem.split("-", 1) for folder in folders)
    return {name: version for name, version in sorted(found.items()) if name in wanted}


def load(bench: Workbench, source: Source, peer: Peer) -> process.Finished | None:
    """Has a peer copy all tables, from a cold start; None, with a word why, where it failed or made something else."""
    folder = bench.new_folder()
    target = str(folder / "peer.duckdb") if peer.warehouse == "DuckDB" else bench.new_warehouse()
    bench.settle()
    try:
        run = _run_dlt if peer.arguments else _run_sling
        finished = run(source, target, peer, folder)
        if peer.warehouse == "PostgreSQL":
            check_copies(source, target, _COPIES)
        else:
            _check_duckdb(source, Path(target))
    except BenchmarkFailed as error:
        bench.say(f"{peer.name} is left out from here on: {error}")
        _failed.add(peer.name)
        return None
    finally:
        bench.drop_warehouse(target)
        bench.remove(folder)
    return finished


def _run_dlt(source: Source, target: str, peer: Peer, folder: Path) -> process.Finished:
    command: list[str | Path] = [
        PYTHON,
        Path(__file__).with_name("peer_dlt.py"),
        f"--source={source.url}",
        f"--target={target}",
    ]
    return process.run([*command, *peer.arguments], folder, **_QUIET)


def _run_sling(source: Source, target: str, _peer: Peer, folder: Path) -> process.Finished:
    replication = {
        "source": "BENCHMARK_SOURCE", "target": "BENCHMARK_TARGET",
        "defaults": {"mode": "full-refresh", "object": f"{_COPIES}.{{stream_table}}"},
        "streams": {f"public.{table}": None for table in source.tables},
    }  # fmt: skip
    (folder / "replication.json").write_text(json.dumps(replication), encoding="utf-8")
    sling = _sling()
    assert sling is not None
    return process.run(
        [sling, "run", "--replication", "replication.json"], folder, SLING_HOME_DIR=str(folder),
        BENCHMARK_SOURCE=f"{source.url}?sslmode=disable", BENCHMARK_TARGET=f"{target}?sslmode=disable", **_QUIET,
    )  # fmt: skip


def _check_duckdb(source: Source, file: Path) -> None:
    for table, expected in source.digests.items():
        found = digest.of_duckdb(file, f'{_COPIES}."{table}"', source.tables[table])
        if found != expected:
            raise BenchmarkFailed(f"the copy of {table} has {found} where the source has {expected}")


def _sling() -> Path | None:
    return next(PYTHON.parents[1].glob(_SLING), None)
