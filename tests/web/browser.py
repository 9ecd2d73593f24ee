"""Chromium, and pages of it that remember what went wrong in them.

Owns how the browser is started and what counts as wrong: an error on the console, an exception that
nothing caught, a request to anything but the nodes of the test, a violation of the page's policy.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, sync_playwright
from playwright.sync_api import Request as BrowserRequest

CHROMIUM = Path("/usr/bin/chromium")
OPTIONS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WIDTHS = {"360": (360, 780), "1280": (1280, 900), "2560": (2560, 1440)}
# The browser says these itself of every connection that fails, whatever the page makes of it.
_OF_A_DEAD_NODE = ("net::ERR_CONNECTION_", "net::ERR_INCOMPLETE_CHUNKED", "net::ERR_EMPTY_RESPONSE")

_FED = """
delete window.SharedWorker;
const asked = window.fetch;
window.fed = %s;
window.fetch = (path, ...rest) => path !== '/v1/ui/stream' ? asked(path, ...rest)
  : Promise.resolve(new Response(new ReadableStream({start(stream) {
      const send = () => stream.enqueue(new TextEncoder().encode(
        `event: cluster\\ndata: ${JSON.stringify(window.fed)}\\n\\n`));
      send();
      setInterval(send, 1000);
    }})));
"""


class Opened:
    """A page, and what went wrong in it.

    Attributes:
        page: Playwright's.
        faults: In order; a test that makes a node die takes out what that causes.
    """

    def __init__(self, context: BrowserContext, address: str) -> None:
        self._origin = f"http://{address}"
        self.faults: list[str] = []
        self.sizes: dict[str, int] = {}
        self.page: Page = context.new_page()
        self.page.set_default_timeout(15_000)
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.faults.append(f"exception: {error}"))
        self.page.on("request", self._asked)

    def go(self, path: str = "#/cluster") -> Page:
        """Open a page of the dashboard by its hash."""
        self.page.goto(f"{self._origin}/ui/{path}", wait_until="load")
        return self.page

    def _said(self, message: ConsoleMessage) -> None:
        url = str(message.location.get("url"))
        is_dead = any(part in message.text for part in _OF_A_DEAD_NODE)
        if message.type == "error" and not is_dead:
            self.faults.append(f"console: {message.text} ({url})")

    def _asked(self, request: BrowserRequest) -> None:
        if not request.url.startswith((self._origin, "blob:", "data:")):
            self.faults.append(f"request off the node: {request.url}")


@contextmanager
def chromium() -> Iterator[Browser]:
    """Run the browser."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        try:
            yield browser
        finally:
            browser.close()


def new_context(browser: Browser, *, dark: bool = False, width: str = "1280") -> BrowserContext:
    """Make a profile of its own: a size, and what the user's system prefers."""
    across, down = WIDTHS[width]
    return browser.new_context(
        color_scheme="dark" if dark else "light",
        viewport={"width": across, "height": down},
        service_workers="block",
    )


def feed(context: BrowserContext, cluster: dict[str, Any]) -> None:
    """Have the pages of a profile be told of this cluster, in place of the one that is there."""
    context.add_init_script(_FED % json.dumps(cluster))
