"""A real Superset that serves a folder of assets, and what Chromium sees of its dashboards."""

from __future__ import annotations

import json
import subprocess
import sys
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


@dataclass
class Seen:
    """What a dashboard showed: by chart its rows, and what went wrong."""

    rows: dict[str, list[list[dict[str, Any]]]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)


class Visitor:
    """Somebody who has logged in, in a window of Chromium."""

    def __init__(self, browser: Any, superset: Superset, width: int = 1400, height: int = 1000) -> None:
        self.superset = superset
        context = browser.new_context(viewport={"width": width, "height": height}, locale="en-GB")
        context.set_default_timeout(_PATIENCE_MS)
        self.page = context.new_page()
        self.page.goto(f"{superset.url}/login/")
        self.page.fill("input#username, input[name=username]", superset.said["user"])
        self.page.fill("input#password, input[name=password]", superset.said["password"])
        self.page.click("button[type=submit], input[type=submit]")
        self.page.wait_for_url(lambda url: "/login" not in url)
        listed = self.page.request.get(f"{superset.url}/api/v1/dashboard/").json()["result"]
        self.dashboards: dict[str, str] = {one["dashboard_title"]: one["url"] for one in listed}

    def charts(self, title: str) -> dict[int, str]:
        """The charts of a dashboard: their names by their numbers."""
        address = self.dashboards[title].rstrip("/").rpartition("/")[2]
        found = self.page.request.get(f"{self.superset.url}/api/v1/dashboard/{address}/charts").json()[
            "result"
        ]
        return {one["id"]: one["slice_name"] for one in found}

    def look(self, title: str, picture: Path | None = None) -> Seen:
        """Opens a dashboard, and waits until each chart has been asked for and drawn; takes a picture of all of it."""
        seen, names = Seen(), self.charts(title)

        def answered(response: Any) -> None:
            if "/api/v1/chart/data" not in response.url:
                return
            asked = json.loads(response.request.post_data)
            name = names.get(asked["form_data"].get("slice_id"))
            if response.status != 200:
                seen.faults.append(f"{name}: {response.status} {response.text()[:2000]}")
            elif name:
                seen.rows[name] = [one["data"] for one in response.json()["result"]]

        page = self.page
        page.on("response", answered)
        try:
            page.set_viewport_size(
                {"width": 1400, "height": 3200}
            )  # charts are asked for where they can be seen
            page.goto(f"{self.superset.url}{self.dashboards[title]}?standalone=0")
            page.wait_for_function(
                "count => document.querySelectorAll('[data-test=\"chart-container\"], .chart-container').length >= count"
                " && !document.querySelector('[data-test=\"loading-indicator\"], .loading')",
                arg=len(names),
            )
            page.wait_for_load_state("networkidle")
            seen.faults += page.locator("[role=alert], .ant-alert-error").all_inner_texts()
            if picture:
                page.wait_for_timeout(1500)
                page.screenshot(path=picture)
        finally:
            page.remove_listener("response", answered)
        return seen


if __name__ == "__main__":
    from tests.ui.chromium import chromium

    assets, home, into = map(Path, sys.argv[1:4])
    with Superset(assets, home) as superset, chromium() as browser:
        sys.stdout.write(f"{superset.said}\n")
        visitor = Visitor(browser, superset)
        for title in visitor.dashboards:
            seen = visitor.look(title, into / f"{title.lower().replace(' ', '-')}.png")
            sys.stdout.write(
                f"{title}: {seen.faults} { {n: [len(r) for r in rows] for n, rows in seen.rows.items()} }\n"
            )
