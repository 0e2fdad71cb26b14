"""A program with a worker, which a test ends from outside: `parent_program.py STATE DIRECTORY`.

It brings itself and its worker into a state, leaves the file `there` in the directory, and waits.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import termios
import threading
import time
from pathlib import Path

from leftovers import children

from remotemedia import Pipeline
from remotemedia.testing import faults

state, directory = sys.argv[1], Path(sys.argv[2])
LONG_SECS = 1000


class StartsChild:
    """Starts a process as soon as it is initialized; may block in any phase."""

    def __init__(self, stays, directory):
        self.stays = stays
        self.directory = directory

    def initialize(self):
        self.child = subprocess.Popen(["sleep", str(LONG_SECS)])
        self.reach("initialize")

    def process(self, item):
        self.reach("busy")
        if self.stays == "brief":
            (self.directory / "there").touch()
            time.sleep(0.5)
        return item

    def cleanup(self):
        # The object in the parent has no child.
        if hasattr(self, "child"):
            self.reach("cleanup")
            self.child.kill()
            self.child.wait()
            print("cleaned up", flush=True)  # noqa: T201 - A test reads it.

    def reach(self, place):
        if self.stays == place:
            (self.directory / "there").touch()
            time.sleep(LONG_SECS)


class HoldsLock(StartsChild):
    """Holds the interpreter lock, and never releases it."""

    def process(self, item):
        (self.directory / "there").touch()
        return faults.HangHoldingLock(item).process(item)


def exit_on_input():
    sys.stdin.read(1)
    os._exit(4)


def main():
    if sys.stdin.isatty():
        # This program leads its own session, and the terminal belongs to it.
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    else:
        threading.Thread(target=exit_on_input, daemon=True).start()
    node = (HoldsLock if state == "lock" else StartsChild)(state, directory)
    with Pipeline("p").add_node(node, id="node", placement="process").open(stall_warning=None) as session:
        if state in {"busy", "brief", "lock"}:
            session.call(1)
        session.call(1)
        [worker] = children()
        if state == "stopped":
            os.kill(worker, signal.SIGSTOP)
        if state == "forked" and os.fork() == 0:
            # The fork also has both ends of all sockets.
            os.setsid()
            (directory / "fork").write_text(str(os.getpid()))
            time.sleep(LONG_SECS)
        if state == "cleanup":
            session.close()
        (directory / "there").touch()
        time.sleep(LONG_SECS)


if __name__ == "__main__":
    main()
