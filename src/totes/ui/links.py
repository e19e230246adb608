"""Where pages are: paths of the server, or files of an exported site with what it does not have left out."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import quote, urlencode

from totes.lake.layout import folder_name

EXPORTED = ("overview", "star", "quarantine", "verify", "plan")


class Links(Protocol):
    """Gives the address of a page from the page that is being written."""

    def page(self, page: str, name: str = "", query: Iterable[tuple[str, object]] = ()) -> str | None:
        """The address of a page, `name` being its table or batch; None where there is no such page."""

    def static(self, file: str) -> str:
        """The address of a style sheet or script."""


@dataclass(frozen=True)
class ServerLinks:
    """Paths of the server; `version` makes an address of its own for the files of each version."""

    version: str

    def page(self, page: str, name: str = "", query: Iterable[tuple[str, object]] = ()) -> str | None:
        """See Links."""
        path = "/" if page == "overview" else f"/{page}"
        found = urlencode(
            [(key, str(value)) for key, value in query if key == "key" or value not in (None, "")]
        )
        return path + (f"/{quote(name, safe='')}" if name else "") + (f"?{found}" if found else "")

    def static(self, file: str) -> str:
        """See Links."""
        return f"/static/{file}?{self.version}"


@dataclass(frozen=True)
class FileLinks:
    """Relative paths of files; `depth` is how many folders below the site's own the page is."""

    depth: int = 0

    def page(self, page: str, name: str = "", query: Iterable[tuple[str, object]] = ()) -> str | None:
        """See Links."""
        found = file_of(page, name)
        return None if found is None or list(query) else "../" * self.depth + quote(found)

    def static(self, file: str) -> str:
        """See Links."""
        return f"{'../' * self.depth}static/{file}"


def file_of(page: str, name: str = "") -> str | None:
    """The file of a page in an exported site; None where it has no such page."""
    if page == "star" and name:
        return f"star/{re.sub('%', '_', folder_name(name))}.html"
    if name or page not in (*EXPORTED, "dictionary"):
        return None
    if page == "dictionary":
        return "dictionary.json"
    return "index.html" if page == "overview" else f"{page}.html"
