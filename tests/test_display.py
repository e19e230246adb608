"""Text for people: what a terminal would obey, or what hides, is written out; all that can be read stays as it is."""

from __future__ import annotations

import json
import sys
import unicodedata

import pytest

from totes.display import count, escaped, json_line, one_line

READABLE = [
    "plain", "ünï ço∂é 表 🎒", 'a "quoted" one', "back\\slash", "[red]no markup[/red]", ":smile:", "e\u0301", "１２", "no\u00a0break",
    "می\u200cخواهم", "👩\u200d👩\u200d👧", "क्\u200dष", "❤\ufe0f", "日\u3000本", "\u0601\u0661",
]  # fmt: skip
HIDDEN = {
    "\x1b]0;title\x07": r"\x1b]0;title\x07", "\x1b[2J": r"\x1b[2J", "\x9b31m": r"\x9b31m", "\x7f": r"\x7f", "\x00": r"\x00",
    "a\u202eb": r"a\u202eb", "\u2066": r"\u2066", "\u200e": r"\u200e", "\u061c": r"\u061c", "ad\u200bmin": r"ad\u200bmin", "ad\u200dmin": r"ad\u200dmin",
    "\ufeff": r"\ufeff", "\u00ad": r"\xad", "\u2028": r"\u2028", "\u2029": r"\u2029", "\x85": r"\x85", "\udcff": r"\udcff", "\U000e0041": r"\U000e0041",
    "\u3164": r"\u3164", "\r": r"\r", "\x08": r"\x08",
}  # fmt: skip


@pytest.mark.parametrize("text", READABLE)
def test_what_can_be_read_stays_as_it_is(text: str) -> None:
    assert (escaped(text), one_line(text)) == (text, text)


@pytest.mark.parametrize(("text", "shown"), HIDDEN.items(), ids=ascii)
def test_what_a_terminal_obeys_or_what_hides_is_written_out(text: str, shown: str) -> None:
    assert (escaped(text), one_line(text)) == (shown, shown)


def test_only_where_lines_are_expected_are_there_lines() -> None:
    assert escaped("a\n\tb") == "a\n\tb"
    assert one_line("a\n\tb") == r"a\n\tb"


def test_no_control_or_format_character_passes() -> None:
    passing = set(escaped("x".join(map(chr, range(sys.maxunicode + 1)))))
    shown = {
        unicodedata.name(character, "?")
        for character in passing
        if unicodedata.category(character) in ("Cf", "Zl", "Zp", "Cs")
    }
    assert {character for character in passing if unicodedata.category(character) == "Cc"} == {"\n", "\t"}
    assert all(name.startswith(("ARABIC", "SYRIAC", "KAITHI")) for name in shown), shown


def test_json_is_exact_and_ascii() -> None:
    text = "".join(HIDDEN) + "".join(READABLE)
    assert json.loads(json_line({"text": text})) == {"text": text}
    assert all(" " <= character <= "~" for character in json_line({text: text}))


def test_numbers_of_things_are_singular_and_plural() -> None:
    assert [count(1, "row"), count(0, "row"), count(2_000, "table")] == ["1 row", "0 rows", "2,000 tables"]
    assert [count(2, "batch"), count(1, "batch"), count(3, "entry"), count(3, "key"), count(2, "difference")] == [
        "2 batches", "1 batch", "3 entries", "3 keys", "2 differences",
    ]  # fmt: skip


def test_json_has_what_json_has_no_number_for_as_text() -> None:
    values = {"nan": float("nan"), "deep": [float("inf"), (-float("inf"), b"\x00\xff")]}
    assert json.loads(json_line(values)) == {"nan": "NaN", "deep": ["Infinity", ["-Infinity", "\\x00ff"]]}
