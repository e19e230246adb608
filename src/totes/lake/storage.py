"""Where objects are held: what a folder and S3 have to do alike, for the store above them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol


class TooLarge(Exception):
    """An object has more bytes than were asked for at most."""

    def __init__(self, size: int) -> None:
        super().__init__(f"it has {size} bytes")
        self.size = size


class Storage(Protocol):
    """Objects by paths with `/`. What fails is an OSError, or an error of obstore or boto3.

    `failures` are the classes of these errors.
    """

    failures: tuple[type[Exception], ...]

    def put(self, path: str, content: bytes | Path) -> None:
        """Makes a new object: all of it or nothing, and of any number of racing calls one succeeds.

        Raises:
            FileExistsError: it is there already, perhaps from this very call, when an answer was lost.
        """

    def settle(self, paths: Iterable[str]) -> None:
        """Makes sure that objects outlive a loss of power."""

    def read(self, path: str, bytes_max: int) -> bytes:
        """An object's content.

        Raises:
            FileNotFoundError: there is no such object.
            TooLarge: it has more bytes; none of them was read.
        """

    def list(self, prefix: str, after: str | None) -> list[str]:
        """The paths below a prefix that sort after one, in no particular order."""

    def digest(self, path: str) -> tuple[str, int]:
        """An object's sha256 and size; FileNotFoundError where there is none."""

    def fetch(self, path: str, target: Path) -> Path:
        """A local file with an object's content: its own, or `target`, to which it is copied; none if there is no object."""
