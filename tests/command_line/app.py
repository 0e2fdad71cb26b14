"""A user's program: each test has a copy, and adds lines that use these imports."""
# ruff: noqa: F401, T201, ICN001

import asyncio
import os
import signal
import sys
import time
from dataclasses import dataclass


class Upper:
    def process(self, text):
        return text.upper()


class Echo:
    def process(self, item):
        return item


class Number:
    def process(self, text):
        return int(text)


class Witness:
    def initialize(self):
        print("initialized", file=sys.stderr, flush=True)

    def process(self, item):
        return item

    def cleanup(self):
        print("cleaned up", file=sys.stderr, flush=True)


class Sleeper(Witness):
    def process(self, item):
        print("sleeping", file=sys.stderr, flush=True)
        # In pieces: Python notices a signal that arrives right before a long sleep only when that is over.
        for _ in range(6000):
            time.sleep(0.01)


class Waiter(Witness):
    async def process(self, item):
        print("sleeping", file=sys.stderr, flush=True)
        await asyncio.sleep(60)


class Loud:
    def process(self, item):
        print("a line of the node's own")
        return item


class Endless:
    def process(self):
        count = 0
        while True:
            yield count
            count += 1


class Quit:
    def process(self, item):
        sys.exit(3)


class Shape:
    def process(self, frame):
        return [*frame.samples.shape, frame.sample_rate, round(frame.start, 3), float(frame.samples[0, 0])]


@dataclass
class Word:
    text: str
    start: float


class Evaluate:
    def process(self, text):
        import numpy

        return eval(text)
