"""Bundles: the small objects of one folder in a chapter's batches, copied into one object, so that nobody has to ask for each.

A bundle is an uncompressed ZIP archive, in which each object has the name that it has in the store. It is not data: every
object that is taken out of it is checked against its manifest, as if it had been read alone.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping
from io import BytesIO

from totes.lake.document import StoredObject

SMALL_BYTES_MAX = 64 << 10
BUNDLE_BYTES_MAX = 48 << 20


def pack(contents: Mapping[str, bytes]) -> bytes:
    """A bundle of objects, by path; the same ones always give the same bundle."""
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(contents):
            archive.writestr(zipfile.ZipInfo(path), contents[path])
    return packed.getvalue()


class Bundle:
    """A bundle that was read.

    Raises:
        zipfile.BadZipFile: it is none.
    """

    def __init__(self, content: bytes) -> None:
        self._archive = zipfile.ZipFile(BytesIO(content))
        self._members = {member.filename: member for member in self._archive.infolist()}

    def read(self, entry: StoredObject) -> bytes | None:
        """The content of an object; None if the bundle does not have it as its manifest says that it is."""
        member = self._members.get(entry.path)
        if member is None or (member.compress_type, member.file_size) != (zipfile.ZIP_STORED, entry.bytes):
            return None
        try:
            content = self._archive.read(member)
        except (zipfile.BadZipFile, EOFError, OSError, NotImplementedError, RuntimeError):
            return None
        return content if hashlib.sha256(content).hexdigest() == entry.sha256 else None
