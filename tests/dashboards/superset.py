"""A real Superset that serves a folder of assets, and what Chromium sees of its dashboards."""

from __future__ import annotations

import io
import json
import subprocess
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-superset" / "bin" / "python"
_PATIENCE_MS = 120_000


def missing() -> str | None:
    """Why Superset cannot be started; None where it can."""
    return None if PYTHON.exists() else "Superset is not installed: run make test-superset"


class Superset:
    """Superset on a free port of loopback, with what it keeps in a folder of its own."""

    def __init__(self, assets: Path, home: Path) -> None:
        self.log = home.with_suffix(".log")
        command = [PYTHON, ROOT / "dashboards" / "serve.py", assets, "--home", home, "--port", "0", "--json"]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, cwd=ROOT)
        assert self.process.stdout
        said = self.process.stdout.readline()
        while said and not said.startswith("{"):
            said = self.process.stdout.readline()
        assert said, self.log.read_text("utf-8")[-3000:]
        self.said: dict[str, Any] = json.loads(said)
        self.url = self.said["url"].removesuffix("/dashboard/list/")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(20)
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()  # type: ignore[union-attr]


@dataclass
class Seen:
    """What a dashboard showed: by chart the rows of its queries, and what went wrong."""

    rows: dict[str, list[list[dict[str, Any]]]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)


# Every chart is there, none is still waited for, and what is drawn has more than one colour.
_DRAWN = """count => {
  const charts = [...document.querySelectorAll("[data-test=chart-grid-component], .dashboard-chart")];
  const waits = document.querySelector("[data-test=loading-indicator], .loading");
  const blank = (canvas) => {
    const {data} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    return !new Uint32Array(data.buffer).some((pixel, _, all) => pixel !== all[0]);
  };
  return charts.length >= count && !waits && ![...document.querySelectorAll("canvas")].some(blank);
}"""


# Where the lowest chart ends, and a little below.
_BOTTOM = """() => 24 + Math.ceil(Math.max(
  ...[...document.querySelectorAll("[data-test=chart-grid-component], .dashboard-chart")]
    .map((one) => one.getBoundingClientRect().bottom)))"""


class Visitor:
    """Somebody who has logged in, in a window of Chromium."""

    def __init__(self, browser: Any, superset: Superset, width: int = 1400) -> None:
        self.superset, self.width = superset, width
        context = browser.new_context(viewport={"width": width, "height": 1000}, locale="en-GB")
        context.set_default_timeout(_PATIENCE_MS)
        self.page = context.new_page()
        self.page.goto(f"{superset.url}/login/")
        self.page.fill("input#username, input[name=username]", superset.said["user"])
        self.page.fill("input#password, input[name=password]", superset.said["password"])
        self.page.click("button[type=submit], input[type=submit]")
        self.page.wait_for_url(lambda url: "/login" not in url)

    def asked(self, path: str) -> Any:
        """What Superset's own interface answers."""
        answer = self.page.request.get(f"{self.superset.url}/api/v1/{path}")
        assert answer.ok, answer.text()
        return answer.json()["result"]

    def names(self, kind: str, column: str) -> dict[str, int]:
        """All that there is of a kind, by name, with its number."""
        return {one[column]: one["id"] for one in self.asked(f"{kind}/?q=(page_size:200)")}

    def query(self, dataset: int, columns: list[str], metrics: list[str]) -> list[dict[str, Any]]:
        """What Superset finds when a table of these columns, or one of these metrics, is asked for."""
        token = self.asked("security/csrf_token/")
        asked = {
            "datasource": {"id": dataset, "type": "table"},
            "queries": [{"columns": columns, "metrics": metrics, "row_limit": 100}],
        }
        headers = {"X-CSRFToken": token, "Referer": self.superset.url}
        answer = self.page.request.post(f"{self.superset.url}/api/v1/chart/data", data=asked, headers=headers)
        assert answer.ok, answer.text()
        found: list[dict[str, Any]] = answer.json()["result"][0]["data"]
        return found

    def upload(self, kind: str, name: str, folder: Path, passwords: dict[str, str]) -> tuple[int, str]:
        """Imports a folder as a file on the page of a kind, as people do; gives what is answered."""
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w") as archive:
            for file in sorted(folder.rglob("*.yaml")):
                archive.write(file, f"{name}/{file.relative_to(folder)}")
        token = self.asked("security/csrf_token/")
        headers = {"X-CSRFToken": token, "Referer": self.superset.url, "Accept": "application/json"}
        answer = self.page.request.post(
            f"{self.superset.url}/api/v1/{kind}/import/",
            headers=headers,
            multipart={
                "formData": {
                    "name": f"{name}.zip",
                    "mimeType": "application/zip",
                    "buffer": content.getvalue(),
                },
                "passwords": json.dumps(passwords),
                "overwrite": "true",
            },
        )
        return answer.status, answer.text()

    def look(self, dashboard: str, then: Callable[[Any], None] | None = None) -> Seen:
        """Opens a dashboard, and waits until each of its charts has been asked for and drawn.

        Args:
            dashboard: the end of its address.
            then: what is done on it; only what charts ask for after that is given.
        """
        names = {one["id"]: one["slice_name"] for one in self.asked(f"dashboard/{dashboard}/charts")}
        seen = Seen()

        def answered(response: Any) -> None:
            if "/api/v1/chart/data" not in response.url:
                return
            name = names.get(json.loads(response.request.post_data)["form_data"].get("slice_id"))
            if not response.ok:
                seen.faults.append(f"{name}: {response.status} {response.text()[:2000]}")
            elif name:
                seen.rows[name] = [one["data"] for one in response.json()["result"]]

        page = self.page
        page.on("response", answered)
        try:
            page.set_viewport_size({"width": self.width, "height": 3200})  # what is not seen is not asked for
            page.goto(f"{self.superset.url}/superset/dashboard/{dashboard}/")
            self._wait(len(names))
            if then:
                seen.rows.clear()
                then(page)
                self._wait(len(names))
            seen.faults += page.locator("[role=alert], .ant-alert-error").all_inner_texts()
        finally:
            page.remove_listener("response", answered)
        return seen

    def _wait(self, charts: int) -> None:
        self.page.wait_for_load_state("networkidle")
        self.page.wait_for_function(_DRAWN, arg=charts)
        self.page.wait_for_load_state("networkidle")

    def picture(self, height: int | None = None) -> bytes:
        """The page as it is once nothing on it moves any more, as far down as its charts go."""
        down = height or self.page.evaluate(_BOTTOM)
        self.page.set_viewport_size({"width": self.width, "height": down})
        self._wait(0)
        before, now = b"", self.page.screenshot()
        while before != now:
            before, now = now, self.page.screenshot()
        return bytes(now)


def pictures(assets: Path, home: Path, into: Path, shown: dict[str, tuple[str, int | None]]) -> None:
    """Makes pictures of dashboards.

    Args:
        assets: what Superset imports.
        home: where Superset keeps its own.
        into: the folder for the pictures.
        shown: by the name of a picture the end of a dashboard's address, and the picture's height.
    """
    from tests.ui.chromium import chromium

    with Superset(assets, home) as superset, chromium() as browser:
        visitor = Visitor(browser, superset)
        for name, (dashboard, height) in shown.items():
            seen = visitor.look(dashboard)
            assert not seen.faults, seen.faults
            (into / f"{name}.png").write_bytes(visitor.picture(height))
