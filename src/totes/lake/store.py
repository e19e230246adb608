"""A store: a folder or an S3 prefix that takes each object once and never changes it. It knows nothing of batches."""

from __future__ import annotations

import hashlib
import mmap
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import LocalStore, S3Store

from totes.errors import ConfigurationError, LakeDamaged, StoreError
from totes.failpoint import reach
from totes.lake.manifest import StoredObject
from totes.redaction import redact

if TYPE_CHECKING:
    from obstore.store import ObjectStore

_CHUNK_BYTES = 1 << 20


class ObjectExists(Exception):
    """The object is there already; put-if-absent left it as it was."""


class Store:
    """Put-if-absent storage of immutable objects.

    Every method raises StoreError when the storage itself fails; objects are named by paths with `/`.
    """

    def __init__(self, url: str, storage: ObjectStore, folder: Path | None) -> None:
        self.url = url
        self._storage = storage
        self._folder = folder

    @classmethod
    def open(cls, url: str, base: Path) -> Store:
        """Opens the store at a folder (created if needed; relative ones below `base`) or at `s3://bucket/prefix`.

        Raises:
            ConfigurationError: another kind of URL, or one without a bucket.
        """
        if url.startswith("s3://"):
            bucket, _, prefix = url.removeprefix("s3://").partition("/")
            if not bucket:
                raise ConfigurationError(f"{url} names no bucket", hint="Write s3://bucket/prefix")
            plain_http = os.environ.get("AWS_ENDPOINT_URL", "").startswith("http://")
            storage: ObjectStore = S3Store(
                bucket,
                prefix=prefix.strip("/") or None,
                client_options={"allow_http": plain_http, "timeout": "5m"},
            )
            return cls(url.rstrip("/"), storage, None)
        if re.match(r"[a-z0-9+]+://", url):
            raise ConfigurationError(
                f"{url} is not a store", hint="A store is a folder or s3://bucket/prefix"
            )
        folder = (base / Path(url).expanduser()).resolve()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            return cls(str(folder), LocalStore(folder), folder)
        except (OSError, BaseError) as error:
            raise StoreError(f"the folder {folder} cannot be used as a store: {error}") from error

    def put_new(self, path: str, content: bytes | Path) -> None:
        """Writes an object that is not there yet: all of it or nothing, and of any number of racing calls one wins.

        Raises:
            ObjectExists: it is there; its content was not touched.
        """
        try:
            buffer = _mapped(content) if isinstance(content, Path) else content
            reach("store.put.before")
            obstore.put(self._storage, path, buffer, mode="create", use_multipart=False)
            reach("store.put.after")
        except AlreadyExistsError as error:
            raise ObjectExists(path) from error
        except (BaseError, OSError) as error:
            raise StoreError(f"writing {self.location(path)} failed: {_first_line(error)}") from error

    def put_file(self, path: str, file: Path, rows: int) -> StoredObject:
        """Writes a local file as a new object and gives its entry for a manifest."""
        digest, size = _digest(file)
        entry = StoredObject(path=path, rows=rows, bytes=size, sha256=digest)
        try:
            self.put_new(path, file)
        except ObjectExists as error:
            # A put whose answer was lost is sent again by the storage client and then meets its own object.
            try:
                with self.local([entry]):
                    return entry
            except LakeDamaged:
                raise StoreError(
                    f"{self.location(path)} exists already, though its name is random"
                ) from error
        return entry

    def read(self, path: str) -> bytes | None:
        """The object's content, or None where there is no such object."""
        try:
            return bytes(obstore.get(self._storage, path).bytes())
        except FileNotFoundError:
            return None
        except (BaseError, OSError) as error:
            raise StoreError(f"reading {self.location(path)} failed: {_first_line(error)}") from error

    def list(self, prefix: str, after: str | None = None) -> Iterator[str]:
        """The paths below `prefix` that sort after `after`, in no particular order."""
        try:
            for page in obstore.list(self._storage, prefix, offset=after, chunk_size=1000):
                yield from (entry["path"] for entry in page)
        except (BaseError, OSError) as error:
            raise StoreError(f"listing {self.location(prefix)} failed: {_first_line(error)}") from error

    @contextmanager
    def local(self, objects: Sequence[StoredObject]) -> Iterator[Sequence[Path]]:
        """The objects as local files while the context lasts, each checked against its sha256.

        Raises:
            LakeDamaged: an object is missing, or is not what its manifest says.
        """
        with tempfile.TemporaryDirectory(prefix="totes-") as scratch:
            yield [self._local(entry, Path(scratch) / str(number)) for number, entry in enumerate(objects)]

    def _local(self, entry: StoredObject, target: Path) -> Path:
        file = self._folder / entry.path if self._folder else self._download(entry.path, target)
        if not file.is_file():
            raise LakeDamaged(
                f"{self.location(entry.path)} is missing, though a manifest names it",
                hint="Restore it from a backup; nothing was taken from its batch",
            )
        digest, size = _digest(file)
        if (digest, size) != (entry.sha256, entry.bytes):
            raise LakeDamaged(
                f"{self.location(entry.path)} is not what was written: {size} bytes with sha256 {digest[:12]}…, "
                f"where the manifest says {entry.bytes} with {entry.sha256[:12]}…",
                hint="Restore it from a backup; nothing was taken from its batch",
            )
        return file

    def _download(self, path: str, target: Path) -> Path:
        try:
            with target.open("wb") as file:
                for chunk in obstore.get(self._storage, path).stream(min_chunk_size=_CHUNK_BYTES):
                    file.write(chunk)
        except FileNotFoundError:
            target.unlink()
        except (BaseError, OSError) as error:
            raise StoreError(f"reading {self.location(path)} failed: {_first_line(error)}") from error
        return target

    def location(self, path: str) -> str:
        """Where an object is, for a person."""
        return f"{self.url}/{path}"


def _mapped(file: Path) -> bytes | mmap.mmap:
    """The file's content without taking memory for it: a put that must be all or nothing takes it in one piece."""
    with file.open("rb") as content:
        return mmap.mmap(content.fileno(), 0, access=mmap.ACCESS_READ) if file.stat().st_size else b""


def _digest(file: Path) -> tuple[str, int]:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest(), file.stat().st_size


def _first_line(error: BaseException) -> str:
    return redact(str(error).strip().partition("\n")[0])
