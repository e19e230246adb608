"""A project: the models and reference files of one star schema, checked for consistency when they are loaded."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path

from totes.errors import ConfigurationError, ModelError
from totes.star.declaration import LOADING, OWN, check_declaration
from totes.star.model import Model, check_added, check_columns, read_definition
from totes.star.understood import Understood

CALENDAR = "calendar"
CALENDAR_COLUMN = "date"
BUILT_IN = "terrifictotes"


@dataclass(frozen=True)
class Reference:
    """A CSV file of the project that models can join; all its columns are text."""

    name: str
    path: Path
    columns: tuple[str, ...]
    content: bytes


@dataclass(frozen=True)
class Project:
    """The models in load order (a table after those that it refers to), and the reference files by name.

    `is_built_in` is true for TerrificTotes, the project that is used if the settings name no folder. `cache` is a folder for
    what is understood of the models.
    """

    name: str
    models: tuple[Model, ...]
    references: dict[str, Reference]
    is_built_in: bool = False
    cache: Path | None = None

    def mismatch(self, tables: Iterable[str]) -> ConfigurationError | None:
        """The error if the built-in models are used with a source that has none of their tables; otherwise None."""
        if not self.is_built_in or self.source_tables & {table.lower() for table in tables}:
            return None
        return ConfigurationError(
            "no project is named, so the built-in models of TerrificTotes are in use, and the source has none of their "
            f"tables that the role may see ({', '.join(sorted(self.source_tables)[:3])}, …)",
            hint="totes init makes models for it; or name the folder of your own in the settings: [project] name = …, path = …",
        )

    def model(self, name: str) -> Model | None:
        """The model of a warehouse table, if there is one."""
        return next((model for model in self.models if model.name == name), None)

    @property
    def source_tables(self) -> frozenset[str]:
        """The names of all source tables that the models read, as the models write them."""
        read = {relation for model in self.models for relation in model.relations}
        return frozenset(name for name in read if name.lower() not in self.built_in_relations)

    @property
    def built_in_relations(self) -> frozenset[str]:
        """The names, in lower case, of relations that are not source tables."""
        return frozenset({CALENDAR, *(name.lower() for name in self.references)})

    def reference_content(self) -> dict[str, bytes]:
        """Each reference file's content."""
        return {name: reference.content for name, reference in self.references.items()}


def load_project(name: str, path: Path | None, cache: Path | None = None) -> Project:
    """Loads and checks a project.

    Args:
        name: the project's name.
        path: its folder, or None for the built-in one.
        cache: a folder for what was understood of its models, which are then read faster the next time.

    Raises:
        ConfigurationError: there are no models.
        ModelError: a model is invalid, cannot be maintained incrementally, refers to a table that does not exist, or has
            the name of another one.
    """
    folder = _project_folder(name, path)
    files = model_files(name, path)
    if not files:
        raise ConfigurationError(
            f"there is no model in {folder / 'models'}", hint="Put one there, as a file NAME.sql"
        )
    models: dict[str, Model] = {}
    known = Understood(cache / "models.json" if cache else None)
    for file in files:
        model = known.model(file, read_definition(file))
        if model is None:
            model = load_model(file)
            known.add(model)
        if model.name in models:
            raise ModelError(file, 1, f"{model.name} is defined in {models[model.name].path.name} already")
        models[model.name] = model
    references = {file.stem: _reference(file) for file in sorted((folder / "reference").glob("*.csv"))}
    known.save()
    _check_names(models)
    _check_references(models)
    for target in {target for model in models.values() for target in model.references.values()}:
        models[target] = replace(models[target], referenced=True)
        check_added(models[target])
    return Project(name, tuple(_load_order(models)), references, is_built_in=path is None, cache=cache)


def model_files(name: str, path: Path | None) -> list[Path]:
    """The files of a project's models, in the order of their names.

    Raises:
        ConfigurationError: the project's folder is not named.
    """
    return sorted((_project_folder(name, path) / "models").glob("*.sql"))


def load_model(file: Path) -> Model:
    """Reads one model and checks it on its own.

    Raises:
        ModelError: it is invalid, or cannot be maintained incrementally.
    """
    from totes.star.maintainable import check_maintainable
    from totes.star.meaning import check_meaning
    from totes.star.model_file import parse_model

    model = parse_model(file)
    check_maintainable(model)
    check_columns(model)
    check_declaration(model)
    check_meaning(model)
    return model


def _project_folder(name: str, path: Path | None) -> Path:
    if path is None and name != BUILT_IN:
        raise ConfigurationError(
            f"project.path is missing for the project {name}", hint="Name the folder of models/"
        )
    return path if path is not None else Path(str(resources.files("totes.terrifictotes")))


def _reference(file: Path) -> Reference:
    if not file.resolve().is_relative_to(file.parent.parent.resolve()):
        raise ConfigurationError(
            f"{file} is a symbolic link out of the project", hint="Replace the link with the file"
        )
    content = file.read_bytes()
    try:
        header = next(csv.reader(content.decode("utf-8-sig").splitlines()), [])
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{file} is not UTF-8 text") from error
    if not header or len({column.lower() for column in header}) < len(header):
        raise ConfigurationError(f"{file} needs a first line with a different name for each column")
    return Reference(file.stem, file, tuple(header), content)


def _check_names(models: dict[str, Model]) -> None:
    views = {f"{name}_current": name for name in models}
    for name, model in models.items():
        if name in views:
            raise ModelError(
                model.path, 1, f"{name} is the view of {views[name]}'s current rows", hint="Rename one"
            )
        if name in OWN or name.startswith(LOADING):
            raise ModelError(
                model.path,
                1,
                f"{name} is a name that totes itself uses in the warehouse",
                hint="Rename the table",
            )


def _check_references(models: dict[str, Model]) -> None:
    for model in models.values():
        for column, target in model.references.items():
            if target not in models:
                raise ModelError(model.path, None, f"{column} REFERENCES {target}, which no model defines")
            if models[target].versioned or len(models[target].primary_key) != 1:
                raise ModelError(
                    model.path,
                    None,
                    f"{column} REFERENCES {target}, whose primary key is not one column of its query",
                    hint="Refer to a table with one row a key",
                )
            [target_key] = models[target].primary_key
            named = next(one.references_column for one in model.columns if one.name == column)
            if named not in (None, target_key):
                raise ModelError(
                    model.path,
                    None,
                    f"{column} REFERENCES {target}({named}), but the primary key of {target} is {target_key}",
                    hint=f"Refer to {target}({target_key}), and let the query give that key, with a join if needed",
                )
            kind, key = _column_type(model, column), _column_type(models[target], target_key)
            if _comparable(kind) != _comparable(key):
                raise ModelError(
                    model.path,
                    None,
                    f"{column} is a {kind} and REFERENCES {target}, whose key is a {key}",
                    hint=f"Declare it {key}, with a CAST in the query if the source has another type",
                )


def _column_type(model: Model, name: str) -> str:
    return next(column.type for column in model.columns if column.name == name)


def _comparable(kind: str) -> str:
    """The group of types that a type can be compared with in every warehouse, as a foreign key requires."""
    if kind.startswith("DECIMAL") or kind in ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "FLOAT", "DOUBLE"):
        return "number"
    return "moment" if kind in ("DATE", "TIMESTAMP", "TIMESTAMPTZ") else kind


def _load_order(models: dict[str, Model]) -> list[Model]:
    ordered: dict[str, Model] = {}
    while len(ordered) < len(models):
        ready = [
            model
            for model in models.values()
            if model.name not in ordered and set(model.references.values()) - {model.name} <= ordered.keys()
        ]
        if not ready:
            circle = sorted(models.keys() - ordered.keys())
            raise ModelError(
                models[circle[0]].path, None, f"{' and '.join(circle)} refer to each other in a circle"
            )
        ordered.update((model.name, model) for model in ready)
    return list(ordered.values())
