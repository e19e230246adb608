"""Text that a person typed, cut into SQL statements: as DuckDB and PostgreSQL both read quotes, comments and semicolons."""

from __future__ import annotations

import re

_OPENED = re.compile(r"'|\"|\$(?:[^\W\d]\w*)?\$|/\*")
_TOKEN = re.compile(
    r"--[^\n]*|[eE]'(?:\\.|''|[^'\\])*'|'(?:''|[^'])*'|\"(?:\"\"|[^\"])*\"|(?P<tag>\$(?:[^\W\d]\w*)?\$).*?(?P=tag)"
    r"|[^\W\d][\w$]*|;",
    re.DOTALL,
)
_COMMENT_EDGE = re.compile(r"/\*|\*/")


def split(text: str) -> tuple[list[str], str]:
    """The statements that end with a semicolon, without it, and what follows the last; comments alone are no statement."""
    found: list[str] = []
    begin, place, empty = 0, 0, True
    while place < len(text):
        if text.startswith("/*", place):
            place = _comment_end(text, place)
            continue
        token = _TOKEN.match(text, place)
        if token is None and _OPENED.match(text, place):
            return found, text[begin:]  # what is opened here never ends
        end = token.end() if token else place + 1
        if text[place:end] == ";":
            if not empty:
                found.append(text[begin:place])
            begin, empty = end, True
        elif not text.startswith("--", place) and not text[place:end].isspace():
            empty = False
        place = end
    return found, "" if empty else text[begin:]


def _comment_end(text: str, place: int) -> int:
    """Where a comment ends that begins there; comments may have comments in them."""
    depth = 0
    for edge in _COMMENT_EDGE.finditer(text, place):
        depth += 1 if edge.group() == "/*" else -1
        if not depth:
            return edge.end()
    return len(text)
