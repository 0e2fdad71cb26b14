"""Programs that end while their threads are at work: right exit code, nothing on stderr, nodes cleaned up."""

from __future__ import annotations

import random
import subprocess
import sys
import time

import pytest

PROLOGUE = """
import asyncio, atexit, itertools, sys, threading, time
from remotemedia import Pipeline, execute_pipeline, execute_pipeline_with_input, with_options
from remotemedia.exceptions import RemoteMediaError

kind, placement, after_secs, ending = sys.argv[1], sys.argv[2], float(sys.argv[3]), sys.argv[4]

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
    return run(WAYS[way], kind, placement, after_secs, ending)


def run(code, kind="plain", placement="thread", after_secs=0.0, ending="end"):
    """Run a program to its end; what it wrote to stderr, without the traceback of its own error."""
    program = PROLOGUE + code + END
    words = [kind, placement, str(after_secs), ending]
    ended = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", program, *words],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.returncode == CODES[ending], (words, ended.stderr)
    return ended.stderr if ending != "error" else ended.stderr.partition("Traceback")[0]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("kind", "placement"), [("plain", "thread"), ("async streams", "inline")])
def test_the_program_ends_in_order(way, kind, placement):
    assert leave(way, kind, placement) == ""


CLEANUPS = {
    "async": "async def cleanup(self): await asyncio.sleep(0); print('cleanup', file=sys.stderr)",
    "plain": "def cleanup(self): print('cleanup', file=sys.stderr)",
}


@pytest.mark.parametrize("cleanup", CLEANUPS)
@pytest.mark.parametrize("placement", PLACEMENTS)
def test_nodes_are_cleaned_up_whose_loop_has_stopped(cleanup, placement):
    """The threads waited 10 s for the loop, and then went down with the interpreter."""
    node = f"class Cleans(AsyncStreams):\n    {CLEANUPS[cleanup]}\nnode = Cleans\n"

    told = run(node + WAYS["a loop that stopped"], placement=placement).splitlines()

    # An object that is sent to a worker is cleaned up here, before it is sent, too.
    assert told[-1:] == ["[Cleans_0] cleanup" if placement == "process" else "cleanup"]


def test_a_run_whose_loop_has_stopped_is_cleaned_up():
    code = """
class Cleans(Async):
    def initialize(self):
        started.set()

    def cleanup(self):
        print("cleanup", file=sys.stderr)

async def begin():
    global task
    task = asyncio.ensure_future(execute_pipeline_with_input([Cleans()], itertools.count()))
    await asyncio.to_thread(started.wait)

loop = asyncio.new_event_loop()
loop.run_until_complete(begin())
"""

    assert "cleanup" in run(code)


BUSY = """
from remotemedia import sessions
sessions.CLOSE_TIMEOUT_SECS = 0.1

class Busy:
    def process(self, item):
        started.set()
        while True:
            sum(range(10))

session = Pipeline([Busy()]).open(placement=placement).__enter__()
if placement == "thread":
    session.put(1)
else:
    threading.Thread(target=session.call, args=(1,), daemon=True).start()
"""


@pytest.mark.parametrize("placement", ["inline", "thread"])
def test_a_node_that_is_left_behind_at_work_aborts_nothing(placement):
    """Python ended its thread by unwinding the stack, on which there is Rust."""
    assert "was left behind" in run(BUSY, placement=placement)


AT_EXIT = {
    "open": "Pipeline([Plain()]).open(placement=placement).__enter__()",
    "async open": "asyncio.run(async_work())",
    "run": "asyncio.run(execute_pipeline([Plain()]))",
}


@pytest.mark.parametrize("what", AT_EXIT)
def test_nothing_begins_after_the_end(what):
    """A handler that was registered before the first session runs after all have been closed."""
    program = f"""
def late():
    try:
        {AT_EXIT[what]}
    except RemoteMediaError as error:
        print(type(error).__name__, "ending" in str(error), file=sys.stderr)

started.set()
atexit.register(late)
work_once = Pipeline([Plain()]).open().__enter__()
asyncio.run(execute_pipeline([Plain()]))
"""
    WAYS["late"] = program

    try:
        assert leave("late", "plain", "thread", ending="end") == "PipelineError True\n"
    finally:
        del WAYS["late"]


def leave_at_random(seed):
    choose = random.Random(seed)
    way, kind, placement = choose.choice([*WAYS]), choose.choice(KINDS), choose.choice(PLACEMENTS)
    after_secs, ending = choose.random() ** 2 * 0.2, choose.choice([*CODES])
    started = time.monotonic()
    told = leave(way, kind, placement, after_secs, ending)
    took = time.monotonic() - started
    assert (told, took < 6) == ("", True), (seed, way, kind, placement, after_secs, ending, took)


def test_programs_end_in_order_at_random_moments():
    first = random.SystemRandom().randrange(1 << 30)
    print("seeds from", first)  # noqa: T201 - To repeat what failed.
    for seed in range(first, first + 8):
        leave_at_random(seed)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_five_hundred_programs_end_in_order_at_random_moments():
    first = random.SystemRandom().randrange(1 << 30)
    print("seeds from", first)  # noqa: T201 - As above.
    for seed in range(first, first + 500):
        leave_at_random(seed)
