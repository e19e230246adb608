"""What a user of dlt writes to copy all tables. It runs in the peers' own environment, not in that of `totes`."""

from __future__ import annotations

import argparse

import dlt
from dlt.sources.sql_database import sql_database


def main() -> None:
    """Copies the tables of a schema into a data set named `copies`."""
    wanted = argparse.ArgumentParser()
    wanted.add_argument("--source", required=True)
    wanted.add_argument("--target", required=True)
    wanted.add_argument("--backend", required=True)
    wanted.add_argument("--format")
    options = wanted.parse_args()
    tables = sql_database(options.source, schema="public", backend=options.backend, chunk_size=100_000)
    destination = (
        dlt.destinations.postgres(options.target)
        if options.target.startswith("postgresql")
        else dlt.destinations.duckdb(options.target)
    )
    pipeline = dlt.pipeline("peer", destination=destination, dataset_name="copies", pipelines_dir="dlt")
    pipeline.run(tables, write_disposition="replace", loader_file_format=options.format)


if __name__ == "__main__":
    main()
