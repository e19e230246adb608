"""The processed lake as Iceberg tables: each loaded batch is registered in a catalog, and no file is copied."""
