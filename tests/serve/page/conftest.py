"""The page in a real browser."""

from __future__ import annotations

import pytest
from browser import Visit, browsers


@pytest.fixture(scope="module")
def start_browser():
    with browsers() as start:
        yield start


@pytest.fixture(scope="module")
def browser(start_browser):
    browser = start_browser()
    yield browser
    browser.close()


@pytest.fixture
def expect(browser):
    from playwright.sync_api import expect

    return expect


@pytest.fixture
def visit(browser):
    """Return a function that opens the page of a server; it must have no errors and no foreign requests."""
    visits = []

    def start(server, *, browser=browser, scheme="http", ignored=None, **options):
        host, port = server.address
        visit = Visit(browser.new_context(**options).new_page(), f"{scheme}://{host}:{port}/", ignored)
        visits.append(visit)
        return visit

    yield start
    for visit in visits:
        visit.page.context.close()
    assert [problem for visit in visits for problem in visit.problems] == []
