"""Locks with which processes that share a folder take turns; the system releases a lock when its process ends."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from totes.permissions import file_mode


@contextmanager
def lock_if_free(file: Path) -> Iterator[bool]:
    """Locks a file, created if needed, while the context lasts; yields False if another process holds it."""
    with _opened(file) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


@contextmanager
def lock(file: Path) -> Iterator[None]:
    """Waits for the lock on a file, created if needed, and holds it while the context lasts."""
    with _opened(file) as descriptor:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield


@contextmanager
def _opened(file: Path) -> Iterator[int]:
    """A descriptor to lock. Nothing is written to the file, and a symbolic link in its place is not followed."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(file, flags, file_mode(file.parent))
    try:
        yield descriptor
    finally:
        os.close(descriptor)
