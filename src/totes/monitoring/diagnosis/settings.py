"""Checks the settings and the machine: the settings file, secrets, folders, disk and memory."""

from __future__ import annotations

import os
import re
import shutil
import stat
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from totes.config import Settings
from totes.errors import TotesError
from totes.monitoring.diagnosis.check import Area, some
from totes.redaction import redact
from totes.warehouse.connection import duckdb_file

FREE_BYTES_MIN = 1 << 30
_SIZES = {"K": 10, "M": 20, "G": 30, "T": 40}


def check_settings(area: Area, settings: Settings, file: Path) -> None:
    """Checks the settings file, the secrets that it names, and the machine."""
    _check_file(area, file)
    _check_secrets(area, settings)
    _check_cache(area, settings)
    _check_disk(area, settings)
    _check_memory(area, settings)


def _check_file(area: Area, file: Path) -> None:
    if not file.is_file():
        area.ok("file", "there is no settings file; all settings come from the environment")
        return
    text, mode = file.read_text(encoding="utf-8"), stat.S_IMODE(file.stat().st_mode)
    if mode & 0o077 and redact(text) != text:
        area.warn(
            "file",
            f"{file} contains a password, and other users of this machine may read it (mode {mode:o})",
            f"chmod 600 {file}",
        )
    else:
        area.ok("file", f"{file} is read, and every setting in it is known")


def _check_secrets(area: Area, settings: Settings) -> None:
    for resolve in (settings.source_url, settings.warehouse_url):
        with area.checking("secrets", "fetching a secret", "See docs/how-to/secrets.md"):
            resolve()
    if not area.failed("secrets"):
        area.ok("secrets", "source.url and warehouse.url are known")


def _check_cache(area: Area, settings: Settings) -> None:
    folders = {"lake.cache": settings.cache_folder, "TMPDIR": Path(tempfile.gettempdir())}
    for setting, folder in folders.items():
        place = existing(folder)
        try:
            with tempfile.TemporaryFile(dir=place):
                area.ok("cache" if setting == "lake.cache" else "temporary", f"{folder} can be written")
        except OSError as error:
            area.fail(
                "cache" if setting == "lake.cache" else "temporary",
                f"{place} cannot be written: {error.strerror}",
                f"Set {setting} to a folder that this account may write",
            )


def _check_disk(area: Area, settings: Settings) -> None:
    places = [settings.cache_folder, Path(tempfile.gettempdir())]
    places += [
        settings.path(url) for url in (settings.lake.ingestion, settings.lake.processed) if "://" not in url
    ]
    url = known_url(settings.warehouse_url)
    if url and url.startswith("duckdb:"):
        with suppress(TotesError):  # a URL that names no file: the check of the warehouse reports it
            places.append(duckdb_file(url, settings.base).parent)
    devices: dict[int, list[Path]] = {}
    for place in dict.fromkeys(places):
        devices.setdefault(existing(place).stat().st_dev, []).append(place)
    for folders in devices.values():
        free = shutil.disk_usage(existing(folders[0])).free
        found = f"{free / (1 << 30):.1f} GiB are free for {some([str(folder) for folder in folders], 5)}"
        if free < FREE_BYTES_MIN:
            area.warn(
                "disk", found, "Free some space: a full disk ends a batch, which the next run starts over"
            )
        else:
            area.ok("disk", found)


def _check_memory(area: Area, settings: Settings) -> None:
    installed = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    wanted = size_bytes(settings.lake.memory)
    found = f"lake.memory is {settings.lake.memory}, and the machine has {installed / (1 << 30):.1f} GiB"
    if wanted > installed:
        area.warn("memory", found, "Lower lake.memory: what does not fit is spilled to disk")
    else:
        area.ok("memory", found)


def known_url(resolve: Callable[[], str]) -> str | None:
    """A URL of the settings; None if the secret that it names cannot be fetched, which the check `secrets` reports."""
    try:
        return resolve()
    except TotesError:
        return None


def existing(folder: Path) -> Path:
    """The folder, or its nearest existing parent, in which it would be created."""
    absolute = folder.absolute()
    return next(place for place in (absolute, *absolute.parents) if place.is_dir())


def size_bytes(size: str) -> int:
    """The bytes of a size such as `512MB` or `4GiB`, with 1024 as the factor of both."""
    match = re.fullmatch(r"([\d.]+)\s*([KMGT])i?B", size, re.IGNORECASE)
    assert match is not None, "the settings accept nothing else"
    return int(float(match.group(1)) * (1 << _SIZES[match.group(2).upper()]))
