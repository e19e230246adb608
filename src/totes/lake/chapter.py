"""Chapters: objects that stand for a row of manifests, such as a thousand of them, so that nobody has to read each.

A chapter has the text of its manifests, with what repeats stored once, and sums over all batches up to its last. It is made
from the manifests and proven by the digests that chain them. Nothing depends on it: without a chapter, or with one that is
damaged or forged, the manifests themselves are read.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from typing import Any, Generic, Literal, Self, TypeVar

from pydantic import Field

from totes.lake.document import Document
from totes.lake.manifest import Manifest, ModelChanges, TableChanges

M = TypeVar("M", bound=Manifest)
Entry = TableChanges | ModelChanges

# A block is a key of the document, of the position, or a table; a piece of it is one of the table's keys.
_BLOCK, _PIECE = re.compile(r'\n(?= {1,2}"| ?})'), re.compile(r'\n(?= {3}")')
_PREVIOUS = re.compile(r' "previous_sha256": ?"([0-9a-f]{64})",?$')
_DECODER = json.JSONDecoder()


class TableSums(Document):
    """A table up to a chapter's last batch: the rows and bytes of all objects with its changes.

    `changed` is the newest batch that changed it, and `quarantined` the newest one that put rows into quarantine or out of it;
    `changed_before` and `quarantined_before` are the newest ones before the chapter's first batch. 0 means none.
    """

    rows: int = 0
    bytes: int = 0
    changed: int = 0
    changed_before: int = 0
    quarantined: int = 0
    quarantined_before: int = 0

    def before_next(self) -> Self:
        """The sums with which the next chapter begins."""
        return self.model_copy(
            update={"changed_before": self.changed, "quarantined_before": self.quarantined}
        )

    def with_batch(self, batch: int, entry: Entry) -> Self:
        """The sums with one more batch."""
        return self.model_copy(
            update={
                "rows": self.rows + sum(stored.rows for stored in entry.objects),
                "bytes": self.bytes + sum(stored.bytes for stored in entry.objects),
                "changed": batch if entry.is_changed else self.changed,
                "quarantined": batch if entry.changes_quarantine else self.quarantined,
            }
        )


class Sums(Document):
    """Sums over all batches up to one; `largest` is the batch with the most rows, and `largest_rows` how many."""

    tables: dict[str, TableSums] = Field({})
    largest: int = 0
    largest_rows: int = 0

    def before_next(self) -> Self:
        """The sums with which the next chapter begins."""
        return self.model_copy(
            update={"tables": {name: sums.before_next() for name, sums in self.tables.items()}}
        )

    def plus(self, manifests: Iterable[Manifest]) -> Self:
        """The sums with further batches."""
        tables, largest, most = dict(self.tables), self.largest, self.largest_rows
        for manifest in manifests:
            rows = 0
            for name, entry in manifest.entries.items():
                if entry.is_changed or name not in tables:
                    tables[name] = tables.get(name, TableSums()).with_batch(manifest.batch, entry)
                    rows += sum(stored.rows for stored in entry.objects)
            if rows > most:
                largest, most = manifest.batch, rows
        return self.model_copy(update={"tables": tables, "largest": largest, "largest_rows": most})


class Chapter(Document):
    """The manifests of the batches from `first` to `last`: each a list of blocks, each of these a list of pieces of text."""

    format: Literal[1] = 1
    first: int
    last: int
    sums: Sums
    pieces: tuple[str, ...]
    blocks: tuple[tuple[int, ...], ...]
    manifests: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, first: int, contents: list[bytes], sums: Sums) -> Self:
        """Packs the stored manifests from batch `first` on; `sums` are those up to the last of them."""
        pieces: dict[str, int] = {}
        blocks: dict[tuple[int, ...], int] = {}

        def number(block: str) -> int:
            parts = tuple(pieces.setdefault(piece, len(pieces)) for piece in _PIECE.split(block))
            return blocks.setdefault(parts, len(blocks))

        manifests = tuple(
            tuple(number(block) for block in _BLOCK.split(content.decode())) for content in contents
        )
        return cls(
            first=first, last=first + len(contents) - 1, sums=sums,
            pieces=tuple(pieces), blocks=tuple(blocks), manifests=manifests,
        )  # fmt: skip

    def content(self) -> bytes:
        """The stored form."""
        return self.model_dump_json().encode()


class OpenChapter(Generic[M]):
    """A chapter that was read, and the manifests in it; tables that a batch does not change are parsed once."""

    def __init__(self, chapter: Chapter, kind: type[M]) -> None:
        self.first, self.last, self.sums = chapter.first, chapter.last, chapter.sums
        self._chapter = chapter
        self._kind = kind
        self._texts = ["\n".join(chapter.pieces[piece] for piece in block) for block in chapter.blocks]
        self._entries: dict[int, tuple[str, Any]] = {}
        self._read: dict[int, M] = {}

    def read(self, batch: int) -> M:
        """The manifest of one of its batches."""
        if batch not in self._read:
            self._read[batch] = self._parsed(self._chapter.manifests[batch - self.first])
        return self._read[batch]

    def newest_before(self, tables: Iterable[str], *, quarantine: bool = False) -> int:
        """The newest batch before the chapter that changed one of the tables, or its quarantine; 0 if none did."""
        found = (self.sums.tables.get(table, TableSums()) for table in tables)
        return max((one.quarantined_before if quarantine else one.changed_before for one in found), default=0)

    def is_proven_by(self, newest: bytes) -> bool:
        """Whether its manifests are those that the stored manifest of its last batch follows."""
        after = self._chapter.manifests[-1]
        if self._content(after) != newest:
            return False
        for before in reversed(self._chapter.manifests[:-1]):
            if self._previous(after) != hashlib.sha256(self._content(before)).hexdigest():
                return False
            after = before
        return True

    def _content(self, blocks: tuple[int, ...]) -> bytes:
        return "\n".join(self._texts[block] for block in blocks).encode()

    def _previous(self, blocks: tuple[int, ...]) -> str | None:
        """The digest of the manifest before, which a manifest names; to parse all of it would take twenty times as long."""
        found = (_PREVIOUS.match(self._texts[block]) for block in blocks)
        return next((match.group(1) for match in found if match), None)

    def _parsed(self, blocks: tuple[int, ...]) -> M:
        section, frame, entries = "", [], {}
        for block in blocks:
            text = self._texts[block]
            if text.startswith("  ") and section == self._kind.SECTION:
                name, entry = self._entry(block)
                entries[name] = entry
                continue
            if text.startswith(' "'):
                section = _DECODER.raw_decode(text, 1)[0]
            frame.append(text)
        return self._kind.of_parts(self._content(blocks), "\n".join(frame), entries)

    def _entry(self, block: int) -> tuple[str, Any]:
        if block not in self._entries:
            text = self._texts[block]
            name, end = _DECODER.raw_decode(text, 2)
            self._entries[block] = name, self._kind.ENTRY.model_validate_json(text[end + 1 :].rstrip(","))
        return self._entries[block]
