"""The exit of the program: closes sessions, stops runs, and rejects new ones.

This happens in `atexit`, while threads and the interpreter still work. Afterwards, no thread of the engine
runs user code, except for calls that did not return in time.
"""

from __future__ import annotations

import atexit
import logging
import os
import signal
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from remotemedia import _log
from remotemedia._limits import CLOSE_TIMEOUT_SECS
from remotemedia.exceptions import PipelineError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["SecondInterrupt", "at_end", "check_not_ending", "hurry", "is_ending", "time_left", "under_way"]

_HURRIED_SECS = 0.5
"""How long work in progress may take to end, after a second Ctrl-C."""

_logger = logging.getLogger("remotemedia")

_at_end: list[Callable[[], object]] = []


class _Works:
    """The work in progress, and how to stop it."""

    def __init__(self) -> None:
        self.has_begun_to_end = False
        self.is_hurried = False
        self.under_way: dict[object, tuple[str, Callable[[], object] | None]] = {}
        self.changed = threading.Condition()


_works = _Works()


def is_ending() -> bool:
    """Whether the program is exiting, so that no new work may start."""
    return _works.has_begun_to_end or sys.is_finalizing()


def check_not_ending(what: str) -> None:
    """Reject new work while the program exits.

    Raises:
        PipelineError: If the program is exiting.
    """
    if is_ending():
        raise PipelineError(f"Cannot start {what}, because the program is exiting")


def at_end(close: Callable[[], object]) -> None:
    """Register a function to call at exit, after all work in progress has been stopped."""
    _at_end.append(close)


@contextmanager
def under_way(what: str, stop: Callable[[], object] | None) -> Iterator[None]:
    """Stop this work when the program exits, and wait for it.

    Args:
        what: The name of the work in errors and logs.
        stop: Stops the work, from another thread; `None` for work that closes something, which is always
            allowed.

    Raises:
        PipelineError: If the program is already exiting.
    """
    key = object()
    with _works.changed:
        if stop is not None:
            check_not_ending(what)
        _works.under_way[key] = (what, stop)
    try:
        yield
    finally:
        with _works.changed:
            _works.under_way.pop(key, None)
            _works.changed.notify_all()


def hurry() -> None:
    """Shorten all timeouts: the user has pressed Ctrl-C twice."""
    _works.is_hurried = True


def time_left(timeout: float) -> float:
    """Return the rest of a timeout, which is short after a second Ctrl-C."""
    return min(timeout, _HURRIED_SECS) if _works.is_hurried else timeout


# Without the conversion to an enum, which takes longer than opening a session.
_getsignal: Callable[[int], object] = getattr(signal.getsignal, "__wrapped__", signal.getsignal)


class SecondInterrupt:
    """Detects a second Ctrl-C, for tasks that wait for work to end.

    After the first one, `asyncio.run` cancels the main task. After the second one, it leaves the loop and
    cancels all tasks, as it always does at its end; only its own count distinguishes these cases.
    """

    def __init__(self) -> None:
        """Find the count of the running loop."""
        handler = getattr(_getsignal(signal.SIGINT), "func", None)
        self._runner = getattr(handler, "__self__", None)

    def has_occurred(self) -> bool:
        """Return whether a second Ctrl-C came; if so, shorten all timeouts."""
        is_second: bool = getattr(self._runner, "_interrupt_count", 0) > 1
        if is_second:
            hurry()
        return is_second


@atexit.register
def _end() -> None:
    with _works.changed:
        _works.has_begun_to_end = True
        begun = list(_works.under_way.values())
    for end in [*(stop for _, stop in begun if stop is not None), *_at_end, _wait]:
        try:
            end()
        except KeyboardInterrupt:
            hurry()
        except Exception as failure:  # noqa: BLE001 - No caller is left.
            _log.log_ignored_error(failure)


def _wait() -> None:
    timeout = time_left(CLOSE_TIMEOUT_SECS)
    with _works.changed:
        if not _works.changed.wait_for(lambda: not _works.under_way, timeout):
            left = ", ".join(what for what, _ in _works.under_way.values())
            text = "the program exited without waiting for %s, which did not finish within %g s"
            _logger.error(text, left, timeout)


def _be_fork() -> None:
    """Forget the work in progress, which belongs to the parent."""
    global _works  # noqa: PLW0603 - Its lock may be held by a thread of the parent.
    _works = _Works()


os.register_at_fork(after_in_child=_be_fork)
