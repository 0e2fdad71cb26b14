"""What surrounds a command while it runs: signals and standard output."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from typing import TYPE_CHECKING, NoReturn

from remotemedia._tracebacks import Terminated

if TYPE_CHECKING:
    from types import FrameType


def enter() -> contextlib.ExitStack:
    """Set up what a command needs; closing the answer sets it back.

    SIGTERM raises `Terminated`, so that nodes are cleaned up, unless the program handles it already. What
    user code prints goes to stderr, because stdout is for outputs alone.
    """
    stack = contextlib.ExitStack()
    if sys.stderr is not None:
        stack.enter_context(contextlib.redirect_stdout(sys.stderr))
    is_main = threading.current_thread() is threading.main_thread()
    if is_main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _terminate)
        stack.callback(signal.signal, signal.SIGTERM, signal.SIG_DFL)
    return stack


def _terminate(signal_number: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001 - Python calls it so.
    raise Terminated(128 + signal.SIGTERM)
