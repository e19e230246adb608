"""A running `totes ui`, and what a client gets from it."""

from __future__ import annotations

import http.client
import json
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlencode, urlsplit

from tests.processes import Started


@dataclass(frozen=True)
class Answer:
    """What the server answered."""

    status: int
    headers: dict[str, str]
    text: str


class Site:
    """`totes ui` in a folder with settings, on a port of its own; ended with SIGTERM."""

    def __init__(self, folder: Path, *arguments: str, **environment: str) -> None:
        command = ["ui", "--port", "0", "--no-open", "--json", *arguments]
        self.process = Started(command, folder, {**os.environ, **environment})
        line = self.process.stdout.readline()
        assert line, self.process.stderr.read()
        self.url: str = json.loads(line)["url"]
        self.code: int | None = None
        self.err = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self, number: int = signal.SIGTERM) -> str:
        """Ends it; gives what it wrote on standard error."""
        if self.code is None:
            self.process.send_signal(number)
            done = self.process.finish(30)
            self.code, self.err = done.code, done.err
        return self.err

    def ask(self, method: str, path: str, body: str | None = None, **headers: str) -> Answer:
        """One request; `Host` and `Origin` are this server's unless they are given, `Origin` only where something is sent."""
        place = urlsplit(self.url)
        assert place.port
        sent = {"Host": place.netloc, **{name.replace("_", "-"): value for name, value in headers.items()}}
        if method == "POST":
            sent = {
                "Origin": f"http://{place.netloc}",
                "Content-Type": "application/x-www-form-urlencoded",
                **sent,
            }
        connection = http.client.HTTPConnection("127.0.0.1", place.port, timeout=60)
        try:
            connection.request(method, path, body, {name: value for name, value in sent.items() if value})
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, found, answer.read().decode())
        finally:
            connection.close()

    def get(self, page: str, **query: Any) -> str:
        """The text of a page that is there."""
        answer = self.ask("GET", page + (f"?{urlencode(query, doseq=True)}" if query else ""))
        assert answer.status == 200, answer.text
        return answer.text


def write_settings(folder: Path, source: str, warehouse: str, project: dict[str, Any]) -> None:
    """Writes `totes.toml` with the lake in the folder."""
    file = folder / "totes.toml"
    sections = {"project": project, "source": {"url": source}, "warehouse": {"url": warehouse}}
    lines = [
        f"[{name}]\n" + "".join(f"{key} = {json.dumps(str(value))}\n" for key, value in section.items())
        for name, section in sections.items()
    ]
    file.write_text("\n".join(lines), encoding="utf-8")
    file.chmod(0o600)
