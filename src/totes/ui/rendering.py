"""Templates, and how values are written on a page."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from totes import __version__
from totes.display import count, one_line, size
from totes.ui.links import Links


@dataclass(frozen=True)
class Page:
    """What a page is made of: its template and what that shows; `refresh` asks for it again after as many seconds."""

    template: str
    values: dict[str, Any] = field(default_factory=dict)
    status: int = 200
    refresh: int | None = None


@dataclass(frozen=True)
class Surroundings:
    """What all pages share. `csrf` is empty where nothing can be changed, and `warning` where there is nothing to warn of."""

    project: str
    links: Links
    csrf: str = ""
    warning: str = ""


class Renderer:
    """Makes HTML of pages. All values are escaped, and characters that hide or turn text around are written out."""

    def __init__(self) -> None:
        self._environment = Environment(
            loader=PackageLoader("totes.ui"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters.update(
            moment=moment, seconds=seconds, bytes=size, thousands=thousands, value=value, ago=ago
        )
        self._environment.globals.update(count=count, version=__version__)

    def html(self, page: Page, around: Surroundings) -> str:
        """The page."""
        template = self._environment.get_template(page.template)
        return template.render(
            page.values,
            around=around,
            link=around.links.page,
            static=around.links.static,
            here=page.template.partition(".")[0],
            now=datetime.now(UTC),
            refresh=page.refresh,
        )


def moment(when: datetime | str | None) -> Markup:
    """A moment in UTC, to the second."""
    if when is None:
        return Markup('<span class="none">–</span>')
    if isinstance(when, str):
        when = datetime.fromisoformat(when)
    utc = when.astimezone(UTC) if when.tzinfo else when.replace(tzinfo=UTC)
    return Markup('<time datetime="{}">{:%Y-%m-%d} <b>{:%H:%M:%S}</b></time>').format(
        utc.isoformat(), utc, utc
    )


def ago(when: datetime | float | None) -> str:
    """How long ago a moment was, or as many seconds, in its largest unit."""
    if when is None:
        return "–"
    passed = when if isinstance(when, int | float) else (datetime.now(UTC) - when).total_seconds()
    passed = max(0.0, passed)  # a clock may have been set back
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if passed >= 2 * length:
            return f"{count(int(passed // length), unit)} ago"
    return f"{count(int(passed), 'second')} ago"


def seconds(number: float | None) -> str:
    """A duration: `0.42 s`, `12.3 s`, `4:05 min`, `2:10:00 h`."""
    if number is None:
        return "–"
    if 0 < number < 0.01:
        return "under 0.01 s"
    if number < 10:
        return f"{number:.2f} s"
    if number < 120:
        return f"{number:.1f} s"
    if number < 3600:
        return f"{int(number) // 60}:{int(number) % 60:02d} min"
    return f"{timedelta(seconds=int(number))} h"


def thousands(number: int | None) -> str:
    """A number with its thousands apart."""
    return "–" if number is None else f"{number:,}"


def value(content: object) -> Markup | str:
    """A value of a table, on one line; NULL looks like no text could."""
    if content is None:
        return Markup('<i class="null">null</i>')
    return one_line(content)
