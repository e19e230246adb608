"""The pages in a real Chromium: nothing is refused or missing, everything can be read and reached, on any screen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.ui import chromium
from tests.ui.conftest import HOSTILE, Shop
from tests.ui.site import Site

pytestmark = [pytest.mark.browser, pytest.mark.parametrize("still_shop", ["duckdb"], indirect=True)]
PAGES = (
    "/", "/batch/2", "/star", "/star/fact_order", "/rows", "/rows/fact_order?versions=all", "/rows/dim_customer",
    "/history/fact_order?key=1", "/history/dim_customer?key=11", "/quarantine", "/verify", "/plan", "/nowhere",
)  # fmt: skip
# Of each piece of text, its contrast with what is behind it (WCAG 2, where 4.5 is the least for small text).
CONTRAST = """() => {
  const numbers = (colour) => (colour.match(/[\\d.]+/g) ?? []).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((c) => c / 255)
    .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)).reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (element) => {
    for (let one = element; one; one = one.parentElement) {
      const colour = numbers(getComputedStyle(one).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const poor = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || element.closest("svg, script, .hidden, .skip")) continue;
    const [one, other] = [light(numbers(getComputedStyle(element).color)), light(behind(element))];
    const contrast = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    if (contrast < 4.5) poor.push([walker.currentNode.data.trim(), element.className, +contrast.toFixed(2)]);
  }
  return poor;
}"""
UNNAMED = """() => [...document.querySelectorAll("a, button, input:not([type=hidden]), summary")]
  .filter((one) => !(one.textContent.trim() || one.ariaLabel || one.labels?.length))
  .map((one) => one.outerHTML)"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, or why its tests are skipped."""
    if why := chromium.missing():
        pytest.skip(why)
    with chromium.chromium() as running:
        yield running


@pytest.fixture
def open_page(browser: Any, still_site: Site) -> Iterator[Callable[..., Any]]:
    """Opens a window; when the test ends, nothing may have been refused, failed, or asked for from elsewhere."""
    faults: list[str] = []
    contexts: list[Any] = []

    def make(width: int = 1280, scheme: str = "light", **options: Any) -> Any:
        context = browser.new_context(
            base_url=still_site.url, color_scheme=scheme, viewport={"width": width, "height": 800}, **options
        )
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda said: faults.append(said.text) if "404" not in said.text else None)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("dialog", lambda dialog: (faults.append(f"a dialog: {dialog.message}"), dialog.dismiss()))
        page.on("request", lambda request: faults.append(request.url) if not _is_own(request.url) else None)
        return page

    def _is_own(url: str) -> bool:
        return urlsplit(url).netloc == urlsplit(still_site.url).netloc or url.startswith(("file:", "data:"))

    yield make
    for context in contexts:
        context.close()
    assert faults == []


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (360, "dark")])
def test_every_page_can_be_read_on_every_screen(open_page: Any, width: int, scheme: str) -> None:
    page = open_page(width, scheme)
    for path in PAGES:
        page.goto(path)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
        assert page.evaluate(CONTRAST) == [], path
        assert page.evaluate(UNNAMED) == [], path
        assert page.locator("h1").count() == 1, path


def test_the_charts_are_drawn_and_read_out(open_page: Any) -> None:
    page = open_page()
    page.goto("/")
    assert page.locator(".chart canvas").count() == 2
    colours = "canvas => new Set(new Uint32Array(canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.buffer)).size"
    assert page.locator(".chart canvas").first.evaluate(colours) > 20
    page.locator(".chart .u-over").first.hover(position={"x": 1, "y": 20})
    assert page.locator(".readout").first.text_content() == "Batch 1   ingest 5   process 5   load 5"


def test_values_are_text_and_nothing_else(open_page: Any) -> None:
    page = open_page()
    page.goto("/rows/dim_customer")
    assert page.get_by_text(HOSTILE, exact=True).is_visible()
    page.goto("/history/dim_customer?key=11")
    assert page.locator(".changes .after").text_content() == HOSTILE
    assert page.locator("main script, main img").count() == 0


def test_pages_are_used_by_keyboard(open_page: Any) -> None:
    page = open_page()
    page.goto("/star")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")  # the diagram, which can be scrolled
    page.keyboard.press("Tab")
    assert page.locator("svg.chosen, .chosen").count() == 1
    chosen = page.evaluate("document.activeElement.dataset.table")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/star/{chosen}")
    page.goto("/rows/fact_order")
    page.get_by_label("Filter quantity").focus()
    page.keyboard.type(">=5")
    page.keyboard.press("Enter")
    page.wait_for_url("**f.quantity=*")
    assert page.locator("tbody tr").count() == 1
    page.get_by_role("link", name="history").focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/history/fact_order?key=1")


def test_an_exported_site_is_opened_from_disk(
    open_page: Any, still_shop: Shop, tmp_path: Path, totes: Any
) -> None:
    assert totes("ui", "--export", str(tmp_path / "site"), cwd=still_shop.folder).code == 0
    page = open_page(360)
    page.goto((tmp_path / "site" / "index.html").as_uri())
    assert page.locator(".chart canvas").count() == 2
    page.get_by_role("link", name="Star", exact=True).click()
    page.get_by_role("link", name="fact_order").first.click()
    assert page.locator("h1").text_content() == "fact_order"
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
