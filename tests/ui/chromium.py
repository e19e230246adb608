"""A real Chromium without a window, driven by Playwright, which `make test-browser` and `make pictures` install."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip


def missing() -> str | None:
    """What is not there to drive a browser with; None where all is."""
    if find_spec("playwright") is None:
        return "Playwright is not installed: run make test-browser"
    if program() is None:
        return "there is no Chromium on the PATH (Debian: apt-get install chromium)"
    return None


def program() -> str | None:
    """Where Chromium is."""
    return next(filter(None, map(shutil.which, _NAMES)), None)


@contextmanager
def chromium() -> Iterator[Any]:
    """A running Chromium."""
    from playwright.sync_api import sync_playwright  # type: ignore[import-not-found,unused-ignore]

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program(), args=list(_FLAGS))
        try:
            yield browser
        finally:
            browser.close()
