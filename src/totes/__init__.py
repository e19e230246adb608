"""From a PostgreSQL database to a star schema with full history, through an immutable lake."""

__version__ = "0.1.0"
