"""The page: its graph, its figures, and items as text."""

from __future__ import annotations

import json
import re
import subprocess

import pytest


def test_it_is_complete_in_itself(serve, visit, expect):
    """Its policy allows no other code, and it sends no request to other hosts, which `visit` checks."""
    opened = visit(serve("in_worker"))

    expect(opened.page.get_by_text("ready", exact=True)).to_be_visible()
    graph = opened.page.get_by_role("img", name="Graph of the pipeline")
    assert "2 nodes: Add_0, Add_1. Edges: Add_0 to Add_1." in graph.get_attribute("aria-label")
    policy = opened.response.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy


def test_items_and_their_outputs(serve, visit):
    opened = visit(serve("same"))
    items = ["7", '"text"', "[1, [2], {}]", '{"a": {"b": null}}', "12345678901234567890", '"<b>&amp;</b>"']

    for item in items:
        opened.send(item)

    assert opened.outputs(len(items)) == items


def test_a_long_output_is_shown_in_lines(serve, visit):
    opened = visit(serve("same"))
    words = [
        {"text": "forward", "start": 0.5},
        {"text": "ten", "start": 0.9},
        {"text": "meters", "start": 1.4},
    ]

    opened.send(json.dumps({"start": 0.5, "end": 1.9, "words": words, "final": True}))

    [text] = opened.outputs(1)
    assert text.splitlines() == [
        "{",
        '  "start": 0.5, "end": 1.9,',
        '  "words": [',
        '    {"text": "forward", "start": 0.5},',
        '    {"text": "ten", "start": 0.9},',
        '    {"text": "meters", "start": 1.4}',
        "  ],",
        '  "final": true',
        "}",
    ]


def test_text_that_is_not_json_can_be_sent_as_a_string(serve, visit, expect):
    opened = visit(serve("same"))

    opened.send('say "hello"')
    expect(opened.page.get_by_role("alert").filter(has_text="This is not JSON")).to_be_visible()
    assert opened.page.locator(".entry").count() == 0
    opened.page.get_by_role("button", name="Send as a JSON string").click()

    assert opened.outputs(1) == [r'"say \"hello\""']


def test_the_numbers_of_the_graph_move(serve, visit, expect):
    opened = visit(serve("in_worker"))
    graph = opened.page.get_by_role("img", name="Graph of the pipeline")
    expect(graph).to_contain_text("0 items")

    for item in range(5):
        opened.send(str(item))

    assert opened.outputs(5) == ["2", "3", "4", "5", "6"]
    expect(graph.locator(".node").nth(1)).to_contain_text("5 items")
    expect(graph.locator(".link .rate").first).to_have_text(re.compile(r"^\d+(\.\d)?/s$"))
    assert (
        graph.locator('.link:not([data-speed="0"]) .flow').first.evaluate(
            "path => getComputedStyle(path).animationName"
        )
        == "flow"
    )
    assert (opened.node()["Items in"], opened.node()["Placement"]) == ("5", "process")


def test_nothing_moves_if_reduced_motion_is_preferred(serve, visit, expect):
    opened = visit(serve("same"), reduced_motion="reduce")

    opened.send("1")

    flow = opened.page.locator('.link:not([data-speed="0"]) .flow').first
    expect(flow).to_be_attached()
    assert flow.evaluate("path => getComputedStyle(path).animationName") == "none"


BRANCHES = {
    "a": ["b", "c", "d"],
    "b": ["e"],
    "c": ["e", "f"],
    "d": ["g"],
    "e": ["g"],
    "f": ["g"],
    "g": [],
}


@pytest.mark.parametrize("width", [1280, 360])
def test_nodes_of_branches_have_places_of_their_own(serve, visit, expect, width):
    server = serve("same")
    status = server.request("GET", "/status").json
    nodes = [status["nodes"][0] | {"id": name, "stage": place} for place, name in enumerate(BRANCHES)]
    edges = [[name, target] for name, targets in BRANCHES.items() for target in targets]
    opened = visit(server, viewport={"width": width, "height": 800})

    opened.page.route(
        "**/status", lambda route: route.fulfill(json=status | {"nodes": nodes, "edges": edges})
    )

    expect(opened.page.locator(".node")).to_have_count(7)
    expect(opened.page.locator(".link")).to_have_count(len(edges) + 2)
    boxes = [box.bounding_box() for box in opened.page.locator(".node .box").all()]
    for place, one in enumerate(boxes):
        for other in boxes[place + 1 :]:
            is_beside = one["x"] + one["width"] <= other["x"] or other["x"] + other["width"] <= one["x"]
            is_above = one["y"] + one["height"] <= other["y"] or other["y"] + other["height"] <= one["y"]
            assert is_beside or is_above


def test_an_error_of_a_node_shows_with_its_traceback(serve, visit, expect):
    opened = visit(serve("add"))

    opened.send('"text"')

    expect(opened.log).to_contain_text("TypeError in node Add_0: can only concatenate str")
    failures = opened.page.get_by_role("region", name="Recent errors")
    expect(failures).to_contain_text("can only concatenate str")
    failures.get_by_text("Traceback", exact=True).click()
    expect(failures.locator("pre")).to_contain_text("return item + 1")
    expect(opened.page.locator(".node .chip")).to_have_text("1 error")
    opened.send("1")
    assert opened.outputs(1) == ["2"]


def test_interrupt(serve, visit, expect):
    server = serve("sleep")
    opened = visit(server)
    opened.send("60")
    server.wait_for_line("begins 60")

    opened.page.get_by_role("button", name="Interrupt").click()

    expect(opened.log).to_contain_text("Interrupted: 1 item dropped")
    server.wait_for_line("cancelled 60")
    opened.send("0")
    assert opened.outputs(1) == ["0"]


def test_what_is_in_progress_at_the_end_can_be_interrupted(serve, visit, expect):
    server = serve("sleep")
    opened = visit(server)
    opened.send("60")
    server.wait_for_line("begins 60")
    opened.page.get_by_role("button", name="End the input").click()

    opened.page.get_by_role("button", name="Interrupt").click()

    expect(opened.page.get_by_text("Session closed")).to_be_visible()
    server.wait_for_line("cancelled 60")


def test_the_end_of_the_input(serve, visit, expect):
    opened = visit(serve("total"))
    for item in (1, 2, 3):
        opened.send(str(item))

    opened.page.get_by_role("button", name="End the input").click()

    assert opened.outputs(1) == ["6"]
    expect(opened.log).to_contain_text("All outputs have arrived")
    expect(opened.page.get_by_text("Session closed")).to_be_visible()
    opened.send("5")
    expect(opened.page.get_by_text("Session open, 16 kHz")).to_be_visible()


def test_the_keyboard_is_enough(serve, visit, expect):
    opened = visit(serve("same"))
    expect(opened.page.get_by_text("ready", exact=True)).to_be_visible()
    keyboard = opened.page.keyboard

    keyboard.press("Tab")
    keyboard.press("Enter")
    keyboard.press("Tab")
    keyboard.press("ArrowRight")
    expect(opened.page.get_by_role("tab", name="Audio file")).to_be_focused()
    expect(opened.page.get_by_role("tabpanel", name="Audio file")).to_be_visible()
    keyboard.press("Home")
    keyboard.press("Tab")
    keyboard.type("[1]")
    keyboard.press("Control+Enter")

    assert opened.outputs(1) == ["[1]"]


def test_a_service_that_stops_is_reported_in_words(serve, visit, expect):
    server = serve("same")
    opened = visit(server, ignored="Failed to load resource|WebSocket connection to .* failed")
    opened.send("1")
    opened.outputs(1)

    assert server.stop() == 0

    expect(opened.page.get_by_role("alert").filter(has_text="The service does not respond")).to_be_visible()
    expect(opened.page.get_by_text("not reachable")).to_be_visible()
    expect(opened.log).to_contain_text("The service is stopping; it has closed the session.")
    opened.send("2")
    expect(
        opened.page.get_by_role("alert").filter(has_text="Not sent. The service does not respond")
    ).to_be_visible()


def test_it_recovers_when_the_service_does(serve, visit, expect):
    opened = visit(serve("same"), ignored="Failed to load resource.* 503")
    message = {"type": "BusyError", "message": "too many calls are in progress"}
    opened.page.route("**/status", lambda route: route.fulfill(status=503, json=message))
    banner = opened.page.get_by_role("alert").filter(has_text="(503): too many calls are in progress")
    expect(banner).to_be_visible()

    opened.page.unroute("**/status")

    expect(banner).to_be_hidden()
    expect(opened.page.get_by_text("ready", exact=True)).to_be_visible()


@pytest.fixture
def guarded(serve, tmp_path):
    token = tmp_path / "token"
    token.write_text("secret\n")
    return serve("same", "--token-file", str(token))


def test_the_token_is_asked_for_once_in_a_tab(guarded, visit, expect):
    opened = visit(guarded, ignored="Failed to load resource.* 401")
    dialog = opened.page.get_by_role("dialog", name="The service needs a token")
    expect(dialog).to_be_visible()

    for token in ("wrong", "secret"):
        dialog.get_by_label("Token").fill(token)
        dialog.get_by_role("button", name="Use the token").click()
        if token == "wrong":
            expect(dialog).to_contain_text("The service does not accept this token.")

    expect(opened.page.get_by_text("ready", exact=True)).to_be_visible()
    opened.send("1")
    assert opened.outputs(1) == ["1"]
    opened.page.reload()
    expect(opened.page.get_by_text("ready", exact=True)).to_be_visible()
    expect(dialog).to_be_hidden()


def test_the_page_of_a_service_with_tls(serve, visit, tmp_path):
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-subj", "/CN=localhost", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True, timeout=30)
    server = serve("same", "--tls-cert", str(certificate), "--tls-key", str(key))
    opened = visit(server, scheme="https", ignore_https_errors=True)

    opened.send("1")

    assert opened.outputs(1) == ["1"]


def test_a_hidden_page_sends_no_requests(serve, visit, expect):
    opened = visit(serve("same"))
    expect(opened.page.get_by_text("ready", exact=True)).to_be_visible()
    opened.page.clock.install()
    opened.page.evaluate("Object.defineProperty(document, 'hidden', { value: true, configurable: true })")
    opened.page.clock.run_for(3000)
    asked = []
    opened.page.on("request", lambda request: asked.append(request.url))

    opened.page.clock.run_for(60_000)
    assert asked == []

    with opened.page.expect_response("**/status"):
        opened.page.evaluate("delete document.hidden; document.dispatchEvent(new Event('visibilitychange'))")
