"""Starts threads, and removes entries of `threading` for threads of the engine."""

from __future__ import annotations

import threading

__all__ = ["forget", "join", "start", "start_at_once"]


def forget(thread_id: int) -> None:
    """Remove the entry of `threading` for a thread of the engine that has ended or is about to end.

    For the current thread, which every log record contains, `threading` creates a dummy object if it has not
    started the thread itself. Python before 3.12.1 never removes it.
    """
    known = threading._active  # type: ignore[attr-defined] # noqa: SLF001 - There is no public access.
    if isinstance(known.get(thread_id), threading._DummyThread):  # noqa: SLF001
        known.pop(thread_id, None)


def start(thread: threading.Thread, whose: str) -> None:
    """Start a thread.

    Raises:
        RuntimeError: If the system cannot start it; the text says what to do.
    """
    try:
        thread.start()
    except RuntimeError as error:
        advice = "raise the limits on threads and memory (ulimit -u, ulimit -v)"
        raise RuntimeError(f"Cannot start a thread for {whose}: {error}; {advice}") from error


class _NotAwaited(threading.Event):
    """Set when a thread runs; nobody waits for that."""

    def wait(self, timeout: float | None = None) -> bool:  # noqa: ARG002 - As in `Event`.
        return True


def start_at_once(thread: threading.Thread, whose: str) -> None:
    """Start a thread, and do not wait until it runs.

    `Thread.start` waits for it: half a millisecond in which an event loop does nothing else, where many
    threads start together. To be ended by `join`.

    Raises:
        RuntimeError: As `start` does.
    """
    thread._started = _NotAwaited()  # type: ignore[attr-defined] # noqa: SLF001 - There is no public way.
    start(thread, whose)


def join(thread: threading.Thread) -> None:
    """Wait for the end of a thread that was started by `start_at_once`."""
    threading.Event.wait(thread._started)  # type: ignore[attr-defined] # noqa: SLF001 - As above.
    thread.join()
