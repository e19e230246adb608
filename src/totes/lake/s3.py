"""Objects in S3, or in a server that speaks its protocol."""

from __future__ import annotations

import hashlib
import mmap
import os
import re
import time
from collections.abc import Callable, Iterable
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, GenericError
from obstore.store import S3Store

from totes.lake.s3_parts import put_in_parts
from totes.lake.storage import TooLarge

_CHUNK_BYTES = 1 << 20
# S3 takes no more in one request.
REQUEST_BYTES_MAX = 5 << 30
# How long S3 is asked again while it fails, and how long one request may take, its content included.
RETRY_SECONDS_MAX = 60.0
_REQUEST_TIMEOUT = timedelta(minutes=5)
_PAUSE_SECONDS, _PAUSE_SECONDS_MAX = 0.1, 5.0
# A listing that is refused (no such bucket, a wrong key) has no class of its own; timed out and slowed down have another code.
_REFUSAL = re.compile(r"status code: 4(?!08|29)\d\d")
T = TypeVar("T")


class S3:
    """See Storage."""

    failures: tuple[type[Exception], ...] = (BaseError, OSError)

    def __init__(self, bucket: str, prefix: str) -> None:
        self._bucket = bucket
        self._prefix = prefix
        self._storage = S3Store(
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

    def put(self, path: str, content: bytes | Path) -> None:
        """See Storage."""
        if isinstance(content, Path) and content.stat().st_size > REQUEST_BYTES_MAX:
            key = f"{self._prefix}/{path}" if self._prefix else path
            put_in_parts(self._bucket, key, content)
            return
        buffer = _mapped(content) if isinstance(content, Path) else content
        try:
            self._insist(lambda: obstore.put(self._storage, path, buffer, mode="create", use_multipart=False))
        except AlreadyExistsError as error:
            raise FileExistsError(path) from error

    def settle(self, paths: Iterable[str]) -> None:
        """See Storage: S3 keeps what it has taken in."""

    def read(self, path: str, bytes_max: int) -> bytes:
        """See Storage."""

        def fetch() -> bytes:
            found = obstore.get(self._storage, path)
            if found.meta["size"] > bytes_max:
                raise TooLarge(found.meta["size"])
            return bytes(found.bytes())

        return self._insist(fetch)

    def list(self, prefix: str, after: str | None) -> list[str]:
        """See Storage."""
        return self._insist(
            lambda: [
                entry["path"]
                for page in obstore.list(self._storage, prefix, offset=after, chunk_size=1000)
                for entry in page
            ]
        )

    def digest(self, path: str) -> tuple[str, int]:
        """See Storage."""

        def fetch() -> tuple[str, int]:
            digest, size = hashlib.sha256(), 0
            for chunk in obstore.get(self._storage, path).stream(min_chunk_size=_CHUNK_BYTES):
                digest.update(chunk)
                size += len(chunk)
            return digest.hexdigest(), size

        return self._insist(fetch)

    def fetch(self, path: str, target: Path) -> Path:
        """See Storage."""

        def fetch() -> None:
            with target.open("wb") as file:
                for chunk in obstore.get(self._storage, path).stream(min_chunk_size=_CHUNK_BYTES):
                    file.write(chunk)

        try:
            self._insist(fetch)
        except FileNotFoundError:
            target.unlink()
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
                if _REFUSAL.search(str(error)) or time.monotonic() + pause > deadline:
                    raise
            time.sleep(pause)
            pause = min(2 * pause, _PAUSE_SECONDS_MAX)


def _mapped(file: Path) -> bytes | mmap.mmap:
    """The file's content without taking memory for it: a put that must be all or nothing takes it in one piece."""
    with file.open("rb") as content:
        return mmap.mmap(content.fileno(), 0, access=mmap.ACCESS_READ) if file.stat().st_size else b""
