"""Generated input of all kinds that is broken somewhere: it is refused, and harms nothing.

Each is a valid input with a few changes, so that much of it is read before it is refused. A generator that
starts from nothing would rarely get beyond the first line.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import random
import re
import socket
import struct

import pytest
from raw_clients import (
    UPGRADE,
    connect,
    frame,
    nothing_remains_in,
    post,
    read_response,
    resident_kib,
)
from stream_nodes import shortly_and_long

CLIENTS = 8

# A request that is not complete has no response; it is ended after this time.
PATIENCE_SECS = 0.02

# Buffers grow with the largest inputs at first. What remained of each of many inputs would add up to more.
MOST_GROWTH_KIB = 8 * 1024

SEED = 1

STATUS = re.compile(rb"^HTTP/1\.[01] (\d{3}) ", re.MULTILINE)

TOKENS = [
    b"\r\n",
    b"\r\n\r\n",
    b"\n",
    b"\0",
    b" ",
    b":",
    b"\xff\xfe",
    b"\xed\xa0\x80",
    b"Content-Length: 5\r\n",
    b"Content-Length: 99999999999999999999\r\n",
    b"Content-Length: -1\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: gzip, chunked\r\n",
    b"Expect: 100-continue\r\n",
    b"Connection: Upgrade\r\nUpgrade: h2c\r\n",
    b"X: " + b"x" * 10_000 + b"\r\n",
    b"HTTP/2.0",
    b"http://localhost/call",
    b"/%00%ff/../call?a=b#c",
    b"[" * 200,
    b'{"a":' * 100,
    b'"\\ud800"',
    b"1e999",
    b"-0",
    b"9" * 400,
    b"NaN",
    b'"$control"',
    b"fmt ",
    b"data",
    b"RF64",
    b"\0\0\0\0",
    b"\xff\xff\xff\xff",
    b"\0\0\0\x80",
]

JSON = [
    b'{"a": [1, 2.5, -3e10, null, true, "text \\u00e9 \\ud83d\\ude00"], "b": {"c": []}}',
    b"[[[[1]]], 123456789012345678901234567890, 0.1]",
    '"übergrößenträger"'.encode(),
]

CHUNKED = b"POST /call HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"

HTTP = [
    post(b"[1, 2]"),
    CHUNKED + b"3\r\n[1,\r\n2\r\n2]\r\n0\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\nGET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /metrics HTTP/1.0\r\nHost: localhost\r\nConnection: keep-alive\r\n\r\n",
    b"OPTIONS /call HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost\r\n\r\n",
    post(b"1\n[2, 3]\n", path="/stream", kind="application/x-ndjson"),
    UPGRADE,
]


def wav(tag, channels, bits, data, extra=b""):
    block = channels * bits // 8
    form = struct.pack("<HHIIHH", tag, channels, 8000, 8000 * block, block, bits) + extra
    chunks = b"fmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(chunks) + 4) + b"WAVE" + chunks


EXTENSIBLE = struct.pack("<HHIH", 22, 16, 3, 1) + bytes.fromhex("000000001000800000aa00389b71")

RECORDINGS = [
    wav(1, 1, 16, bytes(400)),
    wav(1, 2, 24, bytes(range(240))),
    wav(3, 1, 32, bytes(400)),
    wav(0xFFFE, 2, 16, bytes(400), EXTENSIBLE),
]

FRAMES = [
    frame(b"[1, 2]"),
    frame(b'{"$control": "interrupt"}'),
    frame(b'{"$control": "end"}'),
    frame(bytes(640), opcode=2),
    frame(b"ping", opcode=9),
    frame(struct.pack(">H", 1000) + b"bye", opcode=8),
    b"\x01" + frame(b'"continued')[1:] + frame(b'"', opcode=0),
]


def changed(chance, valid):
    """Return an input with one to four changes."""
    data = bytearray(valid)
    for _ in range(chance.randint(1, 4)):
        start = chance.randrange(len(data) + 1)
        end = min(len(data), start + chance.choice([0, 1, 1, 2, 4, 16]))
        change = chance.randrange(6)
        if change == 0:
            data[start:end] = chance.randbytes(end - start)
        elif change == 1:
            del data[start:end]
        elif change == 2:
            data[start:start] = chance.choice(TOKENS)
        elif change == 3:
            data[start:end] = chance.choice(TOKENS)
        elif change == 4:
            data[start:start] = data[start:end] * chance.choice([1, 10])
        else:
            del data[start:]
    return bytes(data)


def send(server, data):
    """Send, and return all that comes until the connection ends."""
    received = b""
    with (
        contextlib.closing(connect(server)) as client,
        contextlib.suppress(BrokenPipeError, ConnectionResetError),
    ):
        client.sendall(data)
        client.settimeout(PATIENCE_SECS)
        with contextlib.suppress(TimeoutError):
            while more := client.recv(65536):
                received += more
            return received
        client.settimeout(30)
        client.shutdown(socket.SHUT_WR)
        while more := client.recv(65536):
            received += more
    return received


def send_http(server, chance):
    """A broken request; return the statuses that came back."""
    received = send(server, changed(chance, chance.choice(HTTP)))
    statuses = [int(status) for status in STATUS.findall(received)]
    assert all(status < 500 for status in statuses), received
    return statuses


def send_body(server, body, kind):
    """A request that is valid but for its body; the status that came back."""
    with contextlib.closing(connect(server)) as client:
        client.sendall(post(body, kind=kind))
        response, answer = read_response(client)
    assert response.status in {200, 400}, (response.status, answer, body)
    return [response.status]


def send_json(server, chance):
    return send_body(server, changed(chance, chance.choice(JSON)), "application/json")


def send_wav(server, chance):
    return send_body(server, changed(chance, chance.choice(RECORDINGS)), "audio/wav")


def send_frames(server, chance):
    """Frames that are broken, after an upgrade that is not; the status of the upgrade."""
    valid = b"".join(chance.choices(FRAMES, k=3))
    received = send(server, UPGRADE + changed(chance, valid))
    # One connection more than are allowed may exist for a moment.
    assert received.startswith((b"HTTP/1.1 101 ", b"HTTP/1.1 503 ")), received
    return [int(status) for status in STATUS.findall(received)]


def send_many(server, kind, count, seed):
    """Send as many inputs of a kind, from a few clients at once; return all statuses."""
    with concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
        # Each has its own seed, so that one that fails can be sent alone.
        chances = [random.Random(f"{seed} {number}") for number in range(count)]
        return set().union(*pool.map(lambda chance: kind(server, chance), chances))


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("count", shortly_and_long(500, 25_000))
@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        pytest.param(send_http, {200, 400, 404, 405}, id="http"),
        pytest.param(send_json, {200, 400}, id="json"),
        pytest.param(send_wav, {200, 400}, id="wav"),
        pytest.param(send_frames, {101}, id="frames"),
    ],
)
def test_broken_input_is_refused_and_harms_nothing(serve, kind, expected, count):
    server = serve("load_app.py:describe")

    with nothing_remains_in(server):
        statuses = send_many(server, kind, count // 2, SEED)
        before = resident_kib(server)
        statuses |= send_many(server, kind, count // 2, SEED + 1)

    assert statuses >= expected
    assert resident_kib(server) - before < MOST_GROWTH_KIB
    assert server.call([1]).json == [1]
