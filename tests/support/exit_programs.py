"""Programs that end while sessions are open and threads run: scripts and applications of the commands."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

PROLOGUE = """
import asyncio, atexit, itertools, json, os, sys, threading, time
from remotemedia import Pipeline, execute_pipeline, execute_pipeline_with_input, with_options
from remotemedia.exceptions import RemoteMediaError

kind, placement, after_secs, ending = json.loads(os.environ["WORDS"])

class Plain:
    def process(self, item):
        for _ in range(500):
            pass
        return item

class Async:
    async def process(self, item):
        await asyncio.sleep(0.001)
        return item

class Streams:
    def process(self, item):
        for part in range(3):
            time.sleep(0.0005)
            yield item

class AsyncStreams:
    async def process(self, item):
        for part in range(3):
            await asyncio.sleep(0.0005)
            yield item

class Ticks:
    def process(self):
        for number in itertools.count():
            time.sleep(0.0005)
            yield number

node = {"plain": Plain, "async": Async, "streams": Streams, "async streams": AsyncStreams}.get(kind, Plain)
first = [Ticks()] if kind == "source" else []
started = threading.Event()

def pipeline():
    return Pipeline([*first, node()])

def use(session):
    started.set()
    if first:
        next(iter(session))
    else:
        session.call(1)
        list(session.map(range(3)))

def work():
    try:
        while True:
            with pipeline().open(placement=placement) as session:
                use(session)
    except (RemoteMediaError, asyncio.CancelledError):
        pass

async def async_work():
    async with pipeline().open(placement=placement) as session:
        started.set()
        async for _ in session if first else session.map(itertools.count()):
            pass

def loop_work():
    try:
        asyncio.run(async_work())
    except (RemoteMediaError, asyncio.CancelledError, RuntimeError):
        pass
"""

WAYS = {
    "daemons open and close": "for _ in range(3): threading.Thread(target=work, daemon=True).start()",
    "daemon loops": "for _ in range(2): threading.Thread(target=loop_work, daemon=True).start()",
    "a run in a daemon loop": """
def run():
    async def runs():
        while True:
            started.set()
            await execute_pipeline_with_input([with_options(node(), placement=placement)], range(20))
    try:
        asyncio.run(runs())
    except (RemoteMediaError, asyncio.CancelledError):
        pass
threading.Thread(target=run, daemon=True).start()
""",
    "a loop that stopped": """
loop = asyncio.new_event_loop()
async def begin():
    global session, outputs
    session = await pipeline().open(placement=placement).__aenter__()
    outputs = aiter(session) if first else session.map(itertools.count())
    await anext(outputs)
    started.set()
loop.run_until_complete(begin())
""",
    "a session left open": """
session = pipeline().open(placement=placement).__enter__()
outputs = iter(session) if first else session.map(itertools.count())
next(outputs)
started.set()
""",
    "a session that a handler closes": """
session = pipeline().open(placement=placement).__enter__()
atexit.register(session.close)
outputs = iter(session) if first else session.map(itertools.count())
next(outputs)
started.set()
""",
}

END = """
started.wait()
time.sleep(after_secs)
if ending == "exit":
    sys.exit(7)
if ending == "error":
    raise KeyError("mine")
"""

KINDS = ["plain", "async", "streams", "async streams", "source"]
PLACEMENTS = ["inline", "thread", "process"]
CODES = {"end": 0, "exit": 7, "error": 1}


def leave(way, kind, placement, after_secs=0.02, ending="end"):
    """Run a program of this kind to its end, as `run` does."""
    return run(WAYS[way], kind, placement, after_secs, ending)


def run(code, kind="plain", placement="thread", after_secs=0.0, ending="end"):
    """Run a program to its end, and return its stderr without the traceback of its own error."""
    words = [kind, placement, after_secs, ending]
    ended = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", PROLOGUE + code + END],
        env=environment(words),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.returncode == CODES[ending], (words, ended.stderr)
    return ended.stderr if ending != "error" else ended.stderr.partition("Traceback")[0]


def environment(words):
    """Return the environment of a program that receives these words."""
    return {**os.environ, "PYTHONFAULTHANDLER": "1", "WORDS": json.dumps(words)}


# What a command runs: its pipeline, or the loading of it, takes a while and then ends as `ending` says.
APP_END = """
def run_to_the_end():
    print("begun", flush=True)
    end = time.monotonic() + (30 if "SIG" in ending else after_secs)
    while time.monotonic() < end:
        time.sleep(0.0005)
        yield 1
    if "exit" in ending:
        sys.exit(7)
    if "error" in ending:
        raise KeyError("mine")

class Ends:
    def process(self):
        yield from [1] if "loading" in ending else run_to_the_end()

started.wait()
if "loading" in ending:
    list(run_to_the_end())
target = [Ends(), with_options(node(), placement=placement)]
"""
COMMANDS = {
    "host": [
        os.environ.get("REMOTEMEDIA_HOST", str(Path(__file__).parents[2] / "target/debug/remotemedia-host"))
    ],
    "wheel": [sys.executable, "-m", "remotemedia"],
}
COMMAND_CODES = {**CODES, "SIGINT": 130, "SIGTERM": 143}
ACTIVITIES = ["the run", "loading"]
PREFIX = r"^remotemedia(?:-host)?: "
LAST_MESSAGE = {
    "end": "^$",
    "exit": PREFIX + "your code exited with code 7 .*\n",
    "error": r"^Traceback .*\n(?:  .*\n)*KeyError: 'mine'\n"
    + PREFIX.lstrip("^")
    + r".*KeyError: 'mine' .*\n\(use --traceback .*\n",
    "SIGINT": PREFIX + r"interrupted.*\n",
    "SIGTERM": PREFIX + r"terminated by SIGTERM.*\n",
}


def command(program, way, words, place):
    """Run a command on an application of this kind; return its stderr without the expected last message."""
    kind, placement, after_secs, ending, activity = words
    # A worker imports the module of its node, so that must not start anything.
    (place / "parts.py").write_text(PROLOGUE, encoding="utf-8")
    (place / "app.py").write_text("from parts import *\n" + WAYS[way] + APP_END, encoding="utf-8")
    process = subprocess.Popen(
        [*COMMANDS[program], "run", "app.py:target"],
        cwd=place,
        env=environment([kind, placement, after_secs, f"{ending} while {activity}"]),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        stderr = process.stderr.readline()
        if ending.startswith("SIG"):
            time.sleep(after_secs)
            process.send_signal(signal.Signals[ending])
        stderr += process.communicate(timeout=30)[1]
    finally:
        process.kill()
        process.wait()
    assert process.returncode == COMMAND_CODES[ending], (process.returncode, stderr)
    return re.sub(LAST_MESSAGE[ending], "", stderr.removeprefix("begun\n"), count=1, flags=re.MULTILINE)
