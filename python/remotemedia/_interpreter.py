"""Facts about this interpreter, however it is embedded and whatever `sys` contains."""

from __future__ import annotations

import os
import sys

__all__ = ["import_path", "program", "program_name"]


def program() -> str | None:
    """Return the path of the Python program, `sys.executable`; `None` if it is not known."""
    try:
        return os.fsdecode(sys.executable) or None
    except TypeError:
        return None


def program_name() -> str:
    """Return the program name for commands that a user can type."""
    return program() or "python3"


def import_path() -> list[str]:
    """Return the entries of `sys.path` that imports use; like Python, ignore all others."""
    return [entry for entry in sys.path if isinstance(entry, str)]
