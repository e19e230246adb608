"""The third stage: rows of the processed lake into the warehouse, each batch once and in one transaction."""
