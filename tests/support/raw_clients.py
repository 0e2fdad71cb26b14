"""Clients of a service over bare sockets: they may send what is no HTTP, and see how a connection ends."""

from __future__ import annotations

import contextlib
import http.client
import re
import socket
import threading
from contextlib import contextmanager
from pathlib import Path

from leftovers import count_in, wait_until

TIMEOUT_SECS = 30

SPARE_THREADS = 64
"""What may wait runs on threads that end when they have had nothing to do for 10 seconds."""

# Its key is the example of RFC 6455.
UPGRADE = (
    b"GET /session?rate=16000 HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


def post(body, path="/call", kind="application/json"):
    """Return a request."""
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def frame(payload, opcode=1):
    """Return a WebSocket frame of a client, whose mask changes nothing."""
    is_short = len(payload) < 126
    length = bytes([0x80 | len(payload)]) if is_short else b"\xfe" + len(payload).to_bytes(2, "big")
    return bytes([0x80 | opcode]) + length + bytes(4) + payload


def connect(server):
    return socket.create_connection(server.address, TIMEOUT_SECS)


def read_response(client):
    """Return the next response of a connection, and its body.

    Raises:
        OSError or HTTPException: If the connection ends before it is complete.
    """
    with contextlib.closing(http.client.HTTPResponse(client)) as response:
        response.begin()
        return response, response.read()


def calls_in_progress(server):
    """Return the number that the service itself states."""
    text = server.request("GET", "/metrics").body.decode()
    return int(re.search(r"^remotemedia_calls_in_progress (\d+)", text, re.MULTILINE)[1])


def holdings(server):
    """Return what connections and calls cost a service while they exist."""
    return {
        "descriptors": count_in(f"/proc/{server.process.pid}/fd"),
        "threads": count_in(f"/proc/{server.process.pid}/task"),
    }


def resident_kib(server):
    status = Path(f"/proc/{server.process.pid}/status").read_text(encoding="utf-8")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:"))


@contextmanager
def nothing_remains_in(server):
    """Check that a service that has been warmed up holds no more afterwards than before."""
    assert server.call(0).status == 200
    assert calls_in_progress(server) == 0
    most = holdings(server)
    most["threads"] += SPARE_THREADS

    yield

    wait_until(lambda: calls_in_progress(server) == 0)
    wait_until(lambda: all(count <= most[name] for name, count in holdings(server).items()))
    assert not [line for line in server.lines if "panicked" in line or "Traceback" in line]


@contextmanager
def well_behaved_client(server):
    """Call the service meanwhile, on a connection that stays open, and check each response."""
    wrong, is_over, count = [], threading.Event(), 0

    def call():
        nonlocal count
        with contextlib.closing(connect(server)) as client:
            while not is_over.is_set():
                count += 1
                client.sendall(post(b"%d" % count))
                response, body = read_response(client)
                if (response.status, body) != (200, b"%d" % count):
                    wrong.append((response.status, body))

    failures = []
    thread = threading.Thread(target=lambda: _noted(call, failures))
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()
    assert (failures, wrong) == ([], [])
    assert count > 0


def _noted(call, failures):
    try:
        call()
    except Exception as error:  # noqa: BLE001 - The test fails with it.
        failures.append(error)
