"""The end of the program: what is open is closed, what is under way is stopped, nothing new begins.

All of it happens from `atexit`, while threads and the interpreter still work. Afterwards no thread of the
engine runs user code, except one that did not come back in time.
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
from remotemedia.exceptions import PipelineError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["SecondInterrupt", "at_end", "check_not_ending", "hurry", "is_ending", "time_left", "under_way"]

TIMEOUT_SECS = 10.0
"""How long what is under way may take to come to its end."""

_HURRIED_SECS = 0.5
"""The same, after the user has said twice that the program is to end."""

_logger = logging.getLogger("remotemedia")

_at_end: list[Callable[[], object]] = []


class _Works:
    """What is under way, and what stops each of it."""

    def __init__(self) -> None:
        self.has_begun_to_end = False
        self.is_hurried = False
        self.under_way: dict[object, tuple[str, Callable[[], object] | None]] = {}
        self.changed = threading.Condition()


_works = _Works()


def is_ending() -> bool:
    """Whether the program ends, and nothing new may begin."""
    return _works.has_begun_to_end or sys.is_finalizing()


def check_not_ending(what: str) -> None:
    """Refuse to begin what nobody would end.

    Raises:
        PipelineError: If the program ends.
    """
    if is_ending():
        raise PipelineError(f"Cannot start {what}, because the program is exiting")


def at_end(close: Callable[[], object]) -> None:
    """Have something done when the program ends, after all that is under way has been told to stop."""
    _at_end.append(close)


@contextmanager
def under_way(what: str, stop: Callable[[], object] | None) -> Iterator[None]:
    """Let the end of the program stop this work, and wait for it.

    Args:
        what: Names the work where it does not come back.
        stop: Tells the work to end, from another thread. `None` for what is an end itself, which is never
            too late.

    Raises:
        PipelineError: If the program ends already.
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
    """Wait for nothing much any more: the user has pressed Ctrl-C twice."""
    _works.is_hurried = True


def time_left(timeout: float) -> float:
    """How many seconds of a timeout the user still grants."""
    return min(timeout, _HURRIED_SECS) if _works.is_hurried else timeout


class SecondInterrupt:
    """A second Ctrl-C, as a task sees it that waits for work to end.

    At the first one `asyncio.run` cancels the main task. At the second one it leaves the loop, and then
    cancels all tasks, as it does at its end in any case; only its own count tells one from the other.
    """

    def __init__(self) -> None:
        """Begin to wait, while the loop runs."""
        handler = getattr(signal.getsignal(signal.SIGINT), "func", None)
        self._runner = getattr(handler, "__self__", None)

    def has_come(self) -> bool:
        """Whether it has; then all is ended in a hurry."""
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
        except Exception as failure:  # noqa: BLE001 - Nobody is left to raise to.
            _log.set_aside(failure)


def _wait() -> None:
    timeout = time_left(TIMEOUT_SECS)
    with _works.changed:
        if not _works.changed.wait_for(lambda: not _works.under_way, timeout):
            left = ", ".join(what for what, _ in _works.under_way.values())
            text = "the program exited without waiting for %s, which did not finish within %g s"
            _logger.error(text, left, timeout)


def _be_fork() -> None:
    """What was under way is the parent's."""
    global _works  # noqa: PLW0603 - Its lock may be held by a thread that is not here.
    _works = _Works()


os.register_at_fork(after_in_child=_be_fork)
