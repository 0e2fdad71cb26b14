"""Threads: starting them, and what Python remembers of those that it has not started."""

from __future__ import annotations

import threading

__all__ = ["forget", "start"]


def forget(thread_id: int) -> None:
    """Let `threading` forget a thread of the engine that has ended or is about to.

    When code asks which thread it runs on, as every log record does, `threading` makes a stand-in for one
    that it has not started itself, and Python before 3.12.1 keeps it for ever.
    """
    known = threading._active  # type: ignore[attr-defined] # noqa: SLF001 - There is no other way to it.
    if isinstance(known.get(thread_id), threading._DummyThread):  # noqa: SLF001
        known.pop(thread_id, None)


def start(thread: threading.Thread, whose: str) -> None:
    """Start a thread.

    Raises:
        RuntimeError: If the system refuses it, with what to do.
    """
    try:
        thread.start()
    except RuntimeError as error:
        advice = "raise the limits on threads and memory (ulimit -u, ulimit -v)"
        raise RuntimeError(f"Cannot start a thread for {whose}: {error}; {advice}") from error
