"""DuckDB as the pipeline's engine: opens connections, and quotes names and values in SQL."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zlib import crc32

import duckdb

from totes import scratch as process_scratch
from totes.errors import ConfigurationError, EngineFault
from totes.messages import message
from totes.permissions import restrict

Engine = duckdb.DuckDBPyConnection


def connect(
    path: Path | None,
    *,
    memory: str,
    scratch: Path | None = None,
    reads: Iterable[Path] = (),
    symbol_tables: bool = True,
    read_only: bool = False,
    log_bytes_max: int | None = None,
) -> Engine:
    """Opens a DuckDB database that can access its own file, the given folders, and nothing else.

    It has no network, no other files, and only built-in extensions, whatever a statement, view or macro asks for; no
    statement can change that.

    Args:
        path: the database file, or None for a database in memory.
        memory: the limit for DuckDB's buffers, such as `1GB`; what does not fit is spilled to `scratch`.
        scratch: the folder to spill to; by default beside the database, or in the process's folder for temporary files.
        reads: folders whose files can be read, written and attached, besides the process's folder for temporary files.
        symbol_tables: whether text in database files is compressed with symbol tables, which makes a file full of text a
            third smaller and takes three times as long.
        read_only: whether the file is opened read-only; any number of processes can do so at the same time.
        log_bytes_max: how much is committed to the file's log before it goes into the file; by default 16 MB.

    Raises:
        duckdb.IOException: another process has the file open, or it cannot be read.
        ConfigurationError: DuckDB does not support this path.
    """
    file = address(path) if path else ":memory:"
    options: dict[str, Any] = {
        "memory_limit": memory,
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
        "allow_community_extensions": "false",
        # Nothing relies on an order without ORDER BY, and DuckDB then need not buffer rows.
        "preserve_insertion_order": "false",
    }
    folders = [process_scratch.root(), *reads]
    if scratch is not None or path is None:
        folders.append(scratch or folders[0])
        options["temp_directory"] = str(folders[-1])
    if log_bytes_max is not None:
        options["checkpoint_threshold"] = f"{log_bytes_max}B"
    if not symbol_tables:
        options["disabled_compression_methods"] = "dict_fsst,fsst"
    new = path is not None and not path.exists()
    connection = duckdb.connect(file, read_only=read_only, config=options)
    try:
        if path is not None and new:
            restrict(path)
        connection.execute("SET GLOBAL TimeZone = 'UTC'")
        connection.execute("SET enable_progress_bar = false")
        # DuckDB resolves symbolic links before it compares a file with these.
        allowed = ", ".join(text(str(folder.resolve())) for folder in folders)
        connection.execute(f"SET allowed_directories = [{allowed}]")
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
    except BaseException:
        connection.close()
        raise
    return connection


def address(path: Path) -> str:
    """How DuckDB is given a file: a relative path such as `:memory:` or `md:name` may mean something else.

    Raises:
        ConfigurationError: DuckDB does not support this path.
    """
    file = str(path.absolute())
    if any(character in file for character in "?\\"):
        raise ConfigurationError(
            f"DuckDB cannot open a database at {file}, a path with a question mark or a backslash in it",
            hint="Choose another name: it comes from warehouse.url, lake.cache or the folder of the settings",
        )
    return file


def another(connection: Engine) -> Engine:
    """Another connection to the same engine, for a thread or transaction of its own."""
    return connection.cursor()


class Stream:
    """A query's rows as an Arrow stream, for another connection; DuckDB's relations can be read on their own connection only."""

    def __init__(self, engine: Engine, query: str) -> None:
        self._relation = engine.sql(query)

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        return self._relation.__arrow_c_stream__(requested_schema)


def name(*parts: str) -> str:
    """An SQL name, each part in quotes, for DuckDB and PostgreSQL: `name("a", 'b"c')` is `"a"."b""c"`."""
    return ".".join('"' + part.replace('"', '""') + '"' for part in parts)


def names(columns: Iterable[str], prefix: str | None = None) -> str:
    """A comma-separated list of quoted column names, each qualified with `prefix` if it is given."""
    return ", ".join(name(prefix, column) if prefix else name(column) for column in columns)


def case_safe(kind: str, relation: str) -> str:
    """An unquoted name for a table that belongs to a relation, unique although DuckDB ignores case in names."""
    return f"{kind}_{relation}_{crc32(relation.encode()):08x}"


def create_temporary(connection: Engine, kind: str, relation: str, query: str) -> str:
    """Makes a temporary table of a query's rows, in place of one of that kind and relation; returns its quoted name."""
    table = name(case_safe(kind, relation))
    connection.execute(f"CREATE OR REPLACE TEMP TABLE {table} AS {query}")
    return table


def text(value: str) -> str:
    """An SQL string literal for DuckDB, or for PostgreSQL with standard_conforming_strings."""
    return "'" + value.replace("'", "''") + "'"


def same(left: str, right: str, columns: Iterable[str], others: Iterable[str] | None = None) -> str:
    """The SQL condition that two relations agree in some columns, with NULL equal to NULL."""
    return " AND ".join(
        f"{name(left, one)} IS NOT DISTINCT FROM {name(right, other)}"
        for one, other in _pairs(columns, others)
    )


def equal(left: str, right: str, columns: Iterable[str], others: Iterable[str] | None = None) -> str:
    """The SQL condition that two relations agree in some columns, with NULL equal to nothing."""
    return " AND ".join(f"{name(left, one)} = {name(right, other)}" for one, other in _pairs(columns, others))


def _pairs(columns: Iterable[str], others: Iterable[str] | None) -> list[tuple[str, str]]:
    listed = list(columns)
    return list(zip(listed, listed if others is None else others, strict=True))


# The column with the file of a row; no table has one of that name.
FILE = "~file"


def parquet(files: Iterable[Path], *, alike: bool = True, named: bool = False) -> str:
    """SQL for the rows of local Parquet files; folder names such as `date=…` do not become columns.

    Args:
        files: the files.
        alike: whether all have the same columns with the same types.
        named: whether to add the column `FILE` with the file of each row.
    """
    options = ", union_by_name = true" * (not alike) + f", filename = '{FILE}'" * named
    return f"read_parquet([{_listed(files)}], hive_partitioning = false{options})"


def json_lines(
    files: Iterable[Path], columns: str | None, compression: str, *, line_bytes_max: int = 16 << 20
) -> str:
    """SQL for the rows of local files of JSON lines.

    Args:
        files: the files.
        columns: the columns with their types, in DuckDB's syntax for a struct; None for one column `json` with the line.
        compression: zstd, gzip or none.
        line_bytes_max: the longest line that can be read; buffers have this size.
    """
    written = "uncompressed" if compression == "none" else compression
    return (
        f"{'read_json' if columns else 'read_json_objects'}([{_listed(files)}], format = 'newline_delimited',"
        f" compression = '{written}',{f' columns = {columns},' if columns else ''}"
        f" maximum_object_size = {line_bytes_max}, hive_partitioning = false)"
    )


def is_pattern(file: Path) -> bool:
    """Whether DuckDB would read the file's name as a pattern, which other files could match."""
    return re.search(r"[*?\[\\]", str(file)) is not None


def _listed(files: Iterable[Path]) -> str:
    listed = list(files)
    for file in filter(is_pattern, listed):
        raise ConfigurationError(
            f"DuckDB reads the name {file} as a pattern",
            hint="Set TMPDIR to a folder without any of * ? [ \\ in its path",
        )
    return ", ".join(text(str(file)) for file in listed)


def text_lines(files: Iterable[Path], compression: str, *, line_bytes_max: int) -> str:
    """SQL for the lines of local files, unparsed, in one column `json`; see `json_lines`."""
    listed = ", ".join(text(str(file)) for file in files)
    written = "uncompressed" if compression == "none" else compression
    return (
        f"read_csv([{listed}], auto_detect = false, header = false, columns = {{'json': 'VARCHAR'}}, quote = '',"
        f" escape = '', delim = e'\\x01', new_line = '\\n', compression = '{written}', hive_partitioning = false,"
        f" max_line_size = {line_bytes_max}, buffer_size = {line_bytes_max})"
    )


def parse_text(raw: str, target: str) -> str:
    """SQL that reads PostgreSQL's text form as a DuckDB type; NULL if that fails."""
    if target in ("DATE", "TIMESTAMP", "TIMESTAMPTZ"):
        # PostgreSQL writes '0044-03-15 01:02:03 BC', DuckDB reads '0044-03-15 (BC) 01:02:03'.
        era = f"regexp_replace({raw}, '^(\\S+)(.*) BC$', '\\1 (BC)\\2')"
        return f"TRY_CAST(CASE WHEN {raw} LIKE '%BC' THEN {era} ELSE {raw} END AS {target})"
    if target == "BLOB":
        return f"CASE WHEN {raw} LIKE '\\x%' AND length({raw}) % 2 = 0 THEN TRY(unhex(substr({raw}, 3))) END"
    if target == "INTERVAL":
        return f"TRY_CAST(replace({raw}, '+', '') AS INTERVAL)"  # PostgreSQL writes '-1 mons +2 days'
    return f"TRY_CAST({raw} AS {target})"


def scalar(engine: Engine, sql: str) -> Any:
    """The single value that a query returns."""
    # Fetches the whole result: with an unfinished one, the connection stays busy.
    [[value]] = engine.execute(sql).fetchall()
    return value


def copy_out(engine: Engine, statement: str, rows: int) -> None:
    """Runs a COPY to a file, and checks the number of rows that it wrote.

    Raises:
        EngineFault: it is not `rows`.
    """
    written = scalar(engine, statement)
    if written != rows:
        raise EngineFault(f"the engine wrote {written} rows instead of {rows}")


@contextmanager
def faults() -> Iterator[None]:
    """Turns exceptions of the engine and of the machine into EngineFault.

    Raises:
        EngineFault: the engine failed, or a file could not be read or written.
    """
    try:
        yield
    except (duckdb.Error, OSError) as error:
        raise EngineFault(message(error), hint=remedy(error)) from error


def remedy(error: Exception) -> str:
    """The next step after a fault of the engine or the machine."""
    text, number = str(error), getattr(error, "errno", None)
    if isinstance(error, duckdb.OutOfMemoryException) and "max_temp_directory_size" not in text:
        return "Raise lake.memory"
    if number in (errno.ENOSPC, errno.EDQUOT) or re.search(
        "No space left|max_temp_directory_size|quota", text
    ):
        return "Free some disk space: the lake, lake.cache and TMPDIR need it"
    if number in (errno.EACCES, errno.EPERM, errno.EROFS) or "Permission denied" in text:
        return "Let this account read and write there"
    if number in (errno.EMFILE, errno.ENFILE) or "Too many open files" in text:
        return "Raise the limit of open files (ulimit -n)"
    return "The next run starts the batch over; if that fails in the same way, --debug shows where"
