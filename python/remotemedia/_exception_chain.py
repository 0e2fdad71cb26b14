"""Reads and writes the chain of an exception, independent of the attributes of its class.

An exception class may reject assignments (such as a frozen dataclass), or may define attributes of the same
names. Like the interpreter, this module accesses the fields directly.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import TracebackType

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

_fields: Any = vars(BaseException)
_ARGS, _CAUSE, _CONTEXT = _fields["args"], _fields["__cause__"], _fields["__context__"]
_IS_CONTEXT_HIDDEN, _TRACEBACK = _fields["__suppress_context__"], _fields["__traceback__"]


def cause_of(error: BaseException) -> BaseException | None:
    """Return its `__cause__`."""
    return _CAUSE.__get__(error)  # type: ignore[no-any-return]


def context_of(error: BaseException) -> BaseException | None:
    """Return its `__context__`."""
    return _CONTEXT.__get__(error)  # type: ignore[no-any-return]


def is_context_hidden(error: BaseException) -> bool:
    """Return its `__suppress_context__`."""
    return _IS_CONTEXT_HIDDEN.__get__(error)  # type: ignore[no-any-return]


def traceback_of(error: BaseException) -> TracebackType | None:
    """Return its `__traceback__`."""
    return _TRACEBACK.__get__(error)  # type: ignore[no-any-return]


def set_args(error: BaseException, args: tuple[Any, ...]) -> None:
    """Set its `args`."""
    _ARGS.__set__(error, args)


def set_cause(error: BaseException, cause: BaseException | None) -> None:
    """Set its `__cause__`, and with it `__suppress_context__`."""
    _CAUSE.__set__(error, cause)


def set_context(error: BaseException, context: BaseException | None) -> None:
    """Set its `__context__`."""
    _CONTEXT.__set__(error, context)


def set_is_context_hidden(error: BaseException, value: bool) -> None:  # noqa: FBT001 - The value of a field.
    """Set its `__suppress_context__`."""
    _IS_CONTEXT_HIDDEN.__set__(error, value)


def set_traceback(error: BaseException, traceback: TracebackType | None) -> None:
    """Set its `__traceback__`."""
    _TRACEBACK.__set__(error, traceback)


def add_note(error: BaseException, note: str) -> None:
    """Add a note to it, if it can have notes."""
    try:
        notes = getattr(error, "__notes__", ())
        object.__setattr__(error, "__notes__", [*notes, note])
    except Exception as problem:  # noqa: BLE001 - Its class may define the attribute in any way.
        del problem
