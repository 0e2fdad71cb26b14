"""What Python remembers of threads that it has not started."""

from __future__ import annotations

import threading

__all__ = ["forget"]


def forget(thread_id: int) -> None:
    """Let `threading` forget a thread of the engine that has ended or is about to.

    When code asks which thread it runs on, as every log record does, `threading` makes a stand-in for one
    that it has not started itself, and Python before 3.12.1 keeps it for ever.
    """
    known = threading._active  # type: ignore[attr-defined] # noqa: SLF001 - There is no other way to it.
    if isinstance(known.get(thread_id), threading._DummyThread):  # noqa: SLF001
        known.pop(thread_id, None)
