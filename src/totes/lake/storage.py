"""The protocol of a store's storage, which a folder and S3 implement."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol


class TooLarge(Exception):
    """An object has more bytes than the caller allows."""

    def __init__(self, size: int) -> None:
        super().__init__(f"it has {size} bytes")
        self.size = size


class Storage(Protocol):
    """Objects by paths with `/`. Methods fail with one of the exception classes `failures`."""

    failures: tuple[type[Exception], ...]

    def put(self, path: str, content: bytes | Path) -> None:
        """Writes a new object atomically: of any number of racing calls, one succeeds.

        Raises:
            FileExistsError: it exists already, perhaps from this very call, if a response was lost and the request repeated.
        """

    def settle(self, paths: Iterable[str]) -> None:
        """Makes objects durable: they survive a power failure."""

    def read(self, path: str, bytes_max: int) -> bytes:
        """An object's content.

        Raises:
            FileNotFoundError: there is no such object.
            TooLarge: it has more bytes; none of them was read.
        """

    def list(self, prefix: str, after: str | None) -> list[str]:
        """The paths that begin with `prefix` and sort after `after`, in no particular order."""

    def present(self, paths: Sequence[str]) -> set[str]:
        """Those of some paths at which there are objects; sorted ones of one folder, with few objects between and after them."""

    def digest(self, path: str) -> tuple[str, int]:
        """An object's sha256 and size; raises FileNotFoundError if there is no such object."""

    def fetch(self, path: str, target: Path) -> Path:
        """A local file with an object's content: its own, or `target`, to which it is copied.

        If there is no such object, there is no such file.
        """
