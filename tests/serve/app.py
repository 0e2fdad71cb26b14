"""Pipelines that the tests serve."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
import time
from typing import TYPE_CHECKING

from remotemedia import with_options

if TYPE_CHECKING:
    from remotemedia.audio import AudioFrame


def say(*words):
    sys.stderr.write(" ".join(map(str, words)) + "\n")
    sys.stderr.flush()


class Same:
    def process(self, item):
        return item


class Add:
    def process(self, item):
        return item + 1


class Repeat:
    def process(self, count):
        yield from range(count)


class Measure:
    """Returns what a frame of audio is."""

    def process(self, frame: AudioFrame):
        return {
            "frames": len(frame.samples),
            "rate": frame.sample_rate,
            "peak": float(abs(frame.samples).max()),
        }


class Encode:
    def process(self, item):
        return bytes(item)


class Opaque:
    def process(self, item):
        return object()


class Sleep:
    """Sleeps for as many seconds as the item says, and says when it begins."""

    async def process(self, item):
        say("begins", item)
        try:
            await asyncio.sleep(item)
        except asyncio.CancelledError:
            say("cancelled", item)
            raise
        return item


class Block:
    def process(self, item):
        say("begins", item)
        time.sleep(item)
        return item


class Life:
    """Reports its thread, and when it is cleaned up."""

    def initialize(self):
        self.thread = threading.get_ident()

    def process(self, item):
        return [os.getpid(), threading.get_ident() == self.thread]

    def cleanup(self):
        say("cleaned up on its thread:", threading.get_ident() == self.thread)


class Hoard:
    """Takes all descriptors that are left, and gives them back; returns how many it has."""

    def __init__(self):
        self.files = []

    def process(self, item):
        if item == "all":
            with contextlib.suppress(OSError):
                while True:
                    self.files.append(os.open("/dev/null", os.O_RDONLY))
        elif item == "back":
            while self.files:
                os.close(self.files.pop())
        return len(self.files)


class Refuses:
    def initialize(self):
        raise ValueError("no model")

    def process(self, item):
        return item


class Source:
    def process(self):
        yield 1


same = [Same()]
add = [Add()]
two = [Add(), Add()]
in_worker = [with_options(Add(), placement="process"), Add()]
repeat = [Repeat()]
measure = [Measure()]
encode = [Encode()]
opaque = [Opaque()]
sleep = [with_options(Sleep(), concurrency=8)]
block = [Block()]
life = [Life()]
hoard = [Hoard()]
refuses = [Refuses()]
source = [Source()]


class Count:
    """Counts its items: every client that has nodes of its own starts with 1."""

    def __init__(self):
        self.count = 0

    def initialize(self):
        say("initialized")

    def process(self, item):
        self.count += 1
        return self.count

    def interrupt(self):
        say("interrupted")

    def cleanup(self):
        say("cleaned up")


class Sum:
    """Returns the sum of all items at the end of input."""

    def __init__(self):
        self.sum = 0

    def process(self, item):
        self.sum += item

    def flush(self):
        yield self.sum


class Tone:
    """Returns as many frames of audio as the item says."""

    def process(self, count):
        import numpy as np

        from remotemedia.audio import AudioFrame

        for _ in range(count):
            yield AudioFrame(np.full((240, 1), 0.5, dtype=np.float32), 24_000)


class Flood:
    """Returns as many texts of a megabyte as the item says."""

    def process(self, count):
        for _ in range(count):
            yield "x" * 1_000_000


count = [Count]
total = [Sum]
tone = [Tone()]
flood = [Flood()]
own_flood = [Flood]
own_sleep = [with_options(Sleep, concurrency=8)]
