"""Permissions of what totes writes: only the owner may read it, or also the group, if the folder is set up for that.

A folder that everybody can enter is just a default, and does not count. In a folder that others cannot enter, new files and
folders get the group permissions of the folder.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

NOT_ALLOWED = (errno.EACCES, errno.EPERM, errno.EROFS)


def folder_mode(within: Path) -> int:
    """The mode of a new folder within another."""
    mode = within.stat().st_mode
    shared = 0 if mode & stat.S_IRWXO else mode & (stat.S_IRWXG | stat.S_ISGID)
    return stat.S_IRWXU | shared


def file_mode(within: Path) -> int:
    """The mode of a new file within a folder."""
    return folder_mode(within) & 0o660


def make_folders(folder: Path) -> None:
    """Creates a folder and its missing parents durably, so that they survive a power failure."""
    if folder.is_dir():
        return
    make_folders(folder.parent)
    mode = folder_mode(folder.parent)
    try:
        folder.mkdir(mode)
    except FileExistsError as error:
        if folder.is_dir():  # another process was first
            return
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder)) from error
    _set(folder, mode)
    sync(folder.parent)


def obstacle(folder: Path, error: OSError, setting: str | None = None) -> tuple[str, str]:
    """Why a folder could not be created or written, and what to do about it, for a person.

    Args:
        folder: the folder.
        error: the exception.
        setting: the setting that names the folder.
    """
    nearest = next((place for place in (folder, *folder.parents) if os.path.lexists(place)), folder)
    another = f"set {setting} to another folder" if setting else "name another folder"
    if not nearest.is_dir():
        return f"{nearest} is not a folder", f"Move it away, or {another}"
    if error.errno == errno.EROFS:
        return f"{nearest} is on a file system that is read-only", f"Make it writable, or {another}"
    if error.errno in NOT_ALLOWED:
        return f"this account may not write in {nearest}", f"Let it write there, or {another}"
    return error.strerror or str(error), f"Check {nearest}, or {another}"


def create(file: Path) -> int:
    """Creates a new file, and returns a descriptor to write it; a symbolic link is not followed.

    Raises:
        FileExistsError: it exists already.
    """
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    _set(file, file_mode(file.parent))
    return descriptor


def restrict(file: Path) -> None:
    """Gives a file that another program has just created the mode that this module would give it."""
    _set(file, file_mode(file.parent))


def umask(folder: Path) -> int:
    """The umask with which other programs create files in a folder with the modes of this module."""
    return 0o777 & ~(folder_mode(folder) | stat.S_IXUSR)


def replace(file: Path, content: bytes, *, durable: bool = True) -> None:
    """Replaces a file atomically and durably: whatever happens, the old or the new one is there, complete.

    A file that is not `durable` may be empty after a power failure.
    """
    part = file.with_name(f"{file.name}.{uuid4().hex[:8]}")
    try:
        with os.fdopen(create(part), "wb") as written:
            written.write(content)
            if durable:
                written.flush()
                os.fsync(written.fileno())
        part.replace(file)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    if durable:
        sync(file.parent)


def sync(path: Path) -> None:
    """Makes a file's content, or the names in a folder, survive a power failure."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _set(path: Path, mode: int) -> None:
    if stat.S_IMODE(path.lstat().st_mode) != mode:
        with suppress(PermissionError, NotImplementedError):  # a file system without modes
            path.chmod(mode)
