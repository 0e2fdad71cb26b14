"""Ctrl-C and SIGTERM end a run of any kind in time, and a second one ends it at once."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

HOST = Path(os.environ.get("REMOTEMEDIA_HOST", Path(__file__).parents[2] / "target/debug/remotemedia-host"))

APP = """
import asyncio, itertools, sys, threading, time
from pathlib import Path

from remotemedia import Pipeline, execute_pipeline, with_options

def report(word):
    print(word, file=sys.stderr, flush=True)

class Ticks:
    pause_secs = 0.0005

    def process(self):
        for number in itertools.count():
            time.sleep(self.pause_secs)
            yield number

class AsyncTicks:
    async def process(self):
        for number in itertools.count():
            await asyncio.sleep(0)
            yield number

class Same:
    def process(self, item):
        return item

class Begins(Same):
    count = 0

    def process(self, item):
        self.count += 1
        if self.count == 5:
            report("begun")
        return item

    def cleanup(self):
        report("cleaned up")

class Nothing(Begins):
    def process(self, item):
        super().process(item)

class AsyncBegins(Begins):
    async def process(self, item):
        await asyncio.sleep(0)
        return super().process(item)

class Stuck:
    def process(self, item):
        report("begun")
        threading.Event().wait()

threaded = lambda node: with_options(node, placement="thread")
pipelines = {
    "fast": [Ticks(), threaded(Begins())],
    "without outputs": [Ticks(), threaded(Nothing())],
    "in line": [Ticks(), Nothing()],
    "async": [AsyncTicks(), threaded(AsyncBegins())],
    "a worker": [Ticks(), Begins(), with_options(Same(), placement="process")],
    "stuck": [Ticks(), threaded(Stuck())],
    "input": [Begins()],
    "input on a thread": [threaded(Nothing())],
}
for name, nodes in pipelines.items():
    globals()[name.replace(" ", "_")] = Pipeline(nodes)

async def async_session(name):
    async with Pipeline(pipelines[name]).open() as opened:
        async for _ in opened:
            pass

def session(name):
    with Pipeline(pipelines[name]).open() as opened:
        for _ in opened:
            pass

if __name__ == "__main__":
    how, name = sys.argv[1:]
    if how == "session":
        session(name)
    elif how == "async session":
        asyncio.run(async_session(name))
    else:
        asyncio.run(execute_pipeline(Pipeline(pipelines[name])))
"""

KINDS = ["fast", "without outputs", "in line", "async", "a worker"]
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}


@pytest.fixture
def app(tmp_path):
    (tmp_path / "app.py").write_text(APP, encoding="utf-8")
    return tmp_path


def command(program):
    return [str(HOST)] if program == "host" else [sys.executable, "-m", "remotemedia"]


def begin(words, place, stdin=subprocess.DEVNULL):
    """Start a program, and wait until its node has begun."""
    process = subprocess.Popen(
        words, cwd=place, stdin=stdin, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    for line in process.stderr:
        if "begun" in line:
            return process
    raise AssertionError(process.wait())


def end(process, order, times=1):
    """Send a signal; return the exit code, the rest of stderr, and the seconds until the end."""
    started = time.monotonic()
    for _ in range(times):
        process.send_signal(order)
        time.sleep(0.2 if times > 1 else 0)
    try:
        _, stderr = process.communicate(timeout=9)
    finally:
        process.kill()
        process.wait()
    return process.returncode, stderr, time.monotonic() - started


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("program", "order"), [("wheel", signal.SIGINT), ("host", signal.SIGTERM)])
def test_a_run_of_a_source_ends(app, kind, program, order):
    process = begin([*command(program), "run", f"app.py:{kind.replace(' ', '_')}", "-o", "out.jsonl"], app)

    code, stderr, took = end(process, order)

    assert (code, took < 4) == (CODES[order], True)
    assert "cleaned up" in stderr
    assert "never awaited" not in stderr


@pytest.mark.parametrize("kind", ["input", "input on a thread"])
def test_a_run_with_endless_input_ends(app, kind):
    with subprocess.Popen(["yes"], stdout=subprocess.PIPE) as source:
        words = [*command("host"), "run", f"app.py:{kind.replace(' ', '_')}", "-i", "-", "-o", "out.jsonl"]

        code, stderr, took = end(begin(words, app, stdin=source.stdout), signal.SIGINT)

        source.kill()
    assert (code, took < 4) == (130, True)
    assert "cleaned up" in stderr


@pytest.mark.parametrize("how", ["session", "asyncio"])
def test_a_program_with_a_source_ends(app, how):
    code, stderr, took = end(begin([sys.executable, "app.py", how, "fast"], app), signal.SIGINT)

    assert (code, took < 4) == (-signal.SIGINT, True)
    assert "cleaned up" in stderr


@pytest.mark.parametrize("program", ["wheel", "host"])
def test_a_second_order_ends_a_run_beside_a_stuck_node(app, program):
    """It took 10 s."""
    process = begin([*command(program), "run", "app.py:stuck", "-o", "out.jsonl"], app)

    code, _, took = end(process, signal.SIGINT, times=2)

    assert (code, took < 4) == (130, True)


@pytest.mark.parametrize("how", ["session", "async session", "asyncio"])
def test_a_second_order_ends_a_program_beside_a_stuck_node(app, how):
    """It took 10 s."""
    code, stderr, took = end(begin([sys.executable, "app.py", how, "stuck"], app), signal.SIGINT, times=2)

    assert (code, took < 4) == (-signal.SIGINT, True)
    assert all(float(secs) <= took for secs in re.findall(r"(?:within|after) ([\d.]+) s", stderr)), stderr


@pytest.mark.long
@pytest.mark.timeout(900)
def test_eighty_orders_at_random_times_are_noticed(app):
    seed = random.SystemRandom().randrange(1 << 30)
    print("seed", seed)  # noqa: T201 - To repeat what failed.
    choose = random.Random(seed)
    for _ in range(80):
        program, kind = choose.choice(["wheel", "host"]), choose.choice(KINDS)
        order, pause_secs = choose.choice([*CODES]), choose.random()
        what = json.dumps([program, kind, order, pause_secs])
        process = begin(
            [*command(program), "run", f"app.py:{kind.replace(' ', '_')}", "-o", "out.jsonl"], app
        )
        time.sleep(pause_secs)

        code, stderr, took = end(process, order)

        assert (code, took < 4, "never awaited" in stderr) == (CODES[order], True, False), (what, stderr)
