"""The form of results."""

from __future__ import annotations

from typing import Any

__all__ = ["shape"]


def shape(outputs: list[Any]) -> Any:
    """Return `None` for no output, the output itself for one, else the list."""
    if len(outputs) > 1:
        return outputs
    return outputs[0] if outputs else None
