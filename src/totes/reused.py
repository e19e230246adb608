"""Something that is opened for each use, or, while somebody wants that, kept open from one use to the next."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Generic, TypeVar

T = TypeVar("T")


class Reused(Generic[T]):
    """What `opens` opens. Uses follow one another: two never overlap."""

    def __init__(self, opens: Callable[[], AbstractContextManager[T]]) -> None:
        self._opens = opens
        self._is_kept = False
        self._opened = ExitStack()
        self._value: T | None = None

    @contextmanager
    def use(self) -> Iterator[T]:
        """Opens it for as long as the context lasts, unless it is kept open."""
        if not self._is_kept:
            with self._opens() as value:
                yield value
            return
        if self._value is None:
            self._value = self._opened.enter_context(self._opens())
        yield self._value

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Keeps it open until the context ends."""
        self._is_kept = True
        try:
            yield
        finally:
            self._is_kept = False
            self.close()

    def close(self) -> None:
        """Closes what is kept open; the next use opens it again."""
        self._value = None
        self._opened.close()
