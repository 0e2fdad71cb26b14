"""Clients that vanish in the middle of a request, and clients that send a byte now and then."""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import time

import pytest
from raw_clients import UPGRADE, connect, frame, nothing_remains_in, post, well_behaved_client
from stream_nodes import LONG, shortly_and_long

# A connection with this option is reset when it is closed.
RESET = (socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

AT_ONCE = 50

CHUNKED = b"POST /stream HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"

REQUESTS = [
    post(b"[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]"),
    post(bytes(20_000), kind="application/octet-stream"),
    b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n",
    CHUNKED + b"4\r\n1\n2\n\r\n2\r\n3\n\r\n0\r\n\r\n",
    UPGRADE + frame(b"1") + frame(bytes(640), opcode=2) + frame(b'{"$control": "end"}'),
]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("count", shortly_and_long(500, 10_000))
def test_clients_that_vanish_disturb_nobody_and_leave_nothing(serve, count):
    server = serve("load_app.py:describe")
    chance = random.Random(count)

    with nothing_remains_in(server), well_behaved_client(server), contextlib.ExitStack() as together:
        for number in range(count):
            if number % AT_ONCE == 0:
                together.close()
            request = chance.choice(REQUESTS)
            client = together.enter_context(contextlib.closing(connect(server)))
            client.sendall(request[: chance.randrange(len(request) + 1)])
            if chance.random() < 0.3:
                client.setsockopt(*RESET)
            elif chance.random() < 0.3:
                client.shutdown(socket.SHUT_WR)


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("count", "secs", "interval_secs"), [(50, 1, 0.1), pytest.param(500, 45, 1, marks=LONG)]
)
def test_slow_senders_disturb_nobody_and_leave_nothing(serve, count, secs, interval_secs):
    server = serve("load_app.py:describe")

    with nothing_remains_in(server), well_behaved_client(server), contextlib.ExitStack() as together:
        senders = [together.enter_context(contextlib.closing(connect(server))) for _ in range(count)]
        requests = [iter(REQUESTS[number % len(REQUESTS)]) for number in range(count)]
        until = time.monotonic() + secs
        while time.monotonic() < until:
            for sender, request in zip(senders, requests, strict=True):
                # Some of them have timed out.
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    sender.sendall(bytes([next(request, 0)]))
            time.sleep(interval_secs)


@pytest.mark.long
@pytest.mark.timeout(120)
def test_a_head_that_does_not_end_is_waited_for_as_long_as_promised(serve):
    """A byte now and then does not prolong it."""
    server = serve("load_app.py:describe")

    with nothing_remains_in(server), contextlib.closing(connect(server)) as client:
        client.settimeout(1)
        client.sendall(b"POST /call HTTP/1.1\r\nHost: localhost\r\nX: ")
        for _ in range(60):
            with contextlib.suppress(TimeoutError):
                if not client.recv(1000):
                    break
            client.sendall(b"x")
        else:
            raise AssertionError("it is still open")
