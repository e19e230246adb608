"""What all documents of the lake are made of: frozen parts, and entries of the objects that they name."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Annotated, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict


class Document(BaseModel):
    """A frozen part of a manifest; unknown keys are refused, so that a newer format is noticed."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def _within(path: str) -> str:
    if "\\" in path or any(part in ("", ".", "..") for part in path.split("/")):
        raise ValueError(f"{path} is not an object of this store")
    return path


class StoredObject(Document):
    """An object of the store: its rows, counted when it was written, and the bytes and sha256 of the stored file.

    A path that leads out of the store is refused, even in a manifest.
    """

    path: Annotated[str, AfterValidator(_within)]
    rows: int
    bytes: int
    sha256: str


def objects_in(part: object) -> Iterator[StoredObject]:
    """Every object that a part of a document names."""
    if isinstance(part, StoredObject):
        yield part
    elif isinstance(part, Document):
        for name in _fields_with_objects(type(part)):
            yield from objects_in(getattr(part, name))
    elif isinstance(part, dict):
        for value in part.values():
            yield from objects_in(value)
    elif isinstance(part, tuple):
        for value in part:
            yield from objects_in(value)


@cache
def _fields_with_objects(kind: type[Document]) -> tuple[str, ...]:
    """The fields of a part that can name objects: nine tenths of a manifest describe columns."""
    return tuple(name for name, field in kind.model_fields.items() if _names_objects(field.annotation))


def _names_objects(annotation: object) -> bool:
    if isinstance(annotation, type) and issubclass(annotation, Document):
        return issubclass(annotation, StoredObject) or bool(_fields_with_objects(annotation))
    return any(map(_names_objects, get_args(annotation)))
