"""Event loops that are never idle let the other threads of the process have the interpreter."""

from __future__ import annotations

import asyncio
import itertools
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from remotemedia import Pipeline, with_options

TURNS = 200
WORST_TO_HAND = 4
"""Without care, a turn takes 10 to 100 times as long as beside a thread that works all the time."""


class Busy:
    def process(self, item):
        for _ in range(100):
            pass
        return item


class BusyLater(Busy):
    async def process(self, item):
        return super().process(item)


async def endless():
    for item in itertools.count():
        yield item


async def take_all(nodes, items):
    async with Pipeline(nodes).open() as session:
        async for output in session.map(items):
            yield output


async def call(nodes):
    async with Pipeline(nodes).open() as session:
        while True:
            yield await session.call(1)


def inline():
    return [with_options(Busy(), placement="inline")]


WORK = {
    "calls": lambda: call([BusyLater()]),
    "inline calls": lambda: call(inline()),
    "inline": lambda: take_all(inline(), itertools.count()),
    "async": lambda: take_all([BusyLater()], itertools.count()),
    "async items": lambda: take_all([BusyLater()], endless()),
    "concurrency": lambda: take_all([with_options(BusyLater(), concurrency=4)], itertools.count()),
    "beside": lambda: take_all([Busy(), BusyLater()], itertools.count()),
}


@contextmanager
def beside(work):
    """Run a function on another thread, which calls `is_over` to know when to end."""
    has_begun, must_end = threading.Event(), threading.Event()

    def is_over():
        has_begun.set()
        return must_end.is_set()

    thread = threading.Thread(target=work, args=(is_over,))
    thread.start()
    has_begun.wait()
    yield
    must_end.set()
    thread.join()


def spin(is_over):
    while not is_over():
        Busy().process(1)


def secs_of_turns():
    """Return how long it takes to give the interpreter up and get it back many times."""
    place, began = Path(), time.perf_counter()
    for _ in range(TURNS):
        place.stat()
    return time.perf_counter() - began


@pytest.mark.parametrize("kind", WORK)
def test_a_busy_loop_starves_no_other_thread(kind):
    async def run(is_over):
        outputs = WORK[kind]()
        async for _ in outputs:
            if is_over():
                break
        await outputs.aclose()

    with beside(spin):
        by_hand = secs_of_turns()
    # The other thread may not have run; at worst, Python takes the interpreter from it each time.
    by_hand = max(by_hand, TURNS * sys.getswitchinterval())
    with beside(lambda is_over: asyncio.run(run(is_over))):
        ours = secs_of_turns()

    assert ours < WORST_TO_HAND * by_hand
