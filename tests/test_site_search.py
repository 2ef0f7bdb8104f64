"""The built site in a browser: its search finds, its pages fit a phone, it loads nothing else."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from chromium import chromium_path

pytestmark = pytest.mark.browser

ROOT = Path(__file__).parent.parent
PAGES = [
    *("index", "tutorial", "command-line", "commands", "spec", "kinds", "api", "results"),
    *("notebooks/first-steps", "notebooks/own-table"),
]


class QuietHandler(SimpleHTTPRequestHandler):
    """Serves files and logs nothing."""

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where the site is served, which is built first."""
    pytest.importorskip("playwright", reason="needs playwright")
    chromium_path()
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--site-dir", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, timeout=300)
    handler = partial(QuietHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path(), args=["--no-sandbox"])
        yield browser
        browser.close()


def test_search_finds_guidance(address: str, browser: Any) -> None:
    page = browser.new_page()
    page.goto(f"{address}index.html")
    page.locator("input.md-search__input").fill("guidance")
    results = page.locator(".md-search-result__link")
    results.first.wait_for()
    links = results.evaluate_all("links => links.map(link => link.href)")
    assert any("guidance.html" in link for link in links[:3])
    results.first.click()
    page.wait_for_url("**/guidance.html*")
    assert page.locator("h1").first.inner_text().startswith("Guidance")


@pytest.mark.parametrize("width", [390, 1280])
def test_pages_fit_the_screen_and_load_nothing_from_elsewhere(
    address: str, browser: Any, width: int
) -> None:
    page = browser.new_page(viewport={"width": width, "height": 844})
    others: list[str] = []
    page.on("request", lambda request: others.append(request.url))
    page.on("pageerror", lambda error: others.append(str(error)))
    for name in PAGES:
        page.goto(f"{address}{name}.html")
        assert page.evaluate("document.documentElement.scrollWidth") <= width, name
        broken = page.evaluate(
            "[...document.images].filter(i => i.complete && !i.naturalWidth).map(i => i.src)"
        )
        assert broken == []
    assert [url for url in others if not url.startswith((address, "data:"))] == []
