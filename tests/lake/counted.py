"""A store whose requests are counted: what S3 would be asked, around the real storage."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from totes.lake.storage import Storage
from totes.lake.store import Store
from totes.pipeline import Pipeline


class Counted:
    """A storage that counts the requests to another one."""

    def __init__(self, storage: Storage, requests: Counter[str]) -> None:
        self._storage = storage
        self._requests = requests
        self.failures = storage.failures

    def put(self, path: str, content: bytes | Path) -> None:
        """See Storage."""
        self._requests["put"] += 1
        self._storage.put(path, content)

    def settle(self, paths: Iterable[str]) -> None:
        """See Storage."""
        self._storage.settle(paths)

    def read(self, path: str, bytes_max: int) -> bytes:
        """See Storage."""
        self._requests["get"] += 1
        return self._storage.read(path, bytes_max)

    def list(self, prefix: str, after: str | None) -> list[str]:
        """See Storage."""
        self._requests["list"] += 1
        return self._storage.list(prefix, after)

    def present(self, paths: Sequence[str]) -> set[str]:
        """See Storage."""
        self._requests["list"] += 1
        return self._storage.present(paths)

    def digest(self, path: str) -> tuple[str, int]:
        """See Storage."""
        self._requests["get"] += 1
        return self._storage.digest(path)

    def fetch(self, path: str, target: Path) -> Path:
        """See Storage."""
        self._requests["get"] += 1
        return self._storage.fetch(path, target)


def counted(store: Store, requests: Counter[str]) -> Store:
    """The store itself, with its requests counted from here on."""
    store._storage = Counted(store._storage, requests)
    return store


def count(pipeline: Pipeline) -> Counter[str]:
    """Counts the requests of a pipeline to both of its stores from here on."""
    requests: Counter[str] = Counter()
    counted(pipeline.ingestion_store, requests)
    counted(pipeline.processed_store, requests)
    return requests
