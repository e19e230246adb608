"""Capture from the log: PostgreSQL's write-ahead log, through a logical slot and a publication, into packets."""
