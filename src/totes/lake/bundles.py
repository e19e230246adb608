"""The bundles of a store: writing those of a chapter, and taking objects out of them."""

from __future__ import annotations

import zipfile
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from threading import Lock

from totes.lake.bundle import BUNDLE_BYTES_MAX, SMALL_BYTES_MAX, Bundle
from totes.lake.document import StoredObject
from totes.lake.layout import bundle_path

_MANY = 20  # from so many objects on, reading their bundle is cheaper than reading each
_OPEN_MAX = 4


class Bundles:
    """Those of one store; `read` gives an object that may be missing."""

    def __init__(self, read: Callable[[str], bytes | None]) -> None:
        self._read = read
        self._open: OrderedDict[str, Bundle] = OrderedDict()
        self._turn = Lock()

    def content(self, entry: StoredObject) -> bytes | None:
        """An object out of its bundle; None if that does not have it."""
        place = bundle_path(entry.path)
        bundle = self._opened(place) if place and entry.bytes <= SMALL_BYTES_MAX else None
        return bundle.read(entry) if bundle else None

    def contents(self, entries: Iterable[StoredObject]) -> dict[str, bytes]:
        """Those of the objects, by path, that are many of one bundle and are in it."""
        places: dict[str | None, list[StoredObject]] = {}
        for entry in entries:
            places.setdefault(bundle_path(entry.path), []).append(entry)
        found: dict[str, bytes] = {}
        for place, wanted in places.items():
            if place and len(wanted) >= _MANY and (bundle := self._opened(place)):
                read = ((one.path, bundle.read(one)) for one in wanted)
                found |= {path: content for path, content in read if content is not None}
        return found

    def _opened(self, place: str) -> Bundle | None:
        with self._turn:
            if place not in self._open:
                content = self._read(place)
                try:
                    self._open[place] = Bundle(content or b"")
                except zipfile.BadZipFile:
                    return None  # it is not there yet, or damaged: then objects are read alone
                while len(self._open) > _OPEN_MAX:
                    self._open.popitem(last=False)
            return self._open[place]


def bundled(entries: Iterable[StoredObject]) -> dict[str, list[StoredObject]]:
    """Which objects of a chapter's batches are put into which bundle: the small ones, until it is full."""
    places: dict[str, list[StoredObject]] = {}
    sizes = Counter[str]()
    for entry in entries:
        place = bundle_path(entry.path)
        if place and entry.bytes <= SMALL_BYTES_MAX and sizes[place] + entry.bytes <= BUNDLE_BYTES_MAX:
            sizes[place] += entry.bytes
            places.setdefault(place, []).append(entry)
    return {place: found for place, found in places.items() if len(found) >= _MANY}
