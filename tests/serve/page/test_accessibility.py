"""Accessibility of the page: in light and dark, and on a phone."""

from __future__ import annotations

import pytest

PHONE = {"width": 360, "height": 740}


@pytest.fixture
def find_violations():
    """Return a function that runs axe-core on the whole of a page."""
    module = pytest.importorskip(
        "axe_playwright_python.sync_playwright",
        reason="axe-playwright-python of .ci/requirements.txt is not installed",
    )

    def run(page):
        found = module.Axe().run(page).response["violations"]
        return [(one["id"], [node["html"] for node in one["nodes"]]) for one in found]

    return run


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [{"width": 1280, "height": 900}, PHONE], ids=["desktop", "phone"])
def test_axe_finds_nothing(serve, visit, find_violations, scheme, size):
    opened = visit(serve("in_worker"), color_scheme=scheme, viewport=size)
    page = opened.page
    opened.send("1")
    opened.send('"text"')
    opened.outputs(1)
    page.get_by_text("Traceback", exact=True).click()
    page.get_by_text("All figures as a table").click()
    page.get_by_text("The same with curl").click()
    opened.send("not JSON")

    for tab in ("Text", "Audio file", "Microphone"):
        page.get_by_role("tab", name=tab).click()
        assert find_violations(page) == []


def test_axe_finds_nothing_while_a_token_is_needed(serve, visit, expect, find_violations, tmp_path):
    token = tmp_path / "token"
    token.write_text("secret\n")
    opened = visit(serve("same", "--token-file", str(token)), ignored="Failed to load resource.* 401")
    expect(opened.page.get_by_role("dialog")).to_be_visible()

    assert find_violations(opened.page) == []
    opened.page.get_by_role("button", name="Cancel").click()
    assert find_violations(opened.page) == []


def test_a_phone_needs_no_scrolling_sideways(serve, visit):
    opened = visit(serve("in_worker"), viewport=PHONE)
    opened.send('{"text": "' + "a long text without end " * 20 + '"}')
    opened.send('"' + "x" * 200 + '"')
    opened.page.get_by_text("Traceback", exact=True).first.wait_for()

    width = opened.page.evaluate("document.documentElement.scrollWidth")

    assert width == PHONE["width"]
