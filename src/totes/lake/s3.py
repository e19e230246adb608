"""Objects in S3, or on a server with the same protocol."""

from __future__ import annotations

import hashlib
import mmap
import os
import re
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, GenericError
from obstore.store import S3Store

from totes.lake.s3_parts import put_in_parts
from totes.lake.storage import TooLarge

_CHUNK_BYTES = 1 << 20
# S3's limit for one request.
REQUEST_BYTES_MAX = 5 << 30
# How long failed requests are retried, and how long one request may take, content included.
RETRY_SECONDS_MAX = 60.0
_REQUEST_TIMEOUT = timedelta(minutes=5)
_PAUSE_SECONDS, _PAUSE_SECONDS_MAX = 0.1, 5.0
# A refused listing (no such bucket, a wrong key) has no error class of its own; 408 (timeout) and 429 (slow down) are retried.
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
            # A bucket with Object Lock takes no object without one.
            config={"checksum_algorithm": "SHA256"},
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
            self._retrying(
                lambda: obstore.put(self._storage, path, buffer, mode="create", use_multipart=False)
            )
        except AlreadyExistsError as error:
            raise FileExistsError(path) from error

    def settle(self, paths: Iterable[str]) -> None:
        """See Storage: S3 has stored an object durably when a put returns."""

    def read(self, path: str, bytes_max: int) -> bytes:
        """See Storage."""

        def fetch() -> bytes:
            found = obstore.get(self._storage, path)
            if found.meta["size"] > bytes_max:
                raise TooLarge(found.meta["size"])
            return bytes(found.bytes())

        return self._retrying(fetch)

    def list(self, prefix: str, after: str | None) -> list[str]:
        """See Storage."""
        return self._retrying(
            lambda: [
                entry["path"]
                for page in obstore.list(self._storage, prefix, offset=after, chunk_size=1000)
                for entry in page
            ]
        )

    def present(self, paths: Sequence[str]) -> set[str]:
        """See Storage: a listing of their folder, from before the first path on."""
        listed = self.list(paths[0].rpartition("/")[0] + "/", paths[0][:-1])
        return set(paths).intersection(listed)

    def digest(self, path: str) -> tuple[str, int]:
        """See Storage."""

        def fetch() -> tuple[str, int]:
            digest, size = hashlib.sha256(), 0
            for chunk in obstore.get(self._storage, path).stream(min_chunk_size=_CHUNK_BYTES):
                digest.update(chunk)
                size += len(chunk)
            return digest.hexdigest(), size

        return self._retrying(fetch)

    def fetch(self, path: str, target: Path) -> Path:
        """See Storage."""

        def fetch() -> None:
            with target.open("wb") as file:
                for chunk in obstore.get(self._storage, path).stream(min_chunk_size=_CHUNK_BYTES):
                    file.write(chunk)

        try:
            self._retrying(fetch)
        except FileNotFoundError:
            target.unlink()
        return target

    def _retrying(self, request: Callable[[], T]) -> T:
        """Makes a request, and retries it for a minute while S3 fails; every request here is safe to repeat.

        The storage client has retries of its own, but not for a put, whose response may have been lost, nor in the middle of
        a listing, nor while it reads the response that there is no such object.
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
    """The file's content, mapped rather than read: an atomic put needs it in one piece."""
    with file.open("rb") as content:
        return mmap.mmap(content.fileno(), 0, access=mmap.ACCESS_READ) if file.stat().st_size else b""
