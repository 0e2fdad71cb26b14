"""Suggests the nearest known name for a mistyped one."""

from __future__ import annotations

TYPE_CHECKING = False  # That of `typing` costs its import.
if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["did_you_mean"]


def did_you_mean(name: str, candidates: Iterable[str]) -> str:
    """Return the end of an error text: `; did you mean 'x'?`, or nothing, as without the extension."""
    try:
        from remotemedia._core import did_you_mean
    except ImportError:
        return ""
    return did_you_mean(name, candidates)
