"""Kills workers of this process at random times, until a given time or the first error."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time

from leftovers import children, has_begun, is_running

PAUSE_SECS = 0.03
"""The longest pause before a kill, and before an interruption."""


class Killer:
    """Kills workers at random times."""

    def __init__(self, seed, until, trouble):
        self.chance, self.until, self.trouble, self.done = random.Random(seed), until, trouble, 0

    def run(self):
        while time.monotonic() < self.until and not self.trouble.texts:
            time.sleep(self.chance.random() * PAUSE_SECS)
            if victims := [child for child in children() if is_running(child) and has_begun(child)]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.chance.choice(victims), signal.SIGKILL)
                    self.done += 1
