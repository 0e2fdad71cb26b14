"""A real browser for the tests of the page of `serve`: Debian's Chromium, driven by Playwright."""

from __future__ import annotations

import re
import shutil
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest

TIMEOUT_MS = 20_000
PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = (
    "--no-sandbox",  # The tests may be run by root, and the only page is ours.
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@contextmanager
def browsers():
    """Return a function that starts a browser with options, or skip the test where there is none.

    Until the end, an event loop runs on this thread, so tests of asyncio must not run meanwhile.
    """
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright of .ci/requirements.txt is not installed"
    )
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        pytest.skip("Chromium is missing; install it with: apt-get install chromium")
    playwright.expect.set_options(timeout=TIMEOUT_MS)
    with playwright.sync_playwright() as driver:
        yield lambda *options: driver.chromium.launch(executable_path=program, args=[*OPTIONS, *options])


class Visit:
    """A page that is open, and what went wrong on it."""

    def __init__(self, page, address, ignored=None):
        self.page = page
        self.host = urlsplit(address).netloc
        self.ignored = re.compile(ignored or "$.")  # Messages of the browser that a test expects.
        self.problems = []
        page.set_default_timeout(TIMEOUT_MS)
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("console", self._note_message)
        page.on("request", lambda request: self._note_request(request.url))
        page.on("websocket", lambda socket: self._note_request(socket.url))
        self.response = page.goto(address)

    def _note_message(self, message):
        if message.type in {"error", "warning"} and not self.ignored.match(message.text):
            self.problems.append(message.text)

    def _note_request(self, url):
        parts = urlsplit(url)
        if parts.scheme in {"http", "https", "ws", "wss"} and parts.netloc != self.host:
            self.problems.append(f"a request to {url}")

    def send(self, text):
        """Type an item, and send it."""
        self.page.get_by_label("One item, as JSON").fill(text)
        self.page.get_by_role("button", name="Send", exact=True).click()

    def outputs(self, count):
        """Wait for as many outputs, and return their texts."""
        entries = self.page.locator(".entry.output .value")
        entries.nth(count - 1).wait_for()
        return entries.all_inner_texts()

    @property
    def log(self):
        return self.page.get_by_role("log")

    def node(self, place=0):
        """Return the numbers of a node, as the table shows them, by the names of their columns."""
        names = self.page.locator(".figures thead th").all_text_contents()
        cells = self.page.locator(".figures tbody tr").nth(place).locator("th, td").all_text_contents()
        return dict(zip(names, cells, strict=True))
