"""Who may use the service."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "10.0.0.1"])
def test_a_name_that_somebody_else_lets_point_here_is_refused(serve, host):
    response = serve("same").call(1, host=host)

    assert (response.status, response.json["type"]) == (403, "HostError")


def test_a_page_of_another_site_is_refused(serve):
    server = serve("same")
    own = "http://{}:{}".format(*server.address)

    assert server.call(1, origin="https://evil.example").json["type"] == "OriginError"
    assert server.call(1, origin=own).json == 1


def test_a_token_is_needed_where_there_is_one(serve, tmp_path):
    token = tmp_path / "token"
    token.write_text("secret\n")
    server = serve("same", "--token-file", str(token), "--host", "0.0.0.0")

    assert server.call(1).status == 401
    assert server.call(1, authorization="Bearer secre").status == 401
    assert server.call(1, authorization="Bearer secret").json == 1
    assert server.request("GET", "/readyz").status == 200
