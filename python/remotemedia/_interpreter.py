"""What this interpreter says of itself, wherever it was embedded and whatever was written to `sys`."""

from __future__ import annotations

import os
import sys

__all__ = ["import_path", "program", "program_name"]


def program() -> str | None:
    """The path of the Python program, `sys.executable`; `None` where it is not known."""
    try:
        return os.fsdecode(sys.executable) or None
    except TypeError:
        return None


def program_name() -> str:
    """What to call that program in a command that a user might type."""
    return program() or "python3"


def import_path() -> list[str]:
    """The entries of `sys.path` that imports look at. All others are passed over, as they are by Python."""
    return [entry for entry in sys.path if isinstance(entry, str)]
