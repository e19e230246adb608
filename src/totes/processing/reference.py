"""A reference file's rows for the engine."""

from __future__ import annotations

import tempfile

import duckdb

from totes import engine, scratch
from totes.errors import ModelFailed
from totes.messages import message
from totes.star.project import Reference


def load_reference(connection: engine.Engine, reference: Reference, table: str) -> None:
    """Makes a temporary table of a reference file's rows, as the file was when the project was loaded.

    Raises:
        ModelFailed: it is not a CSV file of those columns.
    """
    columns = ", ".join(f"{engine.text(column)}: 'VARCHAR'" for column in reference.columns)
    with tempfile.NamedTemporaryFile(dir=scratch.root(), suffix=".csv") as file:
        file.write(reference.content.removeprefix(b"\xef\xbb\xbf"))
        file.flush()
        try:
            connection.execute(
                f"CREATE OR REPLACE TEMP TABLE {table} AS SELECT * FROM read_csv({engine.text(file.name)}, header = true,"
                f" auto_detect = false, columns = {{{columns}}}, delim = ',', quote = '\"', escape = '\"')"
            )
        except duckdb.Error as error:
            reason = message(error).replace(file.name, reference.path.name)
            raise ModelFailed(
                f"{reference.path} cannot be read: {reason}",
                hint="Every line needs as many fields as the first, separated by commas, quoted by double quotes",
            ) from error
