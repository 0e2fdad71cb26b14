"""Sessions whose nodes belong to one WebSocket."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

APP = Path(__file__).parent / "app.py"
TIMEOUT_SECS = 30


def count_of(server, line):
    return sum(line in written for written in server.lines)


def wait_for_count(server, line, count):
    until = time.monotonic() + TIMEOUT_SECS
    while count_of(server, line) < count:
        assert time.monotonic() < until, server.lines
        time.sleep(0.01)


def test_every_session_has_nodes_of_its_own_where_they_are_given_as_a_class(serve, session):
    server = serve("count")
    with session(server) as first, session(server) as second:
        for number in (1, 2, 3):
            first.send("item")
            assert first.receive() == number
        second.send("item")
        assert second.receive() == 1
    # Two of sessions; those of calls stay.
    wait_for_count(server, "cleaned up", 2)
    assert server.call("item").json == 1


def test_all_share_nodes_that_are_objects(serve, session):
    server = serve("add")

    assert server.request("GET", "/status").json["sessions"]["own_nodes"] is False


def test_nodes_are_initialized_in_advance(serve, session):
    server = serve("count", "--warm", "2")
    assert count_of(server, "initialized") == 3
    assert server.request("GET", "/status").json["sessions"]["warm"] == 2
    with session(server) as client:
        client.send("item")
        assert client.receive() == 1
        # Another takes the place of the one that was taken.
        wait_for_count(server, "initialized", 4)


def test_all_nodes_are_cleaned_up_at_a_stop(serve, session):
    server = serve("count", "--warm", "2")
    with session(server) as client:
        client.send("item")
        assert client.receive() == 1
        wait_for_count(server, "initialized", 4)
        server.process.send_signal(signal.SIGTERM)
        client.closed()

    assert server.process.wait(TIMEOUT_SECS) == 0
    wait_for_count(server, "cleaned up", 4)


@pytest.mark.parametrize("option", ["--session-per-connection", "--warm=2"])
def test_nodes_of_its_own_cannot_be_made_of_objects(refused, option):
    code, stderr = refused(f"{APP}:add", option)

    assert code == 2
    assert "needs nodes that can be made for each connection" in stderr


def test_the_metrics_of_all_sessions_are_added_up(serve, session):
    server = serve("count")
    for _ in range(3):
        with session(server) as client:
            client.send("item")
            assert client.receive() == 1
    server.call("item")
    wait_for_count(server, "cleaned up", 3)

    server.wait_until_counted("remotemedia_node_items_in_total", 4)
