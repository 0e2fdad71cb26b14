"""The shape of answers."""

from __future__ import annotations

from typing import Any

__all__ = ["shape"]


def shape(outputs: list[Any]) -> Any:
    """`None` for no output, the output if there is one, else the list of them."""
    if len(outputs) > 1:
        return outputs
    return outputs[0] if outputs else None
