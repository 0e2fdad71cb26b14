"""Pipelines of tests that put load on a service."""

from __future__ import annotations

import os

# It starts threads, which no request should.
import numpy as np  # noqa: F401

from remotemedia.audio import AudioFrame


class Describe:
    """Returns an item as it is, and the length of audio."""

    def process(self, item):
        return len(item.samples) if isinstance(item, AudioFrame) else item


class Record:
    """Appends each item to a file before it returns it."""

    def initialize(self):
        self.file = os.open(os.environ["RECORD"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def process(self, item):
        os.write(self.file, b"%d\n" % item)
        return item

    def cleanup(self):
        os.close(self.file)


describe = [Describe()]
record = [Record()]
