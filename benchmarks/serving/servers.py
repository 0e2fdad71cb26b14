"""Starts the servers that are compared, and the load generator."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.harness.measuring import NotMeasuredError
from benchmarks.programs.long_inputs import host_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    StartServer = Callable[[], AbstractContextManager["Server"]]

__all__ = ["Server", "fastapi", "hyper_echo", "load", "loading", "serve"]

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "target/release/examples"
NODES = Path(__file__).with_name("nodes.py")
TIMEOUT_SECS = 30
POLL_INTERVAL_SECS = 0.01


@dataclass(frozen=True)
class Server:
    """A process that serves on this machine."""

    address: str
    process_id: int

    def resident_kib(self) -> int:
        """Return its resident memory."""
        status = Path(f"/proc/{self.process_id}/status").read_text(encoding="utf-8")
        (line,) = (line for line in status.splitlines() if line.startswith("VmRSS:"))
        return int(line.split()[1])


@contextmanager
def serve() -> Iterator[Server]:
    """Serve the node with the release host."""
    command = [str(host_path()), "serve", f"{NODES}:pipeline", "--port", "0"]
    with _started(command) as server:
        yield server


@contextmanager
def fastapi() -> Iterator[Server]:
    """Serve the node with FastAPI on uvicorn, with its fastest event loop and parser."""
    command = [sys.executable, "-m", "uvicorn", "benchmarks.serving.by_hand:app", "--port", "0"]
    command += ["--loop", "uvloop", "--http", "httptools", "--no-access-log"]
    with _started(command) as server:
        yield server


@contextmanager
def hyper_echo() -> Iterator[Server]:
    """Return each body as it is, with hyper alone."""
    with _started([str(_example("hyper_echo"))]) as server:
        yield server


def load(kind: str, server: Server, **options: float | str) -> dict[str, Any]:
    """Put load on a server, and return what came of it.

    Raises:
        NotMeasuredError: If the server refuses it.
    """
    with loading(kind, server, **options) as program:
        output, errors = program.communicate()
    if program.returncode != 0:
        raise NotMeasuredError(f"load {kind}: {errors.strip()}")
    result: dict[str, Any] = json.loads(output)
    return result


@contextmanager
def loading(kind: str, server: Server, **options: float | str) -> Iterator[subprocess.Popen[str]]:
    """Put load on a server meanwhile."""
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    command = [str(_example("load")), kind, "--address", server.address, *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as program:
        try:
            yield program
        finally:
            program.kill()


def _example(name: str) -> Path:
    program = Path(os.environ.get("REMOTEMEDIA_EXAMPLES", EXAMPLES)) / name
    if not program.exists():
        raise NotMeasuredError(f"there is no {name}; build it with `make bench`, or set REMOTEMEDIA_EXAMPLES")
    return program


@contextmanager
def _started(command: list[str]) -> Iterator[Server]:
    """Start a server, wait until it prints its address, and end it at last."""
    environment = {**os.environ, "VIRTUAL_ENV": sys.prefix, "PYTHONUNBUFFERED": "1"}
    with (
        tempfile.TemporaryFile("w+") as output,
        subprocess.Popen(command, stdout=output, stderr=output, cwd=ROOT, env=environment) as process,
    ):
        try:
            written = Path(f"/proc/self/fd/{output.fileno()}")
            yield Server(_printed_address(process, written), process.pid)
        finally:
            process.terminate()


def _printed_address(process: subprocess.Popen[bytes], output: Path) -> str:
    until = time.monotonic() + TIMEOUT_SECS
    while time.monotonic() < until:
        printed = output.read_text(encoding="utf-8")
        if found := re.search(r"http://([\d.]+:\d+)", printed):
            return found[1]
        if process.poll() is not None:
            raise NotMeasuredError(f"a server did not start: {printed.strip()}")
        time.sleep(POLL_INTERVAL_SECS)
    raise NotMeasuredError("a server did not start in time")
