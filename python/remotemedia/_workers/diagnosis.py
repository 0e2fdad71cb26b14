"""Finds the part of an object that cannot be pickled, and its path: `client.lock`, `handlers[2]`.

A pickler only raises. The object is therefore reduced once more, in the same order and in the same way, until
the same part fails; the objects that are being reduced then form the path.
"""

from __future__ import annotations

import sys
from functools import cached_property
from itertools import chain
from pickle import PickleBuffer
from types import CellType, FunctionType, MethodType
from typing import TYPE_CHECKING, Any, NamedTuple

from cloudpickle import cloudpickle as internals

from remotemedia._workers.pickling_functions import CachedFunction

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    Parts = Iterator[tuple[str, Any]]

__all__ = ["NOWHERE", "Diagnosis", "diagnose"]

_PROTOCOL = 5
_LONGEST_PATH = 200
_PLAIN = frozenset({int, float, complex, str, bytes, bytearray, bool, type(None), type(...), range})

_CONTAINERS = frozenset({list, tuple, set, frozenset})
_BY_ITSELF = (type, FunctionType, PickleBuffer)

_WRAPPERS = (CellType, CachedFunction, staticmethod, classmethod, property, cached_property)
"""Wrappers do not appear in the path: only the wrapped object does."""


class _Nowhere:
    def write(self, data: bytes) -> int:
        return len(data)


NOWHERE = _Nowhere()
"""A file that discards its data."""


class Diagnosis(NamedTuple):
    """The part of an object that cannot be pickled, and why."""

    path: str
    """Empty if the part is the object itself, or if its path is not known."""
    part: object
    error: BaseException
    is_of_code: bool = False
    """Whether the part is a global of a function or belongs to a class, and not to an object."""

    @property
    def reason(self) -> str:
        """Its type, and the exception."""
        kind = type(self.part)
        name = (
            kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
        )
        return f"a {name}: {type(self.error).__name__}: {self.error}"


class _Entered(NamedTuple):
    """An object on the path to the failing part, and its reduction."""

    value: Any
    arguments: tuple[Any, ...] = ()
    state: Any = None
    elements: Sequence[Any] = ()
    entries: Sequence[tuple[Any, Any]] = ()


def diagnose(value: object, error: BaseException, pickler: Any) -> Diagnosis:
    """Return the innermost part of `value` that cannot be pickled.

    Args:
        value: The object that could not be pickled.
        error: The exception.
        pickler: Reduces objects in the same way as the pickler that failed.
    """
    is_too_deep = isinstance(error.__cause__, RecursionError)
    way = _way_to_failure(value, pickler, _LONGEST_PATH if is_too_deep else sys.maxsize)
    if not way:
        return Diagnosis("", value, error)
    path, is_of_code = _path_along(way)
    return Diagnosis(_shortened(path), way[-1].value, error, is_of_code)


def _way_to_failure(value: object, pickler: Any, longest: int) -> list[_Entered]:
    """Return the objects that are being reduced when the pickler fails, or when the path is too long."""
    seen: dict[int, Any] = {}
    way: list[_Entered] = []
    pending: list[Iterator[Any]] = [iter((value,))]
    while pending:
        for part in pending[-1]:
            if type(part) in _PLAIN or id(part) in seen:
                continue
            # Kept alive, so that no other object reuses its id.
            seen[id(part)] = part
            try:
                entered, parts = _enter(part, pickler)
            except Exception:  # noqa: BLE001 - The first error is the one to report.
                return [*way, _Entered(part)]
            way.append(entered)
            if len(way) > longest:
                return way
            pending.append(iter(parts))
            break
        else:
            pending.pop()
            if way:
                way.pop()
    return []


def _enter(value: Any, pickler: Any) -> tuple[_Entered, Iterable[Any]]:
    """Reduce an object, and return its parts in pickling order."""
    kind = type(value)
    if kind is dict:
        return _Entered(value), chain.from_iterable(value.items())
    if kind in _CONTAINERS:
        return _Entered(value), value
    reduced = pickler.reducer_override(value)
    if reduced is NotImplemented and not isinstance(value, _BY_ITSELF):
        reduce = pickler.dispatch_table.get(kind)
        reduced = value.__reduce_ex__(_PROTOCOL) if reduce is None else reduce(value)
    if not isinstance(reduced, tuple):
        # It is pickled by name.
        pickler.dump(value)
        return _Entered(value), ()
    function, arguments, state, elements, entries = (*reduced, None, None, None)[:5]
    entered = _Entered(value, arguments, state, [*(elements or ())], [*(entries or ())])
    return entered, (function, arguments, *entered.elements, *chain(*entered.entries), state)


def _path_along(way: list[_Entered]) -> tuple[str, bool]:
    """Return the path along these objects, and whether it leads through code."""
    path, is_of_code = "", False
    position = 0
    while position < len(way) - 1:
        # Between an object and its part are the tuples and dicts of its reduction.
        behind = {id(way[index].value): index for index in range(position + 1, len(way))}
        whole = way[position]
        parts = [(behind[id(part)], place) for place, part in _parts(whole) if id(part) in behind]
        if not parts:
            break
        # A part of both a class and an attribute counts as an attribute.
        position, place = max(parts, key=lambda part: part[0])
        path += place
        is_of_code = is_of_code or _is_of_code(whole.value, place.removeprefix("."))
    return path, is_of_code


def _is_of_code(whole: object, name: str) -> bool:
    """Whether a name in a class or function cannot be changed through the object."""
    if isinstance(whole, FunctionType):
        return name in whole.__globals__ and name not in whole.__code__.co_freevars
    return isinstance(whole, type)


def _shortened(path: str) -> str:
    path = path.removeprefix(".")
    return path if len(path) <= _LONGEST_PATH else f"{path[:_LONGEST_PATH]}…"


def _parts(whole: _Entered) -> Parts:
    """Return the parts of an object, each with the end of its path."""
    value = whole.value
    if isinstance(value, dict):
        yield from ((f"[{key!r}]", part) for key, part in value.items())
    elif isinstance(value, (list, tuple, set, frozenset)):
        yield from ((f"[{index}]", part) for index, part in enumerate(value))
    elif isinstance(value, _WRAPPERS):
        yield from (("", part) for part in whole.arguments)
    elif isinstance(value, MethodType):
        yield ".__self__", value.__self__
    elif isinstance(value, FunctionType):
        yield from ((f".{name}", part) for name, part in _used_by(value).items())
    elif isinstance(value, type):
        yield from ((f".{name}", member) for name, member in vars(value).items())
        yield from ((f".{base.__name__}", base) for base in value.__bases__)
    yield f".{type(value).__name__}", type(value)
    yield from ((f"[{index}]", part) for index, part in enumerate(whole.arguments))
    yield from ((f"[{index}]", part) for index, part in enumerate(whole.elements))
    yield from ((f"[{key!r}]", part) for key, part in whole.entries)
    for state in whole.state if isinstance(whole.state, tuple) else (whole.state,):
        if isinstance(state, dict):
            yield from ((f".{name}", part) for name, part in state.items())


def _used_by(function: FunctionType) -> dict[str, Any]:
    """Return what is pickled with a function: the outer variables that it uses, and its defaults."""
    code = function.__code__
    names = internals._extract_code_globals(code)  # noqa: SLF001 - Includes those of nested functions.
    used = {name: function.__globals__[name] for name in names if name in function.__globals__}
    used |= zip(code.co_freevars, function.__closure__ or (), strict=False)
    arguments = code.co_varnames[: code.co_argcount]
    used |= zip(reversed(arguments), reversed(function.__defaults__ or ()), strict=False)
    return used | (function.__kwdefaults__ or {})
