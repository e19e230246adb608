"""The role that a source needs for totes: one that may read its tables, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable

from totes import engine

READER = "totes_reader"


def reader_statements(
    database: str, schema: str, owners: Iterable[str] = (), *, exists: bool = False, name: str = READER
) -> list[str]:
    """The statements that make the role, without a password.

    Args:
        database: the source's database.
        schema: the schema that is captured.
        owners: the roles that make tables there; by default whoever runs the statements.
        exists: whether the role is there already.
        name: the role's name.
    """
    role, place = engine.name(name), engine.name(schema)
    begin = "ALTER DEFAULT PRIVILEGES"
    makers = [f"{begin} FOR ROLE {engine.name(owner)}" for owner in owners] or [begin]
    return [
        *(() if exists else (f"CREATE ROLE {role} LOGIN",)),
        f"GRANT CONNECT ON DATABASE {engine.name(database)} TO {role}",
        f"GRANT USAGE ON SCHEMA {place} TO {role}",
        f"GRANT SELECT ON ALL TABLES IN SCHEMA {place} TO {role}",
        *(f"{maker} IN SCHEMA {place} GRANT SELECT ON TABLES TO {role}" for maker in makers),
    ]
