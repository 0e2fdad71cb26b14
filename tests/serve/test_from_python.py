"""`remotemedia.serve`, `serving` and `serve_forever`."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from http.client import RemoteDisconnected
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

import remotemedia
from remotemedia import with_options
from remotemedia._serving import words_of
from remotemedia.exceptions import NodeError, PipelineError

TIMEOUT_SECS = 30
GONE = (ConnectionError, RemoteDisconnected)


class Add:
    def process(self, item):
        return item + 1


class Where:
    """Returns whether it runs on the loop that serves, and records its life."""

    def __init__(self):
        self.calls = []

    async def initialize(self):
        self.calls.append("initialize")

    async def process(self, item):
        return id(asyncio.get_running_loop())

    async def cleanup(self):
        self.calls.append("cleanup")


class Sleep:
    def __init__(self):
        self.begun = threading.Event()
        self.is_clean = False

    async def process(self, item):
        self.begun.set()
        await asyncio.sleep(item)
        return item

    def cleanup(self):
        self.is_clean = True


class Fails:
    def __init__(self, phase):
        setattr(self, phase, self.fail)

    def fail(self):
        raise ValueError("broken")

    def process(self, item):
        return item


def call(url, item):
    request = Request(f"{url}/call", json.dumps(item).encode(), {"Content-Type": "application/json"})
    with urlopen(request, timeout=TIMEOUT_SECS) as response:
        return json.load(response)


def is_refused(url):
    host, _, port = url.removeprefix("http://").partition(":")
    try:
        socket.create_connection((host, int(port))).close()
    except ConnectionRefusedError:
        return True
    return False


def wait_until_refused(url):
    until = time.monotonic() + TIMEOUT_SECS
    while not is_refused(url):
        assert time.monotonic() < until
        time.sleep(0.01)


def call_in_vain(url, item):
    with pytest.raises(GONE):
        call(url, item)


async def call_beside(url, item):
    return await asyncio.to_thread(call, url, item)


def test_a_block_serves_beside_plain_python():
    with remotemedia.serving([Add()], port=0) as server:
        assert [call(server.url, item) for item in (1, 2)] == [2, 3]
        url = server.url

    assert is_refused(url)


def test_async_nodes_run_on_the_loop_of_the_block():
    node = Where()

    async def main():
        async with remotemedia.serving([node], port=0) as server:
            assert node.calls == ["initialize"]
            assert await call_beside(server.url, 1) == id(asyncio.get_running_loop())

    asyncio.run(main())

    assert node.calls == ["initialize", "cleanup"]


async def until_ready(port):
    while True:
        try:
            return await call_beside(f"http://127.0.0.1:{port}", 0)
        except OSError:
            await asyncio.sleep(0.01)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def test_a_cancellation_lets_calls_in_progress_end():
    node, port = Sleep(), free_port()

    async def main():
        serving = asyncio.create_task(remotemedia.serve([node], port=port))
        await until_ready(port)
        node.begun.clear()
        slow = asyncio.create_task(call_beside(f"http://127.0.0.1:{port}", 0.5))
        await asyncio.to_thread(node.begun.wait)

        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving

        assert await slow == 0.5
        assert node.is_clean

    asyncio.run(main())


def test_a_second_cancellation_ends_at_once():
    node, port = Sleep(), free_port()

    async def main():
        serving = asyncio.create_task(remotemedia.serve([node], port=port))
        await until_ready(port)
        node.begun.clear()
        slow = asyncio.create_task(call_beside(f"http://127.0.0.1:{port}", 600))
        await asyncio.to_thread(node.begun.wait)

        serving.cancel()
        await asyncio.to_thread(wait_until_refused, f"http://127.0.0.1:{port}")
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving
        with pytest.raises(GONE):
            await slow

    asyncio.run(main())


def test_stop_ends_a_service_from_any_thread():
    async def main():
        async with remotemedia.serving([Add()], port=0) as server:
            await asyncio.to_thread(server.stop)
            await server.wait()
            assert is_refused(server.url)

    asyncio.run(main())


def test_the_loop_goes_on_while_nodes_are_initialized_and_a_cancellation_ends_that():
    class Slow(Add):
        async def initialize(self):
            begun.set()
            await asyncio.sleep(600)

    async def main():
        serving = asyncio.create_task(remotemedia.serve([Slow()], port=0))
        await begun.wait()
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving

    begun = asyncio.Event()
    asyncio.run(main())


@pytest.mark.parametrize("phase", ["initialize", "cleanup"])
def test_the_error_of_a_node_is_raised_as_it_is(phase):
    with (
        pytest.raises(NodeError, match="broken") as caught,
        remotemedia.serving([Fails(phase)], port=0) as server,
    ):
        assert call(server.url, 1) == 1

    assert (caught.value.phase, type(caught.value.__cause__)) == (phase, ValueError)


def test_an_address_in_use_is_one_clear_line():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PipelineError) as caught, remotemedia.serving([Fails("initialize")], port=port):
            pass

    assert str(caught.value) == (
        f"Cannot listen on 127.0.0.1:{port}: Address already in use; another program listens there: "
        "choose another port, or 0 for any"
    )


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"prot": 1}, "serve() has no option 'prot'; did you mean 'port'?"),
        ({"port": 70_000}, "Invalid value '70000' for 'port': 70000 is not in 0..=65535"),
        ({"grace": -1}, "Invalid value '-1' for 'grace': it must be a number of seconds from 0 to 31536000"),
        ({"max_in_flight": 0}, "Invalid value '0' for 'max_in_flight': it must be a whole number from 1"),
        ({"host": "0.0.0.0"}, "add token_file, so that they need a token, or insecure=True"),
        ({"token_file": "/nowhere"}, "Cannot read token_file '/nowhere': No such file"),
    ],
)
def test_an_option_is_refused_by_its_name(options, text):
    with pytest.raises(PipelineError) as caught, remotemedia.serving([Fails("initialize")], **options):
        pass

    assert text in str(caught.value)


def test_the_options_are_those_of_the_command_line():
    command = [sys.executable, "-m", "remotemedia", "serve", "--help"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("Examples:")[0]

    words = set(re.findall(r"^ +(?:-\w, )?--([a-z-]+)", text, re.MULTILINE)) - {"help", "traceback"}
    assert {word.replace("-", "_") for word in words} == remotemedia.ServeOptions.__annotations__.keys()


def test_options_become_words_of_the_command_line():
    options = {
        "port": 0,
        "grace": 0.5,
        "insecure": True,
        "token_file": Path("a b"),
        "otlp": None,
        "tls_key": "-k",
    }
    words = ["--port=0", "--grace=0.5", "--insecure", "--token-file=a b", "--tls-key=-k"]

    assert words_of(options) == words_of({**options, "otlp": None}) == words
    assert words_of({"cors_origin": ["a", "b"]}) == ["--cors-origin=a", "--cors-origin=b"]


def test_a_block_logs_its_address_and_prints_nothing(caplog, capfd):
    caplog.set_level("INFO", "remotemedia")

    with remotemedia.serving([Add()], port=0) as server:
        pass

    assert f"serving 'pipeline' on {server.url}; Ctrl-C stops it" in caplog.messages
    assert capfd.readouterr() == ("", "")


def test_what_is_no_pipeline_is_refused_at_once():
    with pytest.raises(PipelineError, match="empty"):
        remotemedia.serving([])
    with pytest.raises(TypeError, match="put the node into a list"):
        remotemedia.serving(Add())


def test_a_token_is_needed_where_there_is_one(tmp_path):
    (tmp_path / "token").write_text("secret")

    with (
        remotemedia.serving([Add()], port=0, token_file=tmp_path / "token") as server,
        pytest.raises(OSError, match="401"),
    ):
        call(server.url, 1)


def test_serve_forever_needs_the_main_thread_and_no_loop():
    async def main():
        remotemedia.serve_forever([Add()])

    errors = []

    def on_a_thread():
        try:
            remotemedia.serve_forever([Add()])
        except PipelineError as error:
            errors.append(str(error))

    thread = threading.Thread(target=on_a_thread)
    thread.start()
    thread.join()
    assert errors == ["serve_forever() needs the main thread, which receives signals; use serving()"]
    with pytest.raises(PipelineError, match="would block the event loop"):
        asyncio.run(main())


PROGRAM = """
import remotemedia, sys
sys.path.insert(0, {directory!r})
from app import {name}
print("before")
remotemedia.serve_forever({name}, port=0)
print("after")
"""


@pytest.fixture
def program():
    """Return a function that starts a program, which serves a pipeline of `app.py`, and its URL."""
    processes = []

    def start(name):
        code = PROGRAM.format(directory=str(Path(__file__).parent), name=name)
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = subprocess.Popen([sys.executable, "-c", code], text=True, **pipes)
        processes.append(process)
        line = process.stderr.readline()
        found = re.fullmatch(r"serving 'pipeline' on (http://127\.0\.0\.1:\d+); Ctrl-C stops it\n", line)
        assert found, line
        return process, found[1]

    yield start
    for process in processes:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serve_forever_returns_after_a_signal(program, number):
    process, url = program("add")
    assert call(url, 1) == 2

    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=TIMEOUT_SECS)

    assert (process.returncode, stdout) == (0, "before\nafter\n")
    assert stderr == "stopping; requests in progress have 30 s to end\n"


def test_serve_forever_ends_at_once_after_a_second_signal(program):
    process, url = program("sleep")
    slow = threading.Thread(target=call_in_vain, args=(url, 600))
    slow.start()
    assert process.stderr.readline() == "begins 600\n"

    process.send_signal(signal.SIGTERM)
    wait_until_refused(url)
    process.send_signal(signal.SIGTERM)

    process.communicate(timeout=TIMEOUT_SECS)
    slow.join()
    assert process.returncode == 143


def test_a_program_that_ends_in_the_block_ends_the_service():
    code = """
import remotemedia
class Node:
    def process(self, item): return item
    def cleanup(self): print("clean")
server = remotemedia.serving([Node()], port=0)
server.__enter__()
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=TIMEOUT_SECS, check=False
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "clean\n", "")


def test_nodes_with_placements_are_served():
    with remotemedia.serving([with_options(Add(), placement="process"), Add()], port=0) as server:
        assert call(server.url, 1) == 3
