"""Progress of long work: stages report what is done and how much of it, and a terminal shows that in one line.

Nothing here has an influence on the work. Where no person looks nobody listens, and a report costs a function call.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple, TextIO

from totes.display import duration, one_line, size

_UNSEEN_SECONDS = 0.5  # work that is done by then is not worth a line
_REDRAW_SECONDS = 0.125
_PLAIN_SECONDS = 10.0  # between lines where a line cannot be written over
# How long, and over which share of the work, a rate is measured before it says when the rest will be done.
_KNOWN_SECONDS, _KNOWN_SHARE = 1.0, 0.02
_CLEAR = "\r\x1b[2K"

_shown: Line | None = None


def report(doing: str, done: float | None = None, total: float | None = None, unit: str = "rows") -> None:
    """Says what is being done from now on, from any thread.

    Args:
        doing: what, as `reading payment`.
        done: how much of it is done, if that can be counted.
        total: how much there is, if that is known.
        unit: what is counted, in the plural; `bytes` are shown as kB, MB and so on.
    """
    line = _shown
    if line is not None:
        line.update(doing, done, total or None, unit)


@contextmanager
def shown_on(terminal: TextIO) -> Iterator[None]:
    """Shows what is reported on a terminal while the context lasts; afterwards nothing of it is left there."""
    global _shown  # noqa: PLW0603
    line = _shown = Line(terminal)
    try:
        yield
    finally:
        _shown = None
        line.end()


@contextmanager
def out_of_the_way() -> Iterator[None]:
    """Takes the line off the terminal while something else is written there."""
    line = _shown
    if line is None:
        yield
        return
    with line.cleared():
        yield


def clear() -> None:
    """Takes the line off the terminal for good, when the process is about to end without leaving its contexts."""
    line = _shown
    if line is not None:
        line.end()


class Step(NamedTuple):
    """What is being done and how much of it, as reported `at` a time; counted `since` a time, from `first` on."""

    doing: str
    done: float | None
    total: float | None
    unit: str
    at: float
    since: float
    first: float


class Line:
    """One line of a terminal that is written over, by a thread of its own, for as long as the work lasts."""

    def __init__(self, terminal: TextIO) -> None:
        self._terminal = terminal
        self._began = time.monotonic()
        self._is_plain = os.environ.get("TERM", "dumb") == "dumb"
        self._step: Step | None = None
        self._drawn = ""
        self._drawing = threading.RLock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._redraw, name="totes-progress", daemon=True)
        self._thread.start()

    def update(self, doing: str, done: float | None, total: float | None, unit: str) -> None:
        """Takes in a report; the thread draws it."""
        step, now = self._step, time.monotonic()
        if step and step.done is not None and done is not None:
            same = (total, unit) == (step.total, step.unit) and done >= step.done
            if same:  # what is counted goes on, though its name may be another
                self._step = step._replace(doing=doing, done=done, at=now)
                return
        self._step = Step(doing, done, total, unit, now, now, done or 0)

    @contextmanager
    def cleared(self) -> Iterator[None]:
        """Keeps the terminal free of the line while the context lasts."""
        with self._drawing:
            self._clear()
            yield

    def end(self) -> None:
        """Ends the thread, and clears the line."""
        self._ended.set()
        self._thread.join()
        self._clear()

    def _redraw(self) -> None:
        if self._ended.wait(_UNSEEN_SECONDS):
            return
        while True:
            with self._drawing:
                self._draw()
            if self._ended.wait(_PLAIN_SECONDS if self._is_plain else _REDRAW_SECONDS):
                return

    def _draw(self) -> None:
        step = self._step
        if step is None:
            return
        columns = shutil.get_terminal_size().columns - 1  # a full line would move to the next one
        text = fitted(step, time.monotonic(), self._began, columns)
        if text != self._drawn:
            self._write(f"{text}\n" if self._is_plain else f"{_CLEAR}{text}")
            self._drawn = text

    def _clear(self) -> None:
        if self._drawn and not self._is_plain:
            self._write(_CLEAR)
        self._drawn = ""

    def _write(self, text: str) -> None:
        with suppress(OSError, ValueError):  # the terminal is gone: the work goes on
            self._terminal.write(text)
            self._terminal.flush()


def fitted(step: Step, now: float, began: float, columns: int) -> str:
    """The line for a step, without the parts for which there is no room."""
    doing, counted, rate, left = one_line(step.doing), _counted(step), _rate(step), _left(step, now)
    passed = "" if left else duration(now - began)
    for parts in (
        (doing, counted, rate, left, passed),
        (doing, counted, left, passed),
        (doing, counted),
        (doing,),
    ):
        text = "  ".join(filter(None, parts))
        if width(text) <= columns:
            return text
    return cut(doing, columns)


def _counted(step: Step) -> str:
    total = _total(step)
    if step.done is None or total == 1:
        return ""
    if step.unit == "bytes":
        return size(int(step.done)) + (f" of {size(int(total))}" if total else "")
    return f"{int(step.done):,}{f' of {total:,.0f}' if total else ''} {step.unit}"


def _total(step: Step) -> float | None:
    """The total, unless it is not known, or was wrong."""
    return step.total if step.total and step.done is not None and step.done <= step.total else None


def _per_second(step: Step) -> float:
    """How much was done in a second up to the last report; 0 where that says little yet."""
    counted, seconds = (step.done or 0) - step.first, step.at - step.since
    if seconds < _KNOWN_SECONDS or counted < (step.total or 0) * _KNOWN_SHARE:
        return 0.0
    return counted / seconds


def _rate(step: Step) -> str:
    speed = _per_second(step)
    if speed <= 0 or _total(step) == 1:
        return ""
    return f"{size(int(speed))}/s" if step.unit == "bytes" else f"{speed:,.{0 if speed >= 10 else 1}f}/s"


def _left(step: Step, now: float) -> str:
    speed, total = _per_second(step), _total(step)
    if speed <= 0 or total is None:
        return ""
    left = (total - (step.done or 0)) / speed - (now - step.at)
    return f"{duration(left)} left" if left > 0 else ""


def width(text: str) -> int:
    """How many columns of a terminal a text takes: wide characters take two, combining ones none."""
    return sum(map(_columns, text))


def cut(text: str, columns: int) -> str:
    """The beginning of a text in so many columns; it ends with an ellipsis where something is missing."""
    if width(text) <= columns:
        return text
    shown, used = [], 1
    for character in text:
        used += _columns(character)
        if used > columns:
            break
        shown.append(character)
    return f"{''.join(shown)}…" if columns > 0 else ""


def _columns(character: str) -> int:
    if character < "\u0300":
        return 1
    if unicodedata.combining(character) or unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
