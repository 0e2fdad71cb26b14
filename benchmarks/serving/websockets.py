"""Live audio over WebSockets: how many are carried, and the memory of an idle one."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING

from benchmarks.harness.measuring import Benchmark, NotMeasuredError, alternate
from benchmarks.serving.servers import fastapi, load, serve

if TYPE_CHECKING:
    from benchmarks.harness.measuring import Effort, Samples
    from benchmarks.serving.servers import Server, StartServer

__all__ = ["BENCHMARKS"]

PATH = "/session?rate=16000"
MOST = 1000
"""No more are tried."""

STEP = 25
QUICK_STEP = 250
PROBE_SECS = 5
SECS = 30
"""How long the number that is reported is carried."""

P99_MS = 20.0

IDLE = 1000
QUICK_IDLE = 100
TIMEOUT_SECS = 30
UPGRADE = (
    f"GET {PATH} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


def carried(effort: Effort) -> Samples:
    """The largest number of WebSockets that are carried."""
    rounds = 1 if effort.is_quick else 2
    return [(_largest(serve, effort), _largest(fastapi, effort)) for _ in range(rounds)]


def _largest(start: StartServer, effort: Effort) -> float:
    step, secs = (QUICK_STEP, 1) if effort.is_quick else (STEP, PROBE_SECS)
    with start() as server:
        carried, too_many = 0, MOST + step
        while too_many - carried > step:
            # The most at first, which may be carried.
            middle = MOST if too_many > MOST else (carried + too_many) // 2 // step * step
            if _is_carried(server, middle, secs):
                carried = middle
            else:
                too_many = middle
        while carried > 0 and not effort.is_quick and not _is_carried(server, carried, SECS):
            carried -= step
        return carried


def _is_carried(server: Server, connections: int, secs: int) -> bool:
    """Whether all chunks come back in time."""
    try:
        result = load("websockets", server, connections=connections, secs=secs, path=PATH)
    except NotMeasuredError:
        return False
    is_complete = not (result["dropped"] or result["wrong"] or result["errors"])
    return is_complete and result["us"]["p99"] <= P99_MS * 1e3


def memory(effort: Effort) -> Samples:
    """What an idle WebSocket adds to the memory of the server."""
    count = QUICK_IDLE if effort.is_quick else IDLE
    return alternate(lambda: _idle_kib(serve, count), lambda: _idle_kib(fastapi, count), effort.rounds(3))


def _idle_kib(start: StartServer, count: int) -> float:
    with start() as server, ExitStack() as sockets:
        # What the first one needs is there once.
        _connect(server).close()
        before = server.resident_kib()
        for _ in range(count):
            sockets.enter_context(_connect(server))
        return (server.resident_kib() - before) / count


def _connect(server: Server) -> socket.socket:
    host, port = server.address.split(":")
    client = socket.create_connection((host, int(port)), TIMEOUT_SECS)
    client.sendall(UPGRADE.encode())
    received = client.recv(4096)
    if not received.startswith(b"HTTP/1.1 101 "):
        client.close()
        raise NotMeasuredError(f"no WebSocket: {received.decode(errors='replace')}")
    return client


BENCHMARKS = [
    Benchmark(
        "websockets",
        f"WebSockets with 50 chunks of audio/s, p99 ≤ {P99_MS:g} ms",
        "FastAPI",
        MOST,
        carried,
        unit="sockets",
        compared_by="ours",
        is_floor=True,
    ),
    Benchmark(
        "websocket-memory",
        "memory of an idle WebSocket",
        "FastAPI",
        64.0,
        memory,
        unit="KiB",
        compared_by="ours",
    ),
]
