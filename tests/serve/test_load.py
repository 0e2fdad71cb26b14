"""Limits of load, and clients that go away."""

from __future__ import annotations

import concurrent.futures
import contextlib
import socket
import time
from pathlib import Path

import pytest


def wait_until_in_progress(server, count):
    for _ in range(1000):
        if sum("begins" in line for line in server.lines) >= count:
            return
        time.sleep(0.01)
    raise AssertionError(server.lines)


def test_calls_over_the_limit_are_refused_at_once(serve):
    server = serve("sleep", "--max-in-flight", "2")
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        slow = [pool.submit(server.call, 1.5) for _ in range(2)]
        wait_until_in_progress(server, 2)

        refused = server.call(0)

        assert [call.result().status for call in slow] == [200, 200]
    assert (refused.status, refused.headers["retry-after"], refused.json["type"]) == (503, "1", "BusyError")
    assert server.call(0).status == 200


def test_those_who_send_slowly_keep_nobody_out(serve):
    server = serve("add", "--max-in-flight", "1")
    with contextlib.ExitStack() as clients:
        for _ in range(3):
            client = clients.enter_context(socket.create_connection(server.address, timeout=30))
            client.sendall(b"POST /call HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\n1")

        assert server.call(1).json == 2


def count_descriptors(server):
    return sum(1 for _ in Path(f"/proc/{server.process.pid}/fd").iterdir())


@pytest.mark.parametrize("is_declared", [True, False])
def test_a_body_that_is_too_long_is_refused(serve, is_declared):
    server = serve("same", "--max-body", "1000")
    body = b"1" * 2000

    response = server.request("POST", "/call", body if is_declared else iter([body]))

    assert (response.status, response.json["type"]) == (413, "BodyError")
    assert "1000 bytes" in response.json["message"]


def test_a_call_that_takes_too_long_is_given_up_and_cancelled(serve):
    server = serve("sleep", "--request-timeout", "0.2")

    response = server.call(60)

    assert (response.status, response.json["message"]) == (504, "the call took longer than 0.2 s")
    server.wait_for_line("cancelled 60")


def test_the_work_for_a_client_that_goes_away_is_cancelled(serve):
    server = serve("sleep")
    with contextlib.closing(socket.create_connection(server.address)) as client:
        client.sendall(b"POST /call HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n60")
        server.wait_for_line("begins 60")

    server.wait_for_line("cancelled 60")
    assert server.call(0).status == 200


def test_clients_that_send_half_and_vanish_leave_nothing(serve):
    server = serve("same")
    server.call(1)
    before = count_descriptors(server)

    for _ in range(300):
        with contextlib.closing(socket.create_connection(server.address)) as client:
            client.sendall(b"POST /call HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n12")

    assert server.call(2).json == 2
    for _ in range(500):
        if count_descriptors(server) <= before + 1:
            return
        time.sleep(0.01)
    raise AssertionError((before, count_descriptors(server)))
