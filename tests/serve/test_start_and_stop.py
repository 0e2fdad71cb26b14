"""How the service starts and ends."""

from __future__ import annotations

import concurrent.futures
import signal
import socket
import time
from pathlib import Path

import pytest

APP = Path(__file__).parent / "app.py"


def wait_until_refused(server):
    """Wait until the service accepts no more connections: it has seen the signal."""
    for _ in range(1000):
        try:
            socket.create_connection(server.address).close()
        except ConnectionRefusedError:
            return
        time.sleep(0.01)
    raise AssertionError("it still accepts connections")


def test_a_balancer_sees_when_it_is_ready(serve):
    server = serve("same")

    assert [server.request("GET", path).status for path in ("/healthz", "/readyz")] == [200, 200]


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_calls_in_progress_end(serve, signal_number):
    server = serve("block")
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        call = pool.submit(server.call, 1)
        server.wait_for_line("begins 1")

        code = server.stop(signal_number)

        assert (code, call.result().json) == (0, 1)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(server.address)


def test_calls_that_outlast_the_grace_period_are_dropped(serve):
    server = serve("sleep", "--grace", "0.2")
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        call = pool.submit(server.call, 60)
        server.wait_for_line("begins 60")

        assert server.stop() == 0
        assert call.exception() is not None
    server.wait_for_line("requests in progress were dropped")


def test_a_second_signal_ends_at_once(serve):
    server = serve("sleep")
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        call = pool.submit(server.call, 60)
        server.wait_for_line("begins 60")
        server.process.send_signal(signal.SIGTERM)
        wait_until_refused(server)

        assert server.stop() == 143
        assert call.exception() is not None


def test_what_cannot_be_served_is_one_clear_line(refused):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        in_use = refused(f"{APP}:same", "--port", str(port))
    source = refused(f"{APP}:source", "--port", "0")
    broken = refused(f"{APP}:refuses", "--port", "0")
    missing = refused(f"{APP}:nothing", "--port", "0")

    assert in_use[0] == 1
    assert (
        f"cannot listen on 127.0.0.1:{port}: Address already in use; another program listens there"
        in in_use[1]
    )
    assert source[0] == 1
    assert "starts with a source, and takes no items; use 'run'" in source[1]
    assert broken[0] == 1
    assert "no model" in broken[1]
    assert missing[0] == 2


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--host", "0.0.0.0"], "lets other machines use the pipeline; add --token-file FILE"),
        (["--token-file", "/nowhere"], "cannot read --token-file '/nowhere': No such file"),
        (["--grace", "-1"], "it must be a number of seconds"),
        (["--max-in-flight", "0"], "it must be a whole number from 1"),
        (["--hosst", "x"], "'--host'"),
    ],
)
def test_wrong_use_is_refused_before_a_node_starts(refused, words, text):
    code, stderr = refused(f"{APP}:refuses", *words)

    assert code == 2
    assert text in stderr
    assert "no model" not in stderr
