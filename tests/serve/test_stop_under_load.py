"""SIGTERM while many clients call: the nodes process what has its response, and nothing else."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import random
import signal
import threading
import time
from dataclasses import dataclass, field

import pytest
from raw_clients import connect, post, read_response
from stream_nodes import shortly_and_long

CLIENTS = 16


@dataclass
class Client:
    """Calls until the service is gone, with an item of its own each time."""

    server: object
    items: itertools.count
    keeps_connection: bool
    sent: dict[int, float] = field(default_factory=dict)
    answered: set[int] = field(default_factory=set)
    refused: set[int] = field(default_factory=set)
    is_over: threading.Event = field(default_factory=threading.Event)

    def run(self):
        # Reset: the service stopped listening while the connection waited to be accepted.
        with contextlib.suppress(ConnectionRefusedError, ConnectionResetError):
            while not self.is_over.is_set():
                with contextlib.closing(connect(self.server)) as connection:
                    self.call_on(connection)

    def call_on(self, connection):
        """Call until the service ends the connection."""
        with contextlib.suppress(OSError, http.client.HTTPException):
            while not self.is_over.is_set():
                item = next(self.items)
                connection.sendall(post(b"%d" % item))
                self.sent[item] = time.monotonic()
                response, body = read_response(connection)
                if (response.status, body) == (200, b"%d" % item):
                    self.answered.add(item)
                else:
                    self.refused.add(item)
                if not self.keeps_connection or response.will_close:
                    return


def union(sets):
    return set().union(*sets)


def stop_under_load(server, pause_secs, keeps_connection=lambda number: number % 4 > 0):
    """Stop a service after a pause; return the exit code, the time of the signal and the clients."""
    clients = [
        Client(server, itertools.count(number, CLIENTS), keeps_connection(number))
        for number in range(CLIENTS)
    ]
    threads = [threading.Thread(target=client.run) for client in clients]
    for thread in threads:
        thread.start()
    time.sleep(pause_secs)
    signalled = time.monotonic()
    code = server.stop(signal.SIGTERM)
    for client in clients:
        client.is_over.set()
    for thread in threads:
        thread.join()
    return code, signalled, clients


@pytest.mark.timeout(900)
@pytest.mark.parametrize("times", shortly_and_long(5, 100))
def test_no_request_that_was_accepted_is_lost(serve, tmp_path, monkeypatch, times):
    """A client whose request was not processed has no response, and may send it elsewhere."""
    chance = random.Random(times)
    for number in range(times):
        record = tmp_path / f"{number}"
        monkeypatch.setenv("RECORD", str(record))
        server = serve("load_app.py:record")

        code, signalled, clients = stop_under_load(server, chance.uniform(0.05, 0.5))

        processed = [int(line) for line in record.read_text().splitlines()]
        answered = union(client.answered for client in clients)
        assert (code, len(set(processed))) == (0, len(processed))
        assert len(answered) > CLIENTS
        assert set(processed) - answered == set(), f"{number}: processed, but the response was lost"
        assert answered - set(processed) == set()
        sent = [item for client in clients for item, at in client.sent.items() if at < signalled]
        assert set(sent) - answered == set(), f"{number}: sent before the signal, but not processed"


def test_connections_that_keep_coming_do_not_prolong_a_stop(serve, tmp_path, monkeypatch):
    """Each once gave the others more time: stops took seconds, and as long as they came often enough."""
    monkeypatch.setenv("RECORD", str(tmp_path / "record"))
    for _ in range(5):
        server = serve("load_app.py:record")

        code, signalled, clients = stop_under_load(server, 0.2, keeps_connection=lambda _: False)

        late = [item for client in clients for item, at in client.sent.items() if at > signalled + 2]
        assert (code, late) == (0, [])
