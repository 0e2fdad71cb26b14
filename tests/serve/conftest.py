"""A pipeline that is served by a process, and clients for it."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

HERE = Path(__file__).parent
TIMEOUT_SECS = 30


@dataclass
class Response:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)


@dataclass
class Server:
    """A process that serves a pipeline of `app.py`."""

    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)
    reader: threading.Thread | None = None
    address: tuple[str, int] = ("", 0)

    def start_reading(self):
        """Read what the process writes, up to its address, and go on beside the test."""
        for line in self.process.stderr:
            self.lines.append(line)
            if found := re.search(r"https?://([\d.]+):(\d+)", line):
                self.address = found[1], int(found[2])
                self.reader = threading.Thread(target=self._read_on, daemon=True)
                self.reader.start()
                return
        raise AssertionError("".join(self.lines))

    def _read_on(self):
        self.lines.extend(self.process.stderr)

    def connect(self):
        return http.client.HTTPConnection(*self.address, timeout=TIMEOUT_SECS)

    def request(self, method, path, body=None, **headers):
        """Send a request on a connection of its own."""
        with contextlib.closing(self.connect()) as connection:
            connection.request(
                method, path, body, {name.replace("_", "-"): text for name, text in headers.items()}
            )
            response = connection.getresponse()
            return Response(response.status, response.headers, response.read())

    def call(self, item, **headers):
        return self.request("POST", "/call", json.dumps(item), **headers)

    def stop(self, signal_number=signal.SIGTERM):
        """Send a signal, and return the exit code."""
        self.process.send_signal(signal_number)
        return self.process.wait(TIMEOUT_SECS)

    def wait_until_counted(self, name, count):
        """Wait until a metric of the first node has this value."""
        until = time.monotonic() + TIMEOUT_SECS
        while True:
            text = self.request("GET", "/metrics").body.decode()
            found = re.search(rf"^{name}{{[^}}]*}} (\d+)", text, re.MULTILINE)
            if found and int(found[1]) == count:
                return
            assert time.monotonic() < until, text
            time.sleep(0.02)

    def wait_for_line(self, text):
        until = time.monotonic() + TIMEOUT_SECS
        while not any(text in line for line in self.lines):
            assert time.monotonic() < until, "".join(self.lines)
            time.sleep(0.01)


@pytest.fixture
def serve():
    """Return a function that serves a pipeline of `app.py`, or of another file with `FILE:NAME`."""
    servers = []

    def start(name, *options, **settings):
        target = f"{HERE}/{name if ':' in name else f'app.py:{name}'}"
        command = [sys.executable, "-m", "remotemedia", "serve", target, "--port", "0", *options]
        server = Server(subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **settings))
        servers.append(server)
        server.start_reading()
        return server

    yield start
    for server in servers:
        if server.process.poll() is None:
            server.process.kill()
            server.process.wait(TIMEOUT_SECS)
        if server.reader is not None:
            server.reader.join(TIMEOUT_SECS)
        server.process.stderr.close()


@pytest.fixture
def refused():
    """Return a function that runs `serve` with words that it refuses: the exit code and stderr."""

    def run(*words):
        command = [sys.executable, "-m", "remotemedia", "serve", *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_SECS, check=False)
        return done.returncode, done.stderr

    return run


class Client:
    """A WebSocket on which messages are JSON."""

    def __init__(self, socket):
        self.socket = socket

    def __enter__(self):
        self.socket.__enter__()
        return self

    def __exit__(self, *error):
        return self.socket.__exit__(*error)

    def send(self, item):
        self.socket.send(json.dumps(item))

    def receive(self):
        message = self.socket.recv(TIMEOUT_SECS)
        return message if isinstance(message, bytes) else json.loads(message)

    def closed(self):
        """Wait until the server closes: the messages before that, and the code."""
        # Iteration ends only after a normal close.
        messages = []
        with contextlib.suppress(ConnectionClosed):
            messages.extend(self._received())
        return messages, self.socket.close_code

    def _received(self):
        while True:
            yield self.receive()


@pytest.fixture
def session():
    """Return a function that opens a session, and has read that it is ready."""

    def start(server, query="", **options):
        host, port = server.address
        url = f"ws://{host}:{port}/session{query}"
        client = Client(connect(url, max_size=None, legacy=True, **options))
        ready = client.receive()
        assert ready["$event"] == "ready"
        return client

    return start
