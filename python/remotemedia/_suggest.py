"""The nearest known name to one that a user mistyped."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["did_you_mean"]


def did_you_mean(name: str, candidates: Iterable[str]) -> str:
    """The end of an error text: `; did you mean 'x'?`, or nothing."""
    import difflib

    original = {candidate.lower(): candidate for candidate in candidates}
    near = difflib.get_close_matches(name.lower(), original, n=1)
    return f"; did you mean '{original[near[0]]}'?" if near else ""
