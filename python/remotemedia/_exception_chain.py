"""Reads and writes the chain of an exception, independent of the attributes of its class.

An exception class may reject assignments (such as a frozen dataclass), or may define attributes of the same
names. Like the interpreter, this module accesses the fields directly.
"""

from __future__ import annotations

__all__ = [
    "add_note",
    "cause_of",
    "context_of",
    "is_context_hidden",
    "set_args",
    "set_cause",
    "set_context",
    "set_is_context_hidden",
    "set_traceback",
    "traceback_of",
]

TYPE_CHECKING = False  # That of `typing` costs its import.
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Any

    Linked = BaseException | None

_fields: Any = vars(BaseException)

cause_of: Callable[[BaseException], Linked] = _fields["__cause__"].__get__
context_of: Callable[[BaseException], Linked] = _fields["__context__"].__get__
is_context_hidden: Callable[[BaseException], bool] = _fields["__suppress_context__"].__get__
traceback_of: Callable[[BaseException], TracebackType | None] = _fields["__traceback__"].__get__

set_args: Callable[[BaseException, tuple[Any, ...]], None] = _fields["args"].__set__
set_cause: Callable[[BaseException, Linked], None] = _fields["__cause__"].__set__
"""Sets `__suppress_context__`, too."""
set_context: Callable[[BaseException, Linked], None] = _fields["__context__"].__set__
set_is_context_hidden: Callable[[BaseException, bool], None] = _fields["__suppress_context__"].__set__
set_traceback: Callable[[BaseException, TracebackType | None], None] = _fields["__traceback__"].__set__


def add_note(error: BaseException, note: str) -> None:
    """Add a note to it, if it can have notes."""
    try:
        notes = getattr(error, "__notes__", ())
        object.__setattr__(error, "__notes__", [*notes, note])
    except Exception as problem:  # noqa: BLE001 - Its class may define the attribute in any way.
        del problem
