"""Lines about requests and errors on stderr."""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

APP = Path(__file__).parent / "app.py"
TRACE = "0af7651916cd43dd8448eb211c80319c"
HEX = re.compile("[0-9a-f]{32}")


def entries(server, event, count):
    """Wait for so many JSON lines about an event, and return them."""
    for _ in range(1000):
        found = [json.loads(line) for line in list(server.lines) if line.startswith("{")]
        found = [entry for entry in found if entry["event"] == event]
        if len(found) >= count:
            return found
        time.sleep(0.01)
    raise AssertionError(server.lines)


def test_each_request_is_an_object(serve):
    server = serve("same", "--log-format", "json")
    before = dt.datetime.now(dt.UTC)

    server.request("POST", "/call?secret=1", "[1, 2]", x_request_id="mine")
    server.request("GET", "/nothing")

    call, missing = entries(server, "request", 2)
    time_of = dt.datetime.fromisoformat(call.pop("time"))
    assert -1 < (time_of - before).total_seconds() < 60
    assert 0 < call.pop("duration_ms") < 60_000
    assert HEX.fullmatch(call.pop("trace_id"))
    remote = call.pop("remote")
    assert remote.startswith("127.0.0.1:")
    assert call == {
        "level": "info",
        "event": "request",
        "method": "POST",
        "path": "/call",
        "status": 200,
        "bytes_in": 6,
        "bytes_out": 5,
        "request_id": "mine",
    }
    assert (missing["path"], missing["status"], missing["bytes_in"]) == ("/nothing", 404, None)


def test_start_stop_and_errors_are_objects_too(serve):
    server = serve("add", "--log-format", "json")

    server.call("text", x_request_id="mine")

    [error] = entries(server, "error", 1)
    assert server.stop() == 0
    assert (error["type"], error["node_id"], error["request_id"]) == ("TypeError", "Add_0", "mine")
    assert error["message"] == 'can only concatenate str (not "int") to str'
    [start], [stop] = entries(server, "start", 1), entries(server, "stop", 1)
    assert "serving 'pipeline' on http://127.0.0.1:" in start["message"]
    assert stop["message"] == "stopping; requests in progress have 30 s to end"
    assert all(line.startswith("{") for line in server.lines)


def test_each_request_is_a_line_of_text(serve):
    server = serve("same", "--log-format", "text")

    server.call(1, x_request_id="mine")

    server.wait_for_line("POST /call")
    [line] = [line for line in server.lines if "POST /call" in line]
    pattern = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z POST /call 200 \d+\.\d{3}ms in=1 out=1 "
    pattern += r"remote=127\.0\.0\.1:\d+ request=mine trace=[0-9a-f]{32}\n"
    assert re.fullmatch(pattern, line)


def test_only_errors_of_nodes_are_lines_unless_asked_for_more(serve):
    server = serve("add")

    server.call(1)
    server.request("POST", "/call", "{")
    server.call("text\nforged", x_request_id="mine")

    server.wait_for_line("error: ")
    text = "error: TypeError: can only concatenate str (not \"int\") to str (node 'Add_0', request mine)\n"
    assert server.lines[1:] == [text]


def test_an_output_that_cannot_be_sent_is_an_error(serve):
    server = serve("opaque")

    server.call(1, x_request_id="mine")

    server.wait_for_line("error: OutputError: output is of type object")
    assert server.lines[-1].endswith("(request mine)\n")


def test_a_client_that_goes_away_is_seen(serve):
    server = serve("sleep", "--log-format", "json")
    with contextlib.closing(socket.create_connection(server.address)) as client:
        client.sendall(b"POST /call HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n60")
        server.wait_for_line("begins 60")

    [entry] = entries(server, "request", 1)

    assert (entry["status"], entry["bytes_out"]) == (499, 0)
    metrics = server.request("GET", "/metrics").body.decode()
    assert 'remotemedia_requests_total{path="/call",status="499"} 1' in metrics


@pytest.mark.parametrize(
    ("given", "is_kept"),
    [
        (f"00-{TRACE}-b7ad6b7169203331-01", True),
        (f"00-{TRACE}-b7ad6b7169203331-00", True),
        (f"01-{TRACE}-b7ad6b7169203331-01-more", True),
        (f"00-{TRACE}-b7ad6b7169203331-01-more", False),
        (f"00-{TRACE}-0000000000000000-01", False),
        (f"00-{TRACE.upper()}-b7ad6b7169203331-01", False),
        ("", False),
    ],
)
def test_the_trace_of_the_client_is_taken_up(serve, given, is_kept):
    server = serve("same", "--log-format", "json")

    server.call(1, traceparent=given)

    [entry] = entries(server, "request", 1)
    assert (entry["trace_id"] == TRACE) == is_kept
    assert HEX.fullmatch(entry["trace_id"])
    assert entry["trace_id"] != "0" * 32


def test_a_reader_of_stderr_that_stalls_holds_no_request_up():
    """The pipe is full soon, and stays so: lines are dropped, and said to be when it is read again."""
    command = [
        sys.executable,
        "-m",
        "remotemedia",
        "serve",
        f"{APP}:same",
        "--port",
        "0",
        "--log-format",
        "json",
    ]
    read_end, write_end = os.pipe()
    fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, 4096)
    process = subprocess.Popen(command, stderr=write_end)
    os.close(write_end)
    try:
        with os.fdopen(read_end, "rb") as stderr:
            port = int(re.search(rb"127\.0\.0\.1:(\d+)", stderr.readline())[1])
            request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
            with contextlib.closing(socket.create_connection(("127.0.0.1", port), timeout=30)) as client:
                for _ in range(100):
                    client.sendall(request * 60)
                    received = b""
                    while received.count(b"HTTP/1.1 200 OK") < 60 or not received.endswith(b"ok\n"):
                        received += client.recv(100_000)
            process.send_signal(signal.SIGTERM)
            lines = [json.loads(line) for line in stderr]
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait(30)

    requests = sum(line["event"] == "request" for line in lines)
    lost = [line["message"] for line in lines if line["event"] == "warning"]
    # What has not been read a second after the signal is not written any more.
    assert 0 < requests <= 6000 - sum(int(text.split()[0]) for text in lost)
    assert lost
    assert lost[0].endswith("log lines were dropped, because stderr did not take them in time")
