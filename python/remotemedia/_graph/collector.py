"""Pauses the garbage collector where many objects are created and all of them stay alive."""

from __future__ import annotations

import gc
from contextlib import contextmanager

TYPE_CHECKING = False  # That of `typing` costs its import.
if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["without_collector"]


@contextmanager
def without_collector() -> Iterator[None]:
    """Disable the collector: looking for garbage would take longer than creating the objects."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
