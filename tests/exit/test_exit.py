"""Programs that end with open sessions: no hang, no crash, no message, and the nodes are cleaned up."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap

import pytest

PROLOGUE = """
import asyncio, gc, itertools, os, signal, sys, threading, time
from remotemedia import Pipeline, with_options

class Passes:
    def process(self, item):
        return item

    def cleanup(self):
        print("cleanup", flush=True)

class AsyncPasses(Passes):
    async def process(self, item):
        await asyncio.sleep(0)
        return item

class Waits(Passes):
    async def process(self, item):
        is_there.set()
        try:
            await asyncio.Event().wait()
        finally:
            print("cancelled", flush=True)

class Endless(Passes):
    def process(self, item):
        try:
            for number in itertools.count():
                is_there.set()
                yield number
        finally:
            print("closed", flush=True)

class Source(Passes):
    def process(self):
        try:
            for number in itertools.count():
                is_there.set()
                yield number
        finally:
            print("closed", flush=True)

class Hangs(Passes):
    def process(self, item):
        is_there.set()
        threading.Event().wait()

is_there = threading.Event()
threaded = dict(placement="thread")
"""

IDLE = """
session = Pipeline([Passes()]).open().__enter__()
session.call(1)
"""
IDLE_THREAD = """
session = Pipeline([Passes()]).open(**threaded).__enter__()
session.call(1)
"""
IDLE_COROUTINE = """
session = Pipeline([AsyncPasses()]).open().__enter__()
session.call(1)
"""
COROUTINE = """
session = Pipeline([Waits()]).open().__enter__()
session.put(1)
is_there.wait()
"""
CONCURRENT = """
session = Pipeline([with_options(Waits(), concurrency=4)]).open().__enter__()
session.put(1)
is_there.wait()
"""
GENERATOR = """
session = Pipeline([Endless(), with_options(Passes(), **threaded)]).open(**threaded).__enter__()
session.put(1)
is_there.wait()
"""
SOURCE = """
session = Pipeline([Source()]).open().__enter__()
next(iter(session))
"""
STREAM = """
session = Pipeline([Passes()]).open(**threaded).__enter__()
outputs = session.map(itertools.count())
next(outputs)
"""
# The errors that other threads raise while the program exits are not tested here.
QUIET = "threading.excepthook = lambda error: None"
PRODUCER = (
    QUIET
    + """
session = Pipeline([Waits()]).open(queue_size=1).__enter__()
threading.Thread(target=lambda: [session.put(number) for number in range(9)], daemon=True).start()
is_there.wait()
"""
)
WORKER = """
session = Pipeline([Passes()]).open().__enter__()
def call_for_ever():
    while True:
        session.call(1)
        is_there.set()
threading.Thread(target=call_for_ever, daemon=True).start()
is_there.wait()
"""
STATES = {
    "idle": (IDLE, ["cleanup"]),
    "idle on a thread": (IDLE_THREAD, ["cleanup"]),
    "idle with a loop": (IDLE_COROUTINE, ["cleanup"]),
    "in a coroutine": (COROUTINE, ["cancelled", "cleanup"]),
    "in concurrent coroutines": (CONCURRENT, ["cancelled", "cleanup"]),
    "in a generator": (GENERATOR, ["closed", "cleanup", "cleanup"]),
    "with a source": (SOURCE, ["closed", "cleanup"]),
    "in a stream": (STREAM, ["cleanup"]),
    "while a producer waits": (PRODUCER, ["cancelled", "cleanup"]),
}


def run(code, *, code_expected=0, timeout=30):
    """Run a program, which must end by itself, and return what it prints."""
    program = textwrap.dedent(PROLOGUE) + textwrap.dedent(code)
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-X", "faulthandler", "-c", program],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert ended.returncode == code_expected, ended.stderr
    return ended.stdout.splitlines(), ended.stderr


@pytest.mark.parametrize("state", STATES)
def test_the_interpreter_ends(state):
    code, expected = STATES[state]

    assert run(code) == (expected, "")


def test_the_interpreter_ends_while_another_thread_calls():
    assert run(QUIET + WORKER) == (["cleanup"], "")


@pytest.mark.parametrize("state", STATES)
def test_an_exception_ends_the_program(state):
    code, expected = STATES[state]

    printed, errors = run(code + "\nraise KeyError('mine')", code_expected=1)

    assert printed == expected
    assert errors.splitlines()[-1] == "KeyError: 'mine'"
    assert errors.count("Traceback") == 1


def test_a_node_that_hangs_is_named_and_abandoned():
    code = """
    from remotemedia import sessions
    sessions.CLOSE_TIMEOUT_SECS = 0.2
    session = Pipeline([Hangs()]).open(**threaded).__enter__()
    session.put(1)
    is_there.wait()
    """

    printed, errors = run(code)

    assert printed == []
    assert "Node 'Hangs_0' did not finish item 0 within 0.2 s and was abandoned" in errors


@pytest.mark.parametrize("how", ["idle", "under way", "stream"])
def test_asyncio_run_ends_with_a_session_open(how):
    code = f"""
    async def main():
        node = AsyncPasses() if {how == "idle"} else with_options(Waits(), concurrency=2)
        opening = Pipeline([node, Passes()]).open()
        global session
        session = await opening.__aenter__()
        if {how == "idle"}:
            await session.call(1)
        elif {how == "under way"}:
            task = asyncio.create_task(session.call(1))
            await asyncio.to_thread(is_there.wait)
        else:
            global outputs
            outputs = session.map([1, 2])
            task = asyncio.ensure_future(anext(outputs))
            await asyncio.to_thread(is_there.wait)

    asyncio.run(main())
    """

    printed, errors = run(code)

    assert printed[-2:] == ["cleanup", "cleanup"]
    assert ("cancelled" in printed) == (how != "idle")
    assert errors == ""


@pytest.mark.parametrize("options", ["queue_size=8", "concurrency=4"])
def test_an_event_loop_closed_with_work_in_flight_does_not_hang_its_session(options):
    code = f"""
    class Stays(Passes):
        async def process(self, item):
            is_there.set()
            await asyncio.Event().wait()

    loop = asyncio.new_event_loop()
    opening = Pipeline([with_options(Stays(), {options}), Passes()]).open(placement="thread")
    session = loop.run_until_complete(opening.__aenter__())
    session.start_call(1, lambda result, error: None)
    loop.run_until_complete(asyncio.to_thread(is_there.wait))
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    started = time.monotonic()
    session.close_now(5)
    print(time.monotonic() - started < 2)
    """

    printed, errors = run(code)

    assert printed == ["cleanup", "cleanup", "True"]
    assert errors == ""


def test_an_event_loop_closed_under_a_session_does_not_hang_it():
    code = """
    loop = asyncio.new_event_loop()
    opening = Pipeline([with_options(AsyncPasses(), queue_size=8), Passes()]).open(**threaded)
    session = loop.run_until_complete(opening.__aenter__())
    print(loop.run_until_complete(session.call(1)))
    loop.close()
    try:
        session.close_now(5)
    except Exception as error:
        print(type(error).__name__)
    """

    printed, errors = run(code)

    assert printed == ["1", "cleanup", "cleanup"]
    assert errors == ""


@pytest.mark.parametrize("options", ["", "placement='thread'"])
@pytest.mark.parametrize("placed", ["Stays()", "with_options(Stays(), **threaded), Passes()"])
def test_an_event_loop_closed_under_its_session_cleans_the_nodes_up(options, placed):
    code = f"""
    import gc

    class Stays(Passes):
        def process(self, item):
            is_there.set()
            time.sleep(0.3)

    loop = asyncio.new_event_loop()
    opening = Pipeline([AsyncPasses(), {placed}]).open({options})
    session = loop.run_until_complete(opening.__aenter__())
    outputs = session.map([1])
    waiting = loop.create_task(anext(outputs))
    loop.run_until_complete(asyncio.to_thread(is_there.wait))
    loop.run_until_complete(loop.shutdown_default_executor())
    waiting.cancel()
    loop.run_until_complete(asyncio.wait([waiting]))
    loop.close()
    del session, outputs, waiting, opening
    gc.collect()
    print("collected")
    """

    printed, errors = run(code)

    assert printed == ["cleanup"] * (3 if "with_options" in placed else 2) + ["collected"]
    assert errors == ""


@pytest.mark.parametrize(("order", "code"), [(signal.SIGINT, -2), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_signal_ends_a_program_in_order(order, code, kind):
    program = f"""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))

    def stop():
        is_there.wait()
        signal.pthread_kill(threading.main_thread().ident, {int(order)})

    threading.Thread(target=stop).start()

    def work():
        with Pipeline([Waits()]).open() as session:
            session.call(1)

    async def async_work():
        # Python may miss a signal that arrives just before the event loop waits, until it wakes.
        ticker = asyncio.create_task(tick())
        async with Pipeline([Waits()]).open() as session:
            await session.call(1)

    async def tick():
        while True:
            await asyncio.sleep(0.02)

    work() if {kind == "sync"} else asyncio.run(async_work())
    """

    printed, errors = run(program, code_expected=code)

    assert printed == ["cancelled", "cleanup"]
    assert errors.count("Traceback") <= 2
    assert "never" not in errors


def test_a_fork_after_a_session_can_open_its_own():
    code = """
    import warnings

    def use():
        with Pipeline([AsyncPasses()]).open(**threaded) as session:
            return list(session.map(range(3)))

    use()
    sys.stdout.flush()
    # From Python 3.12 on, a fork beside threads warns.
    warnings.simplefilter("ignore", DeprecationWarning)
    if (child := os.fork()) == 0:
        print(use(), flush=True)
        os._exit(0)
    os.waitpid(child, 0)
    """

    printed, errors = run(code)

    assert "[0, 1, 2]" in printed
    assert errors == ""
