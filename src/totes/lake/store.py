"""A store: a folder or an S3 prefix that takes each object once and never changes it. It knows nothing of batches."""

from __future__ import annotations

import hashlib
import mmap
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, GenericError
from obstore.store import LocalStore, S3Store

from totes.engine import is_pattern
from totes.errors import ConfigurationError, LakeDamaged, StoreError
from totes.failpoint import reach
from totes.lake.manifest import StoredObject
from totes.redaction import redact

if TYPE_CHECKING:
    from obstore.store import ObjectStore

_CHUNK_BYTES = 1 << 20
_SYNCING_THREADS = 8
# How long S3 is asked again while it fails, and how long one request may take, its content included.
RETRY_SECONDS_MAX = 60.0
_REQUEST_TIMEOUT = timedelta(minutes=5)
_PAUSE_SECONDS, _PAUSE_SECONDS_MAX = 0.1, 5.0
# A listing that is refused (no such bucket, a wrong key) has no class of its own; timed out and slowed down have another code.
_REFUSAL = re.compile(r"status code: 4(?!08|29)\d\d")
T = TypeVar("T")


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
            within = all(
                part not in ("", ".", "..") for part in prefix.strip("/").split("/") if prefix.strip("/")
            )
            if not re.fullmatch(r"[A-Za-z0-9._-]+", bucket) or "?" in prefix or not within:
                raise ConfigurationError(  # it is not shown: it may be a key with its secret
                    "an s3:// URL of the lake has more in it than a bucket and a plain prefix",
                    hint="Write s3://bucket/prefix, and give credentials and endpoint by the environment (AWS_…)",
                )
            return cls(url.rstrip("/"), _s3(bucket, prefix.strip("/")), None)
        if re.match(r"[A-Za-z0-9+.-]+://", url):
            raise ConfigurationError(
                f"{url.partition('://')[0]}://… is not a store",
                hint="A store is a folder or s3://bucket/prefix",
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
            ObjectExists: it is there, from another call, or from this one when an answer was lost and it was sent
                again; its content was not touched.
        """
        try:
            buffer = _mapped(content) if isinstance(content, Path) else content
            reach("store.put.before")
            self._insist(lambda: obstore.put(self._storage, path, buffer, mode="create", use_multipart=False))
            reach("store.put.after")
        except AlreadyExistsError as error:
            raise ObjectExists(path) from error
        except (BaseError, OSError) as error:
            hint = "Check the free space there" if "No space left" in str(error) else None
            raise StoreError(
                f"writing {self.location(path)} failed: {_first_line(error)}", hint=hint
            ) from error

    def settle(self, paths: Iterable[str]) -> None:
        """Makes sure that objects outlive a loss of power: S3 keeps what it has taken in, a folder's disk has to be told."""
        if self._folder is None:
            return
        files = {self._folder / path for path in paths}
        folders = {folder for file in files for folder in file.parents if folder.is_relative_to(self._folder)}
        try:
            with ThreadPoolExecutor(_SYNCING_THREADS) as pool:
                list(pool.map(_sync, [*files, *folders]))
        except OSError as error:
            raise StoreError(f"writing to {self.url} failed: {error}") from error

    def put_file(self, path: str, file: Path, rows: int) -> StoredObject:
        """Writes a local file as a new object and gives its entry for a manifest."""
        digest, size = _digest(file)
        entry = StoredObject(path=path, rows=rows, bytes=size, sha256=digest)
        try:
            self.put_new(path, file)
        except ObjectExists as error:
            # A put whose answer was lost is sent again and then meets its own object.
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
            return self._insist(lambda: bytes(obstore.get(self._storage, path).bytes()))
        except FileNotFoundError:
            return None
        except (BaseError, OSError) as error:
            raise StoreError(f"reading {self.location(path)} failed: {_first_line(error)}") from error

    def list(self, prefix: str, after: str | None = None) -> Iterator[str]:
        """The paths below `prefix` that sort after `after`, in no particular order."""
        try:
            yield from self._insist(
                lambda: [
                    entry["path"]
                    for page in obstore.list(self._storage, prefix, offset=after, chunk_size=1000)
                    for entry in page
                ]
            )
        except (BaseError, OSError) as error:
            raise StoreError(f"listing {self.location(prefix)} failed: {_first_line(error)}") from error

    def is_empty(self) -> bool:
        """Whether there is no object at all."""
        return next(iter(self.list("")), None) is None

    @contextmanager
    def local(self, objects: Sequence[StoredObject]) -> Iterator[Sequence[Path]]:
        """The objects as local files while the context lasts, each checked against its sha256.

        Raises:
            LakeDamaged: an object is missing, or is not what its manifest says.
        """
        with tempfile.TemporaryDirectory(prefix="totes-") as scratch:
            yield [self._local(entry, Path(scratch) / str(number)) for number, entry in enumerate(objects)]

    def copy(self, entry: StoredObject, target: Path) -> None:
        """Makes a file that is a copy of an object, checked against its sha256; there is none or the whole of it.

        Raises:
            LakeDamaged: the object is missing, or is not what its manifest says.
        """
        part = target.with_name(f"{target.name}.part")
        with self.local([entry]) as [file]:
            try:
                (shutil.copyfile if self._folder else shutil.move)(file, part)
            except FileNotFoundError as error:
                raise self._missing(entry) from error
        part.replace(target)

    def check(self, entry: StoredObject) -> bool:
        """Reads an object through and keeps nothing of it; False where there is no such object.

        Raises:
            LakeDamaged: it is there, and is not what its manifest says.
        """
        try:
            found = self._digest(entry.path)
            if self._folder is None and found != (entry.sha256, entry.bytes):
                found = self._digest(entry.path)  # what was cut short on its way comes whole the second time
        except FileNotFoundError:
            return False
        except (BaseError, OSError) as error:
            raise StoreError(f"reading {self.location(entry.path)} failed: {_first_line(error)}") from error
        self._compare(entry, *found)
        return True

    def _digest(self, path: str) -> tuple[str, int]:
        def fetch() -> tuple[str, int]:
            digest, size = hashlib.sha256(), 0
            for chunk in obstore.get(self._storage, path).stream(min_chunk_size=_CHUNK_BYTES):
                digest.update(chunk)
                size += len(chunk)
            return digest.hexdigest(), size

        return _digest(self._folder / path) if self._folder else self._insist(fetch)

    def _local(self, entry: StoredObject, target: Path) -> Path:
        file = self._folder / entry.path if self._folder else self._download(entry.path, target)
        if is_pattern(file) and file.is_file():
            target.symlink_to(file)
            file = target
        if not file.is_file():
            raise self._missing(entry)
        if self._folder is None and _digest(file) != (entry.sha256, entry.bytes):
            self._download(entry.path, target)  # what was cut short on its way comes whole the second time
        self._compare(entry, *_digest(file))
        return file

    def _missing(self, entry: StoredObject) -> LakeDamaged:
        return LakeDamaged(
            f"{self.location(entry.path)} is missing, though a manifest names it",
            hint="Restore it from a backup; nothing was taken from its batch",
        )

    def _compare(self, entry: StoredObject, digest: str, size: int) -> None:
        if (digest, size) != (entry.sha256, entry.bytes):
            raise LakeDamaged(
                f"{self.location(entry.path)} is not what was written: {size} bytes with sha256 {digest[:12]}…, "
                f"where the manifest says {entry.bytes} with {entry.sha256[:12]}…",
                hint="Restore it from a backup; nothing was taken from its batch",
            )

    def _download(self, path: str, target: Path) -> Path:
        def fetch() -> None:
            with target.open("wb") as file:
                for chunk in obstore.get(self._storage, path).stream(min_chunk_size=_CHUNK_BYTES):
                    file.write(chunk)

        try:
            self._insist(fetch)
        except FileNotFoundError:
            target.unlink()
        except BaseError as error:
            raise StoreError(f"reading {self.location(path)} failed: {_first_line(error)}") from error
        except OSError as error:
            raise StoreError(
                f"copying {self.location(path)} to {target} failed: {error.strerror}",
                hint="Check the free space there, or set TMPDIR to another folder",
            ) from error
        return target

    def _insist(self, request: Callable[[], T]) -> T:
        """Makes a request, and makes it again while S3 fails, for a minute; every request here may be made twice.

        The storage client itself asks again, but not for a put, whose answer may have been lost, nor in the middle of a
        listing or of the answer that there is no such object.
        """
        deadline, pause = time.monotonic() + RETRY_SECONDS_MAX, _PAUSE_SECONDS
        while True:
            try:
                return request()
            except GenericError as error:
                if self._folder or _REFUSAL.search(str(error)) or time.monotonic() + pause > deadline:
                    raise
            time.sleep(pause)
            pause = min(2 * pause, _PAUSE_SECONDS_MAX)

    def location(self, path: str) -> str:
        """Where an object is, for a person."""
        return f"{self.url}/{path}"


def _s3(bucket: str, prefix: str) -> ObjectStore:
    return S3Store(
        bucket,
        prefix=prefix or None,
        client_options={
            "allow_http": os.environ.get("AWS_ENDPOINT_URL", "").startswith("http://"),
            "timeout": _REQUEST_TIMEOUT,
        },
        retry_config={
            "retry_timeout": timedelta(seconds=RETRY_SECONDS_MAX),
            "backoff": {"max_backoff": timedelta(seconds=_PAUSE_SECONDS_MAX)},
        },
    )


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _mapped(file: Path) -> bytes | mmap.mmap:
    """The file's content without taking memory for it: a put that must be all or nothing takes it in one piece."""
    with file.open("rb") as content:
        return mmap.mmap(content.fileno(), 0, access=mmap.ACCESS_READ) if file.stat().st_size else b""


def _digest(file: Path) -> tuple[str, int]:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest(), file.stat().st_size


def _first_line(error: BaseException) -> str:
    return redact(str(error).strip().partition("\n")[0])
