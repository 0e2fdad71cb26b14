"""Kills workers from outside at random times, while they process items."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path

from leftovers import children, has_begun, is_running

from remotemedia import Node, Pipeline

# Restarts count for so short a time that there may be any number of them, and none waits long.
TIRELESS = {"max_restarts": 1000, "restart_window": 0.05}

# An item that two workers in a row are at when they die is poison. So that this does not happen by chance, a
# worker that has just got the item again is left alone for as long.
GRACE_SECS = 0.25

# The share of kills that end a busy worker; the others end one that still starts.
MATURE = 0.8

# The longest pause between two kills.
PAUSE_SECS = 0.02

# The smallest number of items.
LEAST = 1000


class Marked(Node):
    """Creates a file with its process id as soon as it is initialized."""

    def __init__(self, directory):
        super().__init__()
        self.directory = str(directory)

    def initialize(self):
        super().initialize()
        (Path(self.directory) / str(os.getpid())).touch()


class Add(Marked):
    """Adds a number."""

    def __init__(self, directory, operand=1):
        super().__init__(directory)
        self.operand = operand

    def process(self, item):
        return item + self.operand


class Sum(Marked):
    """Returns the item and the sum of all so far; has `snapshot` and `restore`."""

    def __init__(self, directory):
        super().__init__(directory)
        self.sum = 0

    def process(self, item):
        self.sum += item
        return (item, self.sum)

    def snapshot(self):
        return self.sum

    def restore(self, state):
        self.sum = state


class SumOfSums(Sum):
    """Returns the sum of all sums so far."""

    def process(self, item):
        return super().process(item[1])[1]


class AddAll(Add):
    """Adds a number to all items of a batch."""

    def process(self, items):
        return [item + self.operand for item in items]


class AddLater(Add):
    """Adds a number after a while."""

    async def process(self, item):
        await asyncio.sleep(random.random() / 1000)
        return item + self.operand


class Spread(Marked):
    """Yields three outputs for an item, and none for each tenth number."""

    def process(self, item):
        item = item if isinstance(item, tuple) else (item,)
        if item[0] % 10:
            for part in range(3):
                yield (*item, part)


class Fails(Marked):
    """Fails on each seventh item."""

    def process(self, item):
        if item % 7 == 0:
            raise ValueError(item)
        return item


class Leaves(Marked):
    """Ends its process after some items, but never soon after the start."""

    def initialize(self):
        super().initialize()
        self.left = random.randint(100, 1000)

    def process(self, item):
        self.left -= 1
        if self.left == 0:
            os._exit(3)
        return item


def kill(process_id):
    os.kill(process_id, signal.SIGKILL)


def crash(process_id):
    os.kill(process_id, signal.SIGSEGV)


def stop(process_id):
    os.kill(process_id, signal.SIGSTOP)


class Killer:
    """Kills workers of this process until it has done so often enough, or is stopped."""

    def __init__(self, directory, kills, ways=(kill,)):
        self.directory = Path(directory)
        self.kills = kills
        self.ways = ways
        self.chance = random.Random(6)
        self.done = 0
        self.is_over = threading.Event()

    def victims(self):
        """Return the workers that still start, and those that have run for long enough."""
        starting, ready = [], []
        # A worker that is stopped before it has begun is replaced only after its start has timed out.
        for worker in filter(has_begun, filter(is_running, children())):
            try:
                since = (self.directory / str(worker)).stat().st_mtime
            except FileNotFoundError:
                starting.append(worker)
                continue
            if time.time() - since > GRACE_SECS:
                ready.append(worker)
        return starting, ready

    def run(self):
        while self.done < self.kills and not self.is_over.is_set():
            self.is_over.wait(self.chance.random() * PAUSE_SECS)
            # Most of the victims are starting: otherwise there would be more deaths than starts.
            if victims := self.victims()[self.chance.random() < MATURE]:
                with suppress(ProcessLookupError):
                    self.chance.choice(self.ways)(self.chance.choice(victims))
                    self.done += 1
        self.is_over.set()

    @contextmanager
    def running(self):
        thread = threading.Thread(target=self.run)
        thread.start()
        try:
            yield self
        finally:
            self.is_over.set()
            thread.join()


def survive(nodes, killer, *, is_shared=False, **options):
    """Process numbers in workers that are killed all the time; return count, outputs and metrics."""
    pipeline = Pipeline("p")
    for node, own in nodes:
        # Nodes that inherit their placement share a worker.
        pipeline.add_node(node, **({} if is_shared else TIRELESS | {"placement": "process"} | own))
    if is_shared:
        options |= TIRELESS | {"placement": "process"}
    with pipeline.open(enable_metrics=True, **options) as session, killer.running():
        count = 0

        def numbers():
            nonlocal count
            while not killer.is_over.is_set() or count < LEAST:
                count += 1
                yield count - 1

        outputs = list(session.map(numbers()))
        metrics = session.metrics()
    return count, outputs, metrics
