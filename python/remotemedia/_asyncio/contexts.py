"""The common context of several callers."""

from __future__ import annotations

from contextvars import Context

__all__ = ["common"]


def common(contexts: list[Context]) -> Context:
    """Return a new context with the variables that have the same value in all of these."""
    found = Context()
    first, *others = contexts
    for variable, value in first.items():
        if all(variable in other and other[variable] is value for other in others):
            found.run(variable.set, value)
    return found
