"""The cores that a benchmark uses."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["one_core"]


@contextmanager
def one_core() -> Iterator[None]:
    """Keep this process and those that it starts on one core.

    Waking an idle core takes longer than everything else, and varies.
    """
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)
