"""Tables that are internal to frameworks and tools: nobody analyses them."""

from __future__ import annotations

_OWN = {
    "Django": (
        "django_migrations", "django_session", "django_content_type", "django_admin_log", "auth_permission",
        "auth_group_permissions", "auth_user_user_permissions",
    ),
    "Rails": (
        "schema_migrations", "ar_internal_metadata", "active_storage_attachments", "active_storage_blobs",
        "active_storage_variant_records",
    ),
    "Alembic": ("alembic_version",),
    "Flyway": ("flyway_schema_history", "schema_version"),
    "Liquibase": ("databasechangelog", "databasechangeloglock"),
    "Prisma": ("_prisma_migrations",),
    "Knex": ("knex_migrations", "knex_migrations_lock"),
    "Sequelize": ("sequelizemeta",),
    "Goose": ("goose_db_version",),
    "Entity Framework": ("__efmigrationshistory",),
    "Doctrine": ("doctrine_migration_versions",),
    "Laravel": (
        "failed_jobs", "job_batches", "cache_locks", "password_resets", "password_reset_tokens", "personal_access_tokens",
    ),
    "PostGIS": ("spatial_ref_sys",),
}  # fmt: skip
_OWNERS = {table: owner for owner, tables in _OWN.items() for table in tables}


def owner_of(table: str) -> str | None:
    """The framework or tool that a table of this name is internal to, if one is known."""
    return _OWNERS.get(table.lower())
