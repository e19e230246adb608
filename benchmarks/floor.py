"""The floor of a full load: the same tables by binary COPY, piped out of one server into another by psql."""

from __future__ import annotations

import subprocess
import time

import psycopg
from psycopg import sql

from benchmarks import digest
from benchmarks.measurement import BenchmarkFailed
from benchmarks.workbench import Source, Workbench

FLOOR = "COPY | COPY"


def copy_pipe(bench: Workbench, source: Source) -> float:
    """Seconds of `COPY … TO STDOUT (FORMAT binary) | COPY … FROM STDIN (FORMAT binary)`, a table after the other.

    The tables it fills have a primary key and nothing else.

    Raises:
        BenchmarkFailed: a row is missing or differs.
    """
    target = bench.new_warehouse()
    _create_tables(source, target)
    bench.settle()
    psql = [str(bench.warehouse_server.binaries / "psql"), "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1"]
    try:
        began = time.perf_counter()
        for table in source.tables:
            out = [*psql, source.url, f'--command=COPY "{table}" TO STDOUT (FORMAT binary)']
            into = [*psql, target, f'--command=COPY "{table}" FROM STDIN (FORMAT binary)']
            with subprocess.Popen(out, stdout=subprocess.PIPE) as sender:
                subprocess.run(into, stdin=sender.stdout, check=True)
            if sender.returncode:
                raise BenchmarkFailed(f"psql could not copy {table}")
        seconds = time.perf_counter() - began
        check_copies(source, target)
        return seconds
    finally:
        bench.drop_warehouse(target)


def check_copies(source: Source, target: str, schema: str = "public") -> None:
    """Makes sure that a PostgreSQL schema holds a copy of each table.

    Raises:
        BenchmarkFailed: one of them differs.
    """
    for table, expected in source.digests.items():
        found = digest.of_postgresql(target, f'"{schema}"."{table}"', source.tables[table])
        if found != expected:
            raise BenchmarkFailed(f"the copy of {table} has {found} where the source has {expected}")


def _create_tables(source: Source, target: str) -> None:
    with psycopg.connect(source.admin_url) as reader, psycopg.connect(target) as writer:
        for table in source.tables:
            [key] = reader.execute(
                "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE contype = 'p' AND conrelid = %s::regclass",
                [f'public."{table}"'],
            ).fetchone() or [""]
            columns = reader.execute(
                "SELECT attname::text, format_type(atttypid, atttypmod), attnotnull FROM pg_attribute"
                " WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
                [f'public."{table}"'],
            ).fetchall()
            lines = [f'"{name}" {kind}{" NOT NULL" if required else ""}' for name, kind, required in columns]
            writer.execute(
                sql.SQL("CREATE TABLE {} ({})").format(
                    sql.Identifier(table),
                    sql.SQL(", ".join([*lines, key])),
                )
            )
