"""The functions behind callables, which have the annotations."""

from __future__ import annotations

import functools
from types import MethodType
from typing import Any

__all__ = ["innermost"]

_DEEPEST = 16
"""The limit on nested wrappers of a function, because some objects are nested without end."""


def innermost(process: Any) -> tuple[Any, int]:
    """Return the innermost function of a callable, and the position of the item among its arguments."""
    place = 0
    for _ in range(_DEEPEST):
        if type(process) is MethodType:
            process, place = process.__func__, place + 1
        elif isinstance(process, functools.partial):
            process, place = process.func, place + len(process.args)
        elif hasattr(process, "__wrapped__"):
            # Set by `functools.wraps` and `functools.lru_cache`.
            process = process.__wrapped__
        elif hasattr(process, "__code__") or not hasattr(type(process), "__call__"):  # noqa: B004 - Inspected below.
            break
        else:
            process, place = type(process).__call__, place + 1
    return process, place
