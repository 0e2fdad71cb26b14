"""Clients that are slow, idle or many, and a process that has no descriptors left."""

from __future__ import annotations

import contextlib
import json
import resource
import socket
import time
from pathlib import Path

import pytest

HEAD = b"POST /call HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n"
LIMIT = 64


def limit_descriptors():
    resource.setrlimit(resource.RLIMIT_NOFILE, (LIMIT, LIMIT))


def count_descriptors(server):
    return sum(1 for _ in Path(f"/proc/{server.process.pid}/fd").iterdir())


def test_more_clients_than_descriptors_wait_for_their_turn(serve):
    server = serve("same", preexec_fn=limit_descriptors)
    before = count_descriptors(server)
    with contextlib.ExitStack() as stack:
        idle = [
            stack.enter_context(contextlib.closing(socket.create_connection(server.address)))
            for _ in range(2 * LIMIT)
        ]
        waiting = stack.enter_context(contextlib.closing(server.connect()))
        waiting.request("POST", "/call", "1")
        while count_descriptors(server) == before:
            time.sleep(0.01)

        # A quarter is left to the nodes.
        assert count_descriptors(server) <= LIMIT * 3 // 4
        for connection in idle:
            connection.close()

        assert json.loads(waiting.getresponse().read()) == 1
    assert server.stop() == 0


def test_connections_are_accepted_again_when_nodes_give_descriptors_back(serve):
    server = serve("hoard", preexec_fn=limit_descriptors)
    with contextlib.closing(server.connect()) as first, contextlib.closing(server.connect()) as second:
        first.request("POST", "/call", '"all"')
        assert json.loads(first.getresponse().read()) > 0

        second.request("POST", "/call", '"nothing"')
        first.request("POST", "/call", '"back"')

        assert json.loads(first.getresponse().read()) == 0
        assert json.loads(second.getresponse().read()) == 0


def test_as_many_descriptors_are_used_as_are_permitted(serve):
    def lower():
        resource.setrlimit(resource.RLIMIT_NOFILE, (LIMIT, 2 * LIMIT))

    server = serve("same", preexec_fn=lower)

    limits = Path(f"/proc/{server.process.pid}/limits").read_text()
    [line] = [line for line in limits.splitlines() if line.startswith("Max open files")]
    assert line.split()[3:5] == [str(2 * LIMIT)] * 2


@pytest.mark.long
def test_slow_bodies_end_with_408_and_hold_nobody_up(serve):
    """As many slow clients as there may be calls: each has a place, until its time is over."""
    server = serve("same", "--max-in-flight", "100")
    server.call(0)
    before = count_descriptors(server)
    with contextlib.ExitStack() as stack:
        slow = [
            stack.enter_context(contextlib.closing(socket.create_connection(server.address, timeout=30)))
            for _ in range(99)
        ]
        began = time.monotonic()
        for client in slow:
            client.sendall(HEAD)
        while time.monotonic() < began + 9:
            for client in slow:
                client.sendall(b"1")
            assert server.call(7).json == 7
            time.sleep(0.5)

        responses = [client.makefile("rb").read() for client in slow]

    assert time.monotonic() > began + 10
    for response in responses:
        head, body = response.split(b"\r\n\r\n", 1)
        assert head.startswith(b"HTTP/1.1 408 ")
        assert b"connection: close" in head.lower()
        assert json.loads(body)["type"] == "BodyError"
    assert server.call(1).json == 1
    while count_descriptors(server) > before:
        time.sleep(0.01)
