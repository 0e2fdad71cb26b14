"""A program that does everything at once: `mix.py SECONDS SEED`.

Threads and tasks open sessions, call, stream, interrupt, cancel and close them, on all placements, while
workers are killed. Each actor knows the results of its items. The program ends with 0 and prints nothing
to standard error if all are correct and nothing remains; otherwise it describes the first error.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import logging
import random
import sys
import threading
import time
import traceback

from leftovers import nothing_remains
from worker_killer import PAUSE_SECS, Killer

from remotemedia import Batch, Pipeline
from remotemedia.exceptions import SessionClosedError, SessionInterruptedError, WorkerError

# A worker may die any number of times; items that two of its deaths meet are lost with a `WorkerError`.
TIRELESS = {"placement": "process", "max_restarts": 1000, "restart_window": 0.05}
ALLOWED = (SessionInterruptedError, SessionClosedError, WorkerError)
STREAM_LENGTH = 40
SEPARATE = 0.3
"""The chance that a node is in no group."""


class Step:
    """Counts one step on an item of the form `(actor, number, steps)`."""

    def process(self, item):
        actor, number, steps = item
        return (actor, number, steps + 1)


class Slow(Step):
    """The same, after a while, so that some items are always in progress."""

    def process(self, item):
        time.sleep(0.001)
        return super().process(item)


class Spread(Step):
    """A generator."""

    def process(self, item):
        yield super().process(item)


class Later(Step):
    """A coroutine."""

    async def process(self, item):
        await asyncio.sleep(0.001)
        return super().process(item)


class AtOnce(Step):
    """A coroutine that never suspends."""

    async def process(self, item):
        return super().process(item)


class SpreadLater(Step):
    """An async generator."""

    async def process(self, item):
        await asyncio.sleep(0)
        yield super().process(item)


class Stream(Step):
    """Takes the whole stream."""

    is_streaming = True

    async def process(self, items):
        async for item in items:
            yield super().process(item)


class All(Step):
    """Takes batches."""

    def process(self, items):
        return [super(All, self).process(item) for item in items]


KINDS = {
    "plain": (Step, {}),
    "slow": (Slow, {}),
    "generator": (Spread, {}),
    "coroutine": (Later, {}),
    "immediate coroutine": (AtOnce, {}),
    "concurrent": (Later, {"concurrency": 8}),
    "async generator": (SpreadLater, {}),
    "stream": (Stream, {}),
    "batch": (All, {"batch": Batch(8, max_wait=0.002)}),
}
# Kinds that can share a stage.
SHARING = [kind for kind, (_, options) in KINDS.items() if not options]
PLACEMENTS = {
    "no": {},
    "inline": {"placement": "inline"},
    "thread": {"placement": "thread"},
    "process": TIRELESS,
}


class Trouble:
    """The errors of all actors."""

    def __init__(self):
        self.texts = []
        self.lock = threading.Lock()

    def note(self, text):
        with self.lock:
            self.texts.append(text)

    def note_error(self, what):
        self.note(f"{what}\n{traceback.format_exc()}")


class Actor:
    """Opens sessions, and uses them and those of others."""

    def __init__(self, number, seed, trouble, until):
        self.number = number
        self.chance = random.Random(seed * 1000 + number)
        self.trouble = trouble
        self.until = until
        self.count = 0
        self.done = 0
        self.doing = "nothing"

    def pipeline(self):
        chosen = [
            (self.chance.choice(list(KINDS)), self.chance.choice(list(PLACEMENTS)))
            for _ in range(self.chance.randint(1, 3))
        ]
        groups = self.groups(chosen)
        words = [" ".join(f"{kind}/{placement}" for kind, placement in chosen), *groups]
        pipeline = Pipeline(" ".join(word for word in words if word))
        for (kind, placement), group in zip(chosen, groups, strict=True):
            make, options = KINDS[kind]
            pipeline.add_node(make(), **options, **PLACEMENTS[placement], group=group)
        return pipeline, len(chosen)

    def groups(self, chosen):
        """Return a group for each node: some neighbours of one placement share one."""
        groups, before = [], None
        for number, (kind, placement) in enumerate(chosen):
            if kind not in SHARING or self.chance.random() < SEPARATE:
                groups.append(None)
            elif before == placement and groups[-1]:
                groups.append(groups[-1])
            else:
                groups.append(f"g{number}")
            before = placement
        return groups

    def items(self, length):
        first = self.count
        self.count += length
        return [(self.number, first + index, 0) for index in range(length)]

    def check(self, items, outputs, steps, *, is_whole):
        expected = [(actor, number, steps) for actor, number, _ in items]
        if not is_whole:
            # Dropped items leave gaps.
            left = iter(expected)
            is_right = all(output in left for output in outputs)
        else:
            is_right = outputs == expected
        if not is_right:
            self.trouble.note(f"{self.doing}: {outputs} came out for {items}")

    def is_over(self):
        return time.monotonic() > self.until or bool(self.trouble.texts)


class ThreadActor(Actor):
    """An actor on a plain thread."""

    def run(self):
        while not self.is_over():
            pipeline, steps = self.pipeline()
            self.doing = f"thread {self.number}, {pipeline.name}"
            try:
                with contextlib.suppress(*ALLOWED), pipeline.open() as session:
                    for _ in range(self.chance.randint(1, 6)):
                        self.act(session, steps)
            except BaseException:  # noqa: BLE001 - Whatever it is, it is reported.
                self.trouble.note_error(self.doing)

    def act(self, session, steps):
        acts = [self.call, self.stream, self.leave, self.drain, self.interrupt, self.call_beside]
        act = self.chance.choice(acts)
        self.doing = f"{self.doing.partition(':')[0]}: {act.__name__}"
        with contextlib.suppress(SessionInterruptedError, WorkerError):
            act(session, steps)
        self.done += 1

    def call(self, session, steps):
        for item in self.items(5):
            self.check([item], [session.call(item)], steps, is_whole=True)

    def stream(self, session, steps):
        items = self.items(STREAM_LENGTH)
        self.check(items, list(session.map(items)), steps, is_whole=True)

    def leave(self, session, steps):
        items, outputs = self.items(STREAM_LENGTH), []
        for output in session.map(items):
            outputs.append(output)
            if len(outputs) == self.chance.randint(1, 10):
                break
        self.check(items[: len(outputs)], outputs, steps, is_whole=True)

    def drain(self, session, steps):
        session.drain()
        self.call(session, steps)

    def interrupt(self, session, steps):
        """Others use the session meanwhile."""
        items = self.items(STREAM_LENGTH)
        outputs = []
        stop = threading.Timer(self.chance.random() * PAUSE_SECS, session.interrupt)
        stop.start()
        try:
            outputs += session.map(items)
        finally:
            stop.join()
        self.check(items, outputs, steps, is_whole=False)

    def call_beside(self, session, steps):
        """Two threads call at once; each receives the results of its own items."""
        mine, others, results = self.items(1), self.items(1), []

        def call():
            with contextlib.suppress(SessionInterruptedError, WorkerError, SessionClosedError):
                results.append(session.call(others[0]))

        other = threading.Thread(target=call)
        other.start()
        try:
            self.check(mine, [session.call(mine[0])], steps, is_whole=True)
        finally:
            other.join()
        if results:
            self.check(others, results, steps, is_whole=True)


class TaskActor(Actor):
    """An actor in a task."""

    async def run(self):
        while not self.is_over():
            pipeline, steps = self.pipeline()
            self.doing = f"task {self.number}, {pipeline.name}"
            try:
                with contextlib.suppress(*ALLOWED):
                    async with pipeline.open() as session:
                        for _ in range(self.chance.randint(1, 6)):
                            await self.act(session, steps)
            except BaseException:  # noqa: BLE001 - Whatever it is, it is reported.
                self.trouble.note_error(self.doing)

    async def act(self, session, steps):
        acts = [self.call, self.stream, self.stream_later, self.leave, self.interrupt, self.cancel]
        acts += [self.cancel_stream, self.gather]
        act = self.chance.choice(acts)
        self.doing = f"{self.doing.partition(':')[0]}: {act.__name__}"
        with contextlib.suppress(SessionInterruptedError, WorkerError):
            await act(session, steps)
        self.done += 1

    async def call(self, session, steps):
        for item in self.items(5):
            self.check([item], [await session.call(item)], steps, is_whole=True)

    async def stream(self, session, steps):
        items = self.items(STREAM_LENGTH)
        self.check(items, [output async for output in session.map(items)], steps, is_whole=True)

    async def stream_later(self, session, steps):
        """The items come from an async generator."""

        async def later():
            for item in items:
                await asyncio.sleep(0)
                yield item

        items = self.items(STREAM_LENGTH)
        self.check(items, [output async for output in session.map(later())], steps, is_whole=True)

    async def leave(self, session, steps):
        items, outputs = self.items(STREAM_LENGTH), []
        async with contextlib.aclosing(session.map(items)) as stream:
            async for output in stream:
                outputs.append(output)
                if len(outputs) == self.chance.randint(1, 10):
                    break
        self.check(items[: len(outputs)], outputs, steps, is_whole=True)

    async def interrupt(self, session, steps):
        async def stop():
            await asyncio.sleep(self.chance.random() * PAUSE_SECS)
            await session.interrupt()

        items = self.items(STREAM_LENGTH)
        stopping = asyncio.create_task(stop())
        try:
            outputs = [output async for output in session.map(items)]
        finally:
            await stopping
        self.check(items, outputs, steps, is_whole=False)

    async def cancel(self, session, steps):
        calls = [asyncio.create_task(session.call(item)) for item in self.items(6)]
        await asyncio.sleep(self.chance.random() * 0.005)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        await self.call(session, steps)

    async def cancel_stream(self, session, steps):
        async def take():
            async with contextlib.aclosing(session.map(items)) as stream:
                async for output in stream:
                    outputs.append(output)  # noqa: PERF401 - Those before the cancellation count.

        items, outputs = self.items(STREAM_LENGTH), []
        taking = asyncio.create_task(take())
        await asyncio.sleep(self.chance.random() * 0.005)
        taking.cancel()
        with contextlib.suppress(asyncio.CancelledError, SessionInterruptedError, WorkerError):
            await taking
        self.check(items[: len(outputs)], outputs, steps, is_whole=True)
        await self.call(session, steps)

    async def gather(self, session, steps):
        items = self.items(8)
        outputs = await asyncio.gather(*map(session.call, items), return_exceptions=True)
        for item, output in zip(items, outputs, strict=True):
            if not isinstance(output, ALLOWED):
                self.check([item], [output], steps, is_whole=True)


def mix(until, seed, trouble):
    """Run all actors at the same time; return the number of their acts."""
    threads = [ThreadActor(number, seed, trouble, until) for number in range(4)]
    tasks = [TaskActor(number, seed, trouble, until) for number in range(10, 16)]
    killer = Killer(seed, until, trouble)

    async def run_tasks():
        await asyncio.gather(*(task.run() for task in tasks))

    works = [killer.run, lambda: asyncio.run(run_tasks()), *(actor.run for actor in threads)]
    running = [threading.Thread(target=work, daemon=True) for work in works]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    return f"{sum(actor.done for actor in [*threads, *tasks])} acts, {killer.done} kills"


def main(seconds, seed):
    trouble = Trouble()
    # Deaths of workers are expected here.
    logging.getLogger("remotemedia").setLevel(logging.ERROR)
    faulthandler.dump_traceback_later(seconds + 60, exit=True)
    try:
        with nothing_remains():
            done = mix(time.monotonic() + seconds, seed, trouble)
        sys.stdout.write(done + "\n")
    except AssertionError as error:
        trouble.note(str(error))
    sys.stderr.write("\n".join(trouble.texts[:3]))
    return bool(trouble.texts)


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), int(sys.argv[2])))
