"""A store: a folder or an S3 prefix whose objects are written once and never changed. It knows nothing of batches."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from totes.engine import is_pattern
from totes.errors import ConfigurationError, LakeDamaged, StoreError, StoreRefused
from totes.failpoint import reach
from totes.lake.bundle import pack
from totes.lake.bundles import Bundles, bundled
from totes.lake.document import StoredObject
from totes.lake.folder import Folder, digest
from totes.lake.storage import TooLarge
from totes.permissions import NOT_ALLOWED, make_folders, obstacle
from totes.redaction import redact
from totes.scratch import temporary_folder
from totes.urls import store_fault

if TYPE_CHECKING:
    from totes.lake.storage import Storage

# Far beyond any real document: it is enough for 5,000 tables of 80 columns, or 200,000 objects.
DOCUMENT_BYTES_MAX = 64 << 20
_READERS = 8  # requests at once
_REFUSED = re.compile(r"status code: 40[13]\b|NoSuchBucket")


class ObjectExists(Exception):
    """The object exists already; put-if-absent did not change it."""


class Store:
    """Put-if-absent storage of immutable objects.

    Every method raises StoreError when the storage itself fails; objects are named by paths with `/`.
    """

    def __init__(self, url: str, storage: Storage, folder: Path | None) -> None:
        self.url = url
        self._storage = storage
        self._folder = folder
        self._bundles = Bundles(self.read)

    @classmethod
    def open(cls, url: str, base: Path, setting: str | None = None) -> Store:
        """Opens the store at a folder (created if needed) or at `s3://bucket/prefix`.

        Args:
            url: the folder or S3 URL.
            base: the folder that a relative one starts from.
            setting: the setting that names it, for messages.

        Raises:
            ConfigurationError: it is another kind of URL, or one without a bucket.
            StoreError: the folder cannot be created.
        """
        if url.startswith("s3://"):
            from totes.lake.s3 import S3

            return cls(url.rstrip("/"), S3(*_bucket_of(url)), None)
        if fault := store_fault(url):
            raise ConfigurationError(fault)
        folder = _resolved(url, base)
        try:
            make_folders(folder)
        except OSError as error:
            found, hint = obstacle(folder, error, setting)
            raise StoreError(f"the folder {folder} cannot be used as a store: {found}", hint=hint) from error
        return cls(str(folder), Folder(folder), folder)

    @property
    def folders(self) -> tuple[Path, ...]:
        """The folder in which objects are read in place; empty if they are downloaded first."""
        return (self._folder,) if self._folder else ()

    def put_new(self, path: str, content: bytes | Path) -> None:
        """Writes a new object atomically: of any number of racing calls, one wins.

        Raises:
            ObjectExists: it exists, from another call, or from this one if a response was lost and the request repeated.
                Its content was not touched.
        """
        try:
            reach("store.put.before")
            self._storage.put(path, content)
            reach("store.put.after")
        except FileExistsError as error:
            raise ObjectExists(path) from error
        except self._storage.failures as error:
            reason, hint = _first_line(error), None
            if "No space left" in reason:
                hint = "Check the free space there"
            elif self._folder and isinstance(error, OSError) and error.errno in NOT_ALLOWED:
                reason, hint = obstacle(self._folder / path, error)
            raise _failure(f"writing {self.location(path)} failed: {reason}", error, hint) from error

    def settle(self, paths: Iterable[str]) -> None:
        """Makes objects durable: they survive a power failure."""
        try:
            self._storage.settle(paths)
        except self._storage.failures as error:
            raise StoreError(f"writing to {self.url} failed: {error}") from error

    def put_file(self, path: str, file: Path, rows: int) -> StoredObject:
        """Writes a local file as a new object and returns its entry for a manifest."""
        found, size = digest(file)
        entry = StoredObject(path=path, rows=rows, bytes=size, sha256=found)
        try:
            self.put_new(path, file)
        except ObjectExists as error:
            # If the response to a put was lost, the storage client sends it again and finds its own object.
            try:
                with self.local([entry]):
                    return entry
            except LakeDamaged:
                raise StoreError(
                    f"{self.location(path)} exists already, though its name is random"
                ) from error
        return entry

    def read(self, path: str) -> bytes | None:
        """The content of a document, or None if there is no such object.

        Raises:
            LakeDamaged: it is larger than any document can be.
        """
        try:
            return self._storage.read(path, DOCUMENT_BYTES_MAX)
        except FileNotFoundError:
            return None
        except TooLarge as error:
            raise LakeDamaged(
                f"{self.location(path)} has {error.size} bytes, more than any document of totes",
                hint="Restore it from a backup; it was not read",
            ) from error
        except self._storage.failures as error:
            raise _failure(f"reading {self.location(path)} failed: {_first_line(error)}", error) from error

    def list(self, prefix: str, after: str | None = None) -> Iterator[str]:
        """The paths that begin with `prefix` and sort after `after`, in no particular order."""
        try:
            yield from self._storage.list(prefix, after)
        except self._storage.failures as error:
            raise _failure(f"listing {self.location(prefix)} failed: {_first_line(error)}", error) from error

    def present(self, paths: Sequence[str]) -> set[str]:
        """Those of some paths at which there are objects; sorted ones of one folder, with few objects between and after them."""
        try:
            return self._storage.present(paths)
        except self._storage.failures as error:
            raise StoreError(f"listing {self.location(paths[0])} failed: {_first_line(error)}") from error

    def is_empty(self) -> bool:
        """Whether there are no objects."""
        return next(iter(self.list("")), None) is None

    @contextmanager
    def local(self, objects: Sequence[StoredObject]) -> Iterator[Sequence[Path]]:
        """The objects as local files while the context lasts, each checked against its sha256.

        Raises:
            LakeDamaged: an object is missing, or does not match its manifest.
        """
        with temporary_folder() as scratch:
            bundled = self._bundles.contents(objects)
            places = [scratch / str(number) for number in range(len(objects))]
            contents = [bundled.get(entry.path) for entry in objects]
            if self._folder:
                yield list(map(self._local, objects, places, contents))
            else:
                with ThreadPoolExecutor(_READERS) as readers:
                    files = list(readers.map(self._local, objects, places, contents))
                yield files

    def check(self, entry: StoredObject) -> bool:
        """Reads an object and checks its digest; returns False if there is no such object, nor a bundle with it.

        Raises:
            LakeDamaged: it exists, and does not match its manifest.
        """
        try:
            found = self._storage.digest(entry.path)
            if self._folder is None and found != (entry.sha256, entry.bytes):
                found = self._storage.digest(entry.path)  # once more: the download may have been cut short
        except FileNotFoundError:
            return self._bundles.content(entry) is not None
        except self._storage.failures as error:
            raise _failure(
                f"reading {self.location(entry.path)} failed: {_first_line(error)}", error
            ) from error
        self._compare(entry, *found)
        return True

    def bundle(self, entries: Iterable[StoredObject]) -> None:
        """Copies the small objects of a chapter's batches into bundles, unless these are there.

        Raises:
            LakeDamaged: one of the objects is missing, or does not match its manifest.
        """
        for place, packed in bundled(entries).items():
            with self.local(packed) as files:
                contents = {entry.path: file.read_bytes() for entry, file in zip(packed, files, strict=True)}
            with suppress(ObjectExists):
                self.put_new(place, pack(contents))

    def _local(self, entry: StoredObject, target: Path, content: bytes | None) -> Path:
        if content is not None:
            target.write_bytes(content)
            return target
        file = self._fetch(entry, target)
        if not file.is_file() and (content := self._bundles.content(entry)) is not None:
            return self._local(entry, target, content)
        if is_pattern(file) and file.is_file():
            file = Path(shutil.copyfile(file, target))  # the engine would read its name as a pattern
        if not file.is_file():
            raise self._missing(entry)
        if self._folder is None and digest(file) != (entry.sha256, entry.bytes):
            self._fetch(entry, target)  # once more: the download may have been cut short
        self._compare(entry, *digest(file))
        return file

    def _missing(self, entry: StoredObject) -> LakeDamaged:
        return LakeDamaged(
            f"{self.location(entry.path)} is missing, though a manifest names it",
            hint="Restore it from a backup; its batch was not used",
        )

    def _compare(self, entry: StoredObject, found: str, size: int) -> None:
        if (found, size) != (entry.sha256, entry.bytes):
            raise LakeDamaged(
                f"{self.location(entry.path)} is not what was written: it has {size} bytes with sha256 {found[:12]}…, "
                f"the manifest records {entry.bytes} with {entry.sha256[:12]}…",
                hint="Restore it from a backup; its batch was not used",
            )

    def _fetch(self, entry: StoredObject, target: Path) -> Path:
        try:
            return self._storage.fetch(entry.path, target)
        except OSError as error:
            raise StoreError(
                f"copying {self.location(entry.path)} to {target} failed: {error.strerror}",
                hint="Check the free space there, or set TMPDIR to another folder",
            ) from error
        except self._storage.failures as error:
            raise _failure(
                f"reading {self.location(entry.path)} failed: {_first_line(error)}", error
            ) from error

    def location(self, path: str) -> str:
        """Where an object is, for a person."""
        return f"{self.url}/{path}"


def folder_of(url: str, base: Path) -> Path | None:
    """The folder that a store's URL names, resolved (a relative one below `base`); None if it names no folder."""
    return None if url.startswith("s3://") or store_fault(url) else _resolved(url, base)


def _resolved(path: str, base: Path) -> Path:
    return (base / Path(path).expanduser()).resolve()


def _bucket_of(url: str) -> tuple[str, str]:
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    if not bucket:
        raise ConfigurationError(f"{url} names no bucket", hint="Write s3://bucket/prefix")
    within = all(part not in ("", ".", "..") for part in prefix.strip("/").split("/") if prefix.strip("/"))
    if not re.fullmatch(r"[A-Za-z0-9._-]+", bucket) or "?" in prefix or not within:
        raise ConfigurationError(  # the URL is not shown: it may contain a secret key
            "an s3:// URL of the lake has more in it than a bucket and a plain prefix",
            hint="Write s3://bucket/prefix, and set credentials and endpoint in the environment (AWS_…)",
        )
    return bucket, prefix.strip("/")


def _failure(what: str, error: BaseException, hint: str | None = None) -> StoreError:
    """The error of a failed request: another class if asking again is of no use."""
    if _REFUSED.search(str(error)):
        step = "Check that the bucket exists, and what it and these credentials allow: docs/how-to/s3-lake.md"
        return StoreRefused(what, hint=step)
    return StoreError(what, hint=hint)


def _first_line(error: BaseException) -> str:
    return redact(str(error).strip().partition("\n")[0])
