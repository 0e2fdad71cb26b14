"""Pages of other sites, as browsers ask for them."""

from __future__ import annotations

from pathlib import Path

import pytest

APP = Path(__file__).parent / "app.py"
PAGE = "https://app.example"
OTHER = "http://localhost:3000"
QUESTION = {
    "access_control_request_method": "POST",
    "access_control_request_headers": "authorization,content-type",
}


@pytest.fixture
def token(tmp_path):
    path = tmp_path / "token"
    path.write_text("secret\n")
    return "--token-file", str(path)


def cors_headers(response):
    return {name.lower() for name in response.headers if name.lower().startswith("access-control-")}


def test_pages_of_other_sites_are_refused_unless_they_are_named(serve):
    server = serve("same", "--cors-origin", PAGE, "--cors-origin", OTHER)

    for origin in (PAGE, OTHER):
        response = server.call(1, origin=origin)
        assert (response.json, response.headers["access-control-allow-origin"]) == (1, origin)
        assert response.headers["vary"] == "origin"
        assert response.headers["access-control-expose-headers"] == "x-request-id, retry-after"
    for origin in ("https://evil.example", "http://app.example", "https://app.example:8443", "null"):
        response = server.call(1, origin=origin)
        assert (response.status, response.json["type"]) == (403, "OriginError")
        assert not cors_headers(response)
        assert response.headers["vary"] == "origin"
    plain = server.call(1)
    assert (plain.json, cors_headers(plain), plain.headers["vary"]) == (1, set(), "origin")


def test_nothing_is_said_where_no_page_is_named(serve):
    server = serve("same")

    response = server.call(1, origin="http://{}:{}".format(*server.address))
    question = server.request("OPTIONS", "/call", origin=PAGE, **QUESTION)

    assert (response.json, cors_headers(response), response.headers["vary"]) == (1, set(), None)
    assert (question.status, cors_headers(question)) == (403, set())


def test_a_browser_may_ask_first_without_a_token(serve, token):
    server = serve("same", "--cors-origin", PAGE, *token)

    response = server.request("OPTIONS", "/call", origin=PAGE, **QUESTION)

    assert (response.status, response.body) == (204, b"")
    assert response.headers["access-control-allow-origin"] == PAGE
    assert response.headers["access-control-allow-methods"] == "GET, POST"
    allowed = set(response.headers["access-control-allow-headers"].split(", "))
    assert {"authorization", "content-type", "x-request-id", "traceparent"} <= allowed
    assert int(response.headers["access-control-max-age"]) > 0


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        ("OPTIONS", {"origin": "https://evil.example", **QUESTION}, 403),
        ("OPTIONS", {"origin": PAGE}, 401),
        ("OPTIONS", QUESTION, 401),
        ("POST", {"origin": PAGE, **QUESTION}, 401),
    ],
)
def test_only_the_question_of_a_named_page_needs_no_token(serve, token, method, headers, status):
    server = serve("same", "--cors-origin", PAGE, *token)

    assert server.request(method, "/call", "1", **headers).status == status


def test_a_named_page_can_read_errors(serve, token):
    server = serve("add", "--cors-origin", PAGE, *token)

    refused = server.call(1, origin=PAGE)
    failed = server.call("text", origin=PAGE, authorization="Bearer secret")

    assert (refused.status, failed.status) == (401, 500)
    for response in (refused, failed):
        assert response.headers["access-control-allow-origin"] == PAGE


def test_all_pages_may_be_named_where_there_is_a_token(serve, token):
    server = serve("same", "--cors-origin", "*", *token)

    response = server.call(1, origin="https://any.example", authorization="Bearer secret")
    question = server.request("OPTIONS", "/call", origin="https://any.example", **QUESTION)

    assert (response.json, response.headers["access-control-allow-origin"]) == (1, "*")
    assert (question.status, question.headers["access-control-allow-origin"]) == (204, "*")
    assert server.call(1, origin="https://any.example").status == 401


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["*"], "'*' lets every page that is open in a browser here use the pipeline"),
        (["app.example"], "'app.example' is not an origin; write it as browsers send it"),
        ([PAGE, "https://app.example/"], "'https://app.example/' is not an origin"),
        (["https://app.example:443"], "without a path or a default port"),
    ],
)
def test_what_is_no_origin_is_refused_before_a_node_starts(refused, words, text):
    options = [word for origin in words for word in ("--cors-origin", origin)]

    code, stderr = refused(f"{APP}:refuses", *options)

    assert code == 2
    assert text in stderr
    assert "no model" not in stderr
