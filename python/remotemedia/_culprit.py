"""Finds the part of an object that does not pickle, and its path: `client.lock`, `handlers[2]`."""

from __future__ import annotations

import time
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any, NamedTuple

from cloudpickle import cloudpickle as internals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    Parts = Iterable[tuple[str, Any]]
    MakePickler = Callable[[Any, Any], Any]

__all__ = ["Culprit", "find_culprit"]

_PROTOCOL = 5
_PATIENCE_SECS = 0.8
_LONGEST_PATH = 200
_PLAIN = frozenset({int, float, complex, str, bytes, bytearray, bool, type(None), type(...), range})


class Culprit(NamedTuple):
    """A part that does not pickle."""

    path: str
    """Empty if it is the object itself, or nobody knows where in it."""
    part: object
    error: BaseException

    @property
    def reason(self) -> str:
        """Its type, and what it raised."""
        kind = type(self.part)
        name = (
            kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
        )
        return f"a {name}: {type(self.error).__name__}: {self.error}"


def find_culprit(value: object, make_pickler: MakePickler) -> Culprit | None:
    """The innermost part of `value` that does not pickle; `None` if all of it does.

    A pickler stops at the culprit, so most often the only question is where that is. Where it is nowhere,
    because it comes into being while its owner is pickled, the parts are tried one by one.

    Args:
        value: What is to be pickled.
        make_pickler: Makes a pickler, with an attribute `latest`, for a file and a callback for buffers.
    """
    error, latest = _pickling_error(value, make_pickler)
    if error is None:
        return None
    if latest is not None and latest is not value:
        latest_error, _ = _pickling_error(latest, make_pickler)
        path = _path_to(latest, value) if latest_error is not None else None
        if path is not None and latest_error is not None:
            return Culprit(_shortened(path), latest, latest_error)
    return _try_parts(value, error, make_pickler)


def _pickling_error(value: object, make_pickler: MakePickler) -> tuple[BaseException | None, object]:
    """What `value` raises when it is pickled, and what the pickler was at."""
    # Large buffers are only looked at, not copied.
    pickler = make_pickler(_Nowhere(), lambda _: None)
    try:
        pickler.dump(value)
    except Exception as error:  # noqa: BLE001 - Whatever it is, the value cannot be sent.
        return error, pickler.latest
    return None, None


def _path_to(wanted: object, root: object) -> str | None:
    """The shortest path to an object inside another, by identity."""
    deadline = time.monotonic() + _PATIENCE_SECS
    # Parts that are made on the way, such as the state of an object, live on: others would get their ids.
    kept: list[Any] = []
    seen = {id(root)}
    level: list[tuple[str, Any]] = [("", root)]
    while level:
        below: list[tuple[str, Any]] = []
        for path, value in level:
            if time.monotonic() > deadline:
                return None
            for place, part in _parts(value, kept):
                if part is wanted:
                    return path + place
                if type(part) not in _PLAIN and id(part) not in seen:
                    seen.add(id(part))
                    below.append((path + place, part))
        level = below
    return None


def _try_parts(value: object, error: BaseException, make_pickler: MakePickler) -> Culprit:
    deadline = time.monotonic() + _PATIENCE_SECS
    path = ""
    seen = {id(value)}
    kept: list[Any] = []
    is_deeper = True
    while is_deeper:
        is_deeper = False
        for place, part in _parts(value, kept):
            if time.monotonic() > deadline:
                break
            if type(part) in _PLAIN or id(part) in seen:
                continue
            part_error = _pickling_error(part, make_pickler)[0]
            if part_error is not None:
                seen.add(id(part))
                path, value, error = path + place, part, part_error
                is_deeper = True
                break
    return Culprit(_shortened(path), value, error)


def _shortened(path: str) -> str:
    path = path.removeprefix(".")
    return path if len(path) <= _LONGEST_PATH else f"{path[:_LONGEST_PATH]}…"


def _parts(value: Any, kept: list[Any]) -> Parts:
    """What an object is made of, each part with the end of its path."""
    if isinstance(value, dict):
        return ((f"[{key!r}]", part) for key, part in [*value.items()] if type(part) not in _PLAIN)
    if isinstance(value, (list, tuple, set, frozenset)):
        return ((f"[{index}]", part) for index, part in enumerate(value) if type(part) not in _PLAIN)
    if isinstance(value, MethodType):
        return [(".__self__", value.__self__)]
    if isinstance(value, (FunctionType, type)):
        if internals._should_pickle_by_reference(value):  # noqa: SLF001 - As cloudpickle itself decides.
            return []
        return _used_by(value) if isinstance(value, FunctionType) else _members_of(value)
    return _state_of(value, kept)


def _used_by(function: FunctionType) -> Iterator[tuple[str, Any]]:
    """What goes with a function: the variables of its surroundings that it uses, and its defaults."""
    code = function.__code__
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=False):
        try:
            yield f".{name}", cell.cell_contents
        except ValueError:  # It has no value yet.
            continue
    for name in code.co_names:
        if name in function.__globals__:
            yield f".{name}", function.__globals__[name]
    defaults = function.__defaults__ or ()
    names = code.co_varnames[code.co_argcount - len(defaults) :]
    for name, value in (*zip(names, defaults, strict=False), *(function.__kwdefaults__ or {}).items()):
        yield f".{name}", value


def _members_of(cls: type) -> Iterator[tuple[str, Any]]:
    for name, member in [*vars(cls).items()]:
        for part in (member, getattr(member, "__func__", None), getattr(member, "fget", None)):
            if part is not None:
                yield f".{name}", part
    yield from ((f".{base.__name__}", base) for base in cls.__bases__)


def _state_of(value: Any, kept: list[Any]) -> Parts:
    """The attributes and elements that pickle would send."""
    try:
        reduced = value.__reduce_ex__(_PROTOCOL)
    except Exception:  # noqa: BLE001 - Then the object itself is what does not pickle.
        return []
    if not isinstance(reduced, tuple):
        return []
    kept.append(reduced)
    arguments, state, elements, entries = (*reduced, None, None, None, None)[1:5]
    found: list[tuple[str, Any]] = []
    for part in state if isinstance(state, tuple) else (state,):
        if isinstance(part, dict):
            found += [(f".{name}", item) for name, item in part.items()]
    found += [(f"[{index}]", item) for index, item in enumerate(elements or ())]
    found += [(f"[{key!r}]", item) for key, item in entries or ()]
    found += [(f"[{index}]", item) for index, item in enumerate(arguments or ()) if item is not type(value)]
    return [*found, (f".{type(value).__name__}", type(value))]


class _Nowhere:
    """A file that keeps nothing."""

    def write(self, data: bytes) -> int:
        return len(data)
