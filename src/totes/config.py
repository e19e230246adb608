"""Settings: `totes.toml`, overridden by environment variables, validated when they are read, in frozen models."""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from totes.errors import ConfigurationError
from totes.redaction import register_secret, register_secrets_of_environment, register_secrets_of_text
from totes.secrets import PREFIX as SECRETS_MANAGER
from totes.secrets import resolve_secret
from totes.setting_types import CatalogUrl, Duration, Memory, SourceUrl, StoreUrl, WarehouseUrl, WorkersUrl

FILE_NAME = "totes.toml"
ENVIRONMENT_PREFIX = "TOTES_"
# Replaces messages of pydantic that use Python's terms.
_SHAPES = {
    "tuple_type": 'write a list, such as ["a", "b"]',
    "dict_type": 'write a table, such as { name = ["column"] }',
    "model_type": "write a section, with its keys below it",
    "string_type": "write a text, in quotes",
    "bool_type": "write true or false",
    "bool_parsing": "write true or false",
}


class Section(BaseModel):
    """The base of all sections: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ProjectSettings(Section):
    """Which star schema is built."""

    name: str = Field("terrifictotes", description="The project's name, for logs and alerts.")
    path: Path | None = Field(
        None,
        description="The folder with `models/` and `reference/`; the built-in TerrificTotes project if unset.",
    )
    apply_rows: int = Field(
        1_000_000,
        ge=0,
        description="A changed model that loses nothing is applied by `totes run` itself, if at most this many rows of the "
        "ingestion lake have to be read for it; others wait for `totes apply`.",
    )


class SourceSettings(Section):
    """The PostgreSQL database that is read."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    url: SourceUrl = Field(
        description="A PostgreSQL URL, or `secretsmanager:NAME`, with parameters after a `?`."
    )
    schema_: str = Field("public", alias="schema", description="The schema whose tables are captured.")
    capture: Literal["query", "log"] = Field(
        "query",
        description="How changes are found: `query` compares one snapshot per batch with what was captured, `log` reads each "
        "change from the write-ahead log.",
    )
    slot: str = Field(
        "totes",
        pattern=r"^[a-z0-9_]{1,63}$",
        description="The logical replication slot that capture from the log reads; one per lake.",
    )
    publication: str = Field(
        "totes", min_length=1, description="The publication whose tables are captured from the log."
    )
    tables: tuple[str, ...] = Field(
        ("*",),
        description="Tables to capture, as names or patterns such as `sales_*`; all of the schema by default.",
    )
    exclude: tuple[str, ...] = Field((), description="Tables to leave out, as names or patterns.")
    keys: dict[str, tuple[str, ...]] = Field(
        {}, description="Columns that identify a row, for a view or a table without a primary key."
    )
    changed_at: str = Field(
        "last_updated",
        description="The timestamp column with the time of a row's last change, in tables that have it.",
    )
    connections: int = Field(
        4,
        ge=1,
        description="How many connections read tables at the same time, whatever the number of workers.",
    )
    lock_timeout: Duration = Field(
        timedelta(seconds=30),
        description="How long a batch waits for a table that a schema change holds locked.",
    )


class LakeSettings(Section):
    """Where the two stores are."""

    ingestion: StoreUrl = Field(
        "lake/ingestion", description="The ingestion lake: a folder, or `s3://bucket/prefix`."
    )
    processed: StoreUrl = Field(
        "lake/processed", description="The processed lake: a folder, or `s3://bucket/prefix`."
    )
    compression: Literal["zstd", "gzip", "none"] = Field(
        "zstd", description="Compression of the ingested JSON lines."
    )
    cache: Path = Field(
        Path(".totes"), description="A local folder for state that can be rebuilt from the lake at any time."
    )
    checkpoints: bool = Field(
        False,
        description="Whether to store copies of the cache in the lake, for runners without a lasting folder.",
    )
    memory: Memory = Field(
        "600MB", description="The memory limit of the engine's buffers; what does not fit is spilled to disk."
    )


class WarehouseSettings(Section):
    """The database that is loaded."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    url: WarehouseUrl = Field(
        SecretStr("duckdb:///warehouse.duckdb"),
        description="`duckdb:///FILE`, a PostgreSQL URL, or `secretsmanager:NAME`.",
    )
    schema_: str = Field(
        "",
        alias="schema",
        description="The schema of the warehouse's tables; `main` in DuckDB, `public` in PostgreSQL.",
    )


class PublishSettings(Section):
    """Where else the star can be read."""

    iceberg: CatalogUrl = Field(
        SecretStr(""),
        description="An Iceberg catalog in which each loaded batch is registered, with `totes[iceberg]`: `sql:` and a URL of "
        "SQLAlchemy or `secretsmanager:NAME`, `rest:https://…`, or `glue:`.",
    )


class WorkersSettings(Section):
    """Where large work runs."""

    url: WorkersUrl = Field(
        SecretStr("local"),
        description="Where first loads are read, and large tables of them and of rebuilds computed: `local`, in threads of the "
        "process, or on Apache Spark: "
        "`spark://host:7077`, `sc://host:15002` (Spark Connect), or `local-cluster[executors,cores,megabytes]`.",
    )


class ScheduleSettings(Section):
    """How often the pipeline runs."""

    every: Duration = Field(
        timedelta(minutes=15), description="The time from one cycle's start to the next one's."
    )


class AlertSettings(Section):
    """Who receives alerts."""

    urls: tuple[SecretStr, ...] = Field(
        (), description="Apprise URLs, such as `mailtos://user:password@host`."
    )
    freshness: Duration = Field(
        timedelta(minutes=30),
        description="An alert is sent when the warehouse is further behind the source than this.",
    )


class Settings(BaseSettings):
    """All settings of a pipeline; `base` is the folder that relative paths start from."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        env_prefix=ENVIRONMENT_PREFIX,
        env_nested_delimiter="__",
        hide_input_in_errors=True,
    )

    project: ProjectSettings = ProjectSettings()
    source: SourceSettings
    lake: LakeSettings = LakeSettings()
    warehouse: WarehouseSettings = WarehouseSettings()
    publish: PublishSettings = PublishSettings()
    workers: WorkersSettings = WorkersSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    alerts: AlertSettings = AlertSettings()
    base: Path = Field(Path(), exclude=True)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment overrides the file."""
        return env_settings, init_settings

    def model_post_init(self, _context: Any) -> None:
        """Registers the secrets, so that they are masked from now on."""
        register_secrets_of_environment()
        for place in (self.source.url, self.warehouse.url, self.publish.iceberg):
            written = re.sub("^(sql|rest|glue):", "", place.get_secret_value())
            if not written.startswith(SECRETS_MANAGER):
                register_secret(written)
        register_secrets_of_text(self.workers.url.get_secret_value().replace(";", " "))
        for secret in self.alerts.urls:
            register_secret(secret.get_secret_value(), tokens=True)

    def path(self, value: Path | str) -> Path:
        """A path of the settings, relative to the settings file's folder."""
        return self.base / Path(value).expanduser()

    @property
    def cache_folder(self) -> Path:
        """The folder of the local cache."""
        return self.path(self.lake.cache)

    def source_url(self) -> str:
        """The source's URL, fetched from Secrets Manager if it names a secret."""
        return resolve_secret(self.source.url.get_secret_value(), "source.url")

    def iceberg_url(self) -> str:
        """The Iceberg catalog, its URL fetched from Secrets Manager if it names a secret; empty if there is none."""
        kind, colon, url = self.publish.iceberg.get_secret_value().partition(":")
        return kind + colon + resolve_secret(url, "publish.iceberg")

    def warehouse_url(self) -> str:
        """The warehouse's URL, fetched from Secrets Manager if it names a secret."""
        return resolve_secret(self.warehouse.url.get_secret_value(), "warehouse.url")


def load_settings(file: Path | None) -> Settings:
    """Reads the settings file and the environment.

    Args:
        file: the file given with `--config`; otherwise `totes.toml` in the working directory, if it is there.

    Raises:
        ConfigurationError: there is no file although one is needed, or a key is unknown, missing or wrong.
    """
    path = file or Path(FILE_NAME)
    values: dict[str, Any] = {}
    register_secrets_of_environment()
    if path.is_file():
        try:
            text = path.read_text(encoding="utf-8-sig")  # some editors write a byte order mark
            register_secrets_of_text(text)
            values = tomllib.loads(text)
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"{path} is not valid TOML: {error}") from error
        except OSError as error:
            raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from error
    elif path.exists():
        raise ConfigurationError(f"{path} is not a file", hint="Name a settings file with --config")
    _check_variables()
    if not path.exists() and (file or not os.environ.get("TOTES_SOURCE__URL")):
        hint = (
            "Check the path of --config"
            if file
            else "Make one with totes init URL, name one with --config, or try totes demo"
        )
        raise ConfigurationError(f"there is no {path}", hint=hint)
    if "base" in values:
        raise ConfigurationError(f"{path}: {_not_a_setting('base')}")
    try:
        settings = Settings(**values).model_copy(update={"base": path.parent})
    except ValidationError as error:
        raise ConfigurationError(_explain(error, path)) from error
    except SettingsError as error:
        raise ConfigurationError(
            f"{_unreadable_variables(error)} cannot be read: in the environment, "
            "lists and tables are written as JSON"
        ) from error
    return settings


def _check_variables() -> None:
    """Makes sure that no variable is ignored because its name is misspelt."""
    known = {f"{ENVIRONMENT_PREFIX}{key.upper().replace('.', '__')}" for key in _keys()}
    sections = {name.partition("__")[0] for name in known}
    for variable in sorted(os.environ):
        name = variable.upper()
        if not name.startswith(ENVIRONMENT_PREFIX) or name in known | sections:
            continue
        section, nested, _ = name.partition("__")
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.6 if nested else 0.9)
        if (nested and section not in sections) or (
            not nested and near
        ):  # others are not meant for totes' settings
            raise ConfigurationError(
                f"{variable} is not a setting",
                hint=f"Did you mean {near[0]}?" if near else "docs/reference/settings.md lists them",
            )


def _keys() -> list[str]:
    """All settings, as `source.url`."""
    sections = {name: field.annotation for name, field in Settings.model_fields.items() if name != "base"}
    return [
        f"{section}.{field.alias or key}"
        for section, model in sections.items()
        for key, field in getattr(model, "model_fields", {}).items()
    ]


def _explain(error: ValidationError, file: Path) -> str:
    problems = error.errors(include_input=False, include_url=False)
    # A missing key may be there under a misspelt name.
    problem = next((one for one in problems if one["type"] == "extra_forbidden"), problems[0])
    key = ".".join(str(part) for part in problem["loc"])
    variable = ENVIRONMENT_PREFIX + key.upper().replace(".", "__")
    place = variable if variable in os.environ else str(file)
    if problem["type"] == "extra_forbidden":
        return f"{place}: {_not_a_setting(key)}"
    if problem["type"] == "missing":
        return f"{place}: {key} is missing"
    fault = _SHAPES.get(problem["type"]) or problem["msg"].removeprefix("Value error, ")
    return f"{place}: {key}: {fault}"


def _unreadable_variables(error: SettingsError) -> str:
    """The variables that the error may be about: it names the section only."""
    section = re.search(r'field "(\w+)"', str(error))
    beginning = ENVIRONMENT_PREFIX + (section.group(1).upper() if section else "")
    return ", ".join(sorted(name for name in os.environ if name.upper().startswith(beginning)))


def _not_a_setting(key: str) -> str:
    known = _keys() if "." in key else [name for name in Settings.model_fields if name != "base"]
    near = difflib.get_close_matches(key, known, n=1)
    return f"{key} is not a setting. {f'Did you mean {near[0]}?' if near else 'docs/reference/settings.md lists them'}"
