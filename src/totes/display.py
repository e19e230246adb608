"""Text for people: without terminal control characters and invisible characters, and with readable counts.

Names and values come from databases, files and arguments, and may contain anything. All text for a person, on a terminal, in
a log or in a mail, passes through one of these functions last. For a program there is JSON, in which every value is exact.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from decimal import Decimal

_LAYOUT = "\n\t"
_NAMED = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
# Controls, lone surrogates, direction marks, line separators, and all other characters that may have no width.
_SUSPECTS = re.compile(r"[^\x20-\x7e\xa0-\xac\xae-\u02ff\u0370-\u05ff]")
_HIDDEN_CATEGORIES = {"Cc", "Cf", "Cs", "Zl", "Zp"}
_HIDDEN = set("\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0")
_VISIBLE_FORMATS = set(
    "\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd"
)
_JOINERS = "\u200c\u200d"


def escaped(text: str) -> str:
    """The text with its line breaks and tabs; other control and invisible characters become Python's escapes."""
    return _SUSPECTS.sub(lambda found: found.group() if found.group() in _LAYOUT else _escape(found), text)


def one_line(value: object) -> str:
    """Any value as one line: as `escaped`, with line breaks and tabs escaped too."""
    return _SUSPECTS.sub(_escape, str(value))


def json_line(document: object) -> str:
    """A document as one line of JSON in ASCII: every value is exact, and control characters are escaped.

    Numbers that JSON does not support become text in PostgreSQL's form, and so do bytes.
    """
    try:
        text = json.dumps(document, default=_as_text, allow_nan=False)
    except ValueError:
        text = json.dumps(_finite(document), default=_as_text)
    return text.replace("\x7f", "\\u007f")


def _as_text(value: object) -> str:
    return f"\\x{value.hex()}" if isinstance(value, bytes) else str(value)


def _finite(value: object) -> object:
    if isinstance(value, dict):
        return {name: _finite(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return str(Decimal(value)) if isinstance(value, float) and not math.isfinite(value) else value


def count(number: int, noun: str) -> str:
    """A number of things: `1 table`, `2,000 tables`, `3 batches`, `0 entries`."""
    if number != 1:
        if re.search(r"(s|x|z|ch|sh)$", noun):
            noun += "es"
        elif re.search(r"[^aeiou]y$", noun):
            noun = f"{noun[:-1]}ies"
        else:
            noun += "s"
    return f"{number:,} {noun}"


def size(number: int) -> str:
    """A number of bytes: `812 bytes`, `1.4 kB`, `23.0 MB`."""
    if number < 1000:
        return count(number, "byte")
    shown, unit = float(number), ""
    for unit in ("kB", "MB", "GB", "TB"):  # noqa: B007
        shown /= 1000
        if shown < 1000:
            break
    return f"{shown:,.1f} {unit}"


def duration(seconds: float) -> str:
    """A time in the two largest units that matter: `4 s`, `2 min 5 s`, `3 h 20 min`, `2 d 4 h`."""
    whole = max(0, round(seconds))
    for unit, length, lesser, part in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if whole >= length:
            rest = whole % length // part
            return f"{whole // length} {unit}{f' {rest} {lesser}' if rest else ''}"
    return f"{whole} s"


def _escape(found: re.Match[str]) -> str:
    character = found.group()
    if character in _NAMED:
        return _NAMED[character]
    hidden = unicodedata.category(character) in _HIDDEN_CATEGORIES and character not in _VISIBLE_FORMATS
    if not (hidden or character in _HIDDEN) or (character in _JOINERS and _joins(found)):
        return character
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _joins(found: re.Match[str]) -> bool:
    """Whether a joiner is where writing needs one: between two non-ASCII characters, of a script or an emoji."""
    text, place = found.string, found.start()
    return all(0 <= beside < len(text) and text[beside] > "\xff" for beside in (place - 1, place + 1))
