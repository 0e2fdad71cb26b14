"""Finds the part of an object that does not pickle, and its path: `client.lock`, `handlers[2]`.

A pickler stops at the culprit, and what it was at before leads there, mostly: it is part of what has the
culprit. Otherwise what it remembers does: of the parts of an object that it has not finished, it went into
the last that it knows, or into the first that it does not. So only the parts on the way are looked at, of a
million. Where that leads nowhere, all are, as long as patience lasts.
"""

from __future__ import annotations

import heapq
import time
from functools import cached_property
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any, NamedTuple

from cloudpickle import cloudpickle as internals

from remotemedia._workers.pickling_functions import CachedFunction

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    # Where in the whole: an index, a key in a tuple of its own, or what ends the path.
    Place = int | tuple[Any] | str
    Parts = Iterable[tuple[Place, Any]]
    Memo = dict[int, tuple[int, Any]]
    MakePickler = Callable[[Any, Any], Any]

__all__ = ["NOWHERE", "Culprit", "find_culprit"]

_PROTOCOL = 5
_PATIENCE_SECS = 0.8
_LONGEST_PATH = 200
_PLAIN = frozenset({int, float, complex, str, bytes, bytearray, bool, type(None), type(...), range})

_FUNCTIONS_OF: dict[type, tuple[str, ...]] = {
    staticmethod: ("__func__",),
    classmethod: ("__func__",),
    property: ("fget", "fset", "fdel"),
    cached_property: ("func",),
}

_MOST_WAYS = 4
"""Parts of one object that may be the one the pickler went into."""


class _Nowhere:
    def write(self, data: bytes) -> int:
        return len(data)


NOWHERE = _Nowhere()
"""A file that keeps nothing."""


class Culprit(NamedTuple):
    """A part that does not pickle."""

    path: str
    """Empty if it is the object itself, or nobody knows where in it."""
    part: object
    error: BaseException
    is_of_code: bool = False
    """Whether it is a global of a function, or belongs to a class, rather than to an object."""

    @property
    def reason(self) -> str:
        """Its type, and what it raised."""
        kind = type(self.part)
        name = (
            kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
        )
        return f"a {name}: {type(self.error).__name__}: {self.error}"


class _Way(NamedTuple):
    """How to get to a part."""

    path: str
    part: Any
    is_of_code: bool = False

    def to(self, place: Place, part: object) -> _Way:
        if isinstance(place, tuple):
            place = f"[{place[0]!r}]"
        elif isinstance(place, int):
            place = f"[{place}]"
        return _Way(
            self.path + place, part, self.is_of_code or _is_of_code(self.part, place.removeprefix("."))
        )


def find_culprit(value: object, error: BaseException, pickler: Any, make_pickler: MakePickler) -> Culprit:
    """The innermost part of `value` that does not pickle, as far as it can be found.

    Args:
        value: What was to be pickled.
        error: What that raised.
        pickler: The one that failed. It was at its `latest`, and before at its `recent`.
        make_pickler: Makes another one, for a file and a callback for buffers.
    """
    root = _Way("", value)
    way = _follow_recent(pickler, root)
    part_error = _pickling_error(pickler.latest, make_pickler) if way is not None else None
    if way is not None and part_error is not None:
        return _try_parts(way, part_error, make_pickler)
    memo: Memo = pickler.memo.copy()
    # What came into being only while its owner was pickled is nowhere, but the owner was pickled before it.
    for part in (pickler.latest, *reversed(pickler.recent)):
        if part is value:
            break
        way = _follow_pickler(part, root, memo)
        part_error = _pickling_error(part, make_pickler) if way is not None else None
        if way is not None and part_error is not None:
            return _try_parts(way, part_error, make_pickler)
    if pickler.latest is not value:
        part_error = _pickling_error(pickler.latest, make_pickler)
        way = _search(pickler.latest, root) if part_error is not None else None
        if way is not None and part_error is not None:
            return _try_parts(way, part_error, make_pickler)
    return _try_parts(root, error, make_pickler)


def _pickling_error(value: object, make_pickler: MakePickler) -> BaseException | None:
    """What `value` raises when it is pickled."""
    try:
        # Large buffers are only looked at, not copied.
        make_pickler(NOWHERE, lambda _: None).dump(value)
    except Exception as error:  # noqa: BLE001 - Whatever it is, the value cannot be sent.
        return error
    return None


def _follow_recent(pickler: Any, root: _Way) -> _Way | None:
    """The way to where a pickler failed, by the objects at which it was before: at first, and at last."""
    before = (*pickler.first, *pickler.recent, pickler.latest)
    ranks = {id(part): rank for rank, part in enumerate(before)}
    kept: list[Any] = []
    way, reached = root, ranks.get(id(root.part), -1)
    for _ in range(_LONGEST_PATH):
        if way.part is pickler.latest:
            return way
        parts = [*_parts(way.part, kept)]
        found = max(parts, key=lambda entry: ranks.get(id(entry[1]), -1), default=("", None))
        rank = ranks.get(id(found[1]), -1)
        if rank <= reached:
            # It is none of them itself, but may be in one of them.
            later = {part_id for part_id, rank in ranks.items() if rank > reached}
            found = next((entry for entry in reversed(parts) if _has_one_of(later, entry[1])), ("", None))
            if found[1] is None:
                return None
        way, reached = way.to(*found), max(rank, reached)
    return None


def _has_one_of(ids: set[int], part: object) -> bool:
    """Whether a part is a container with one of these objects in it."""
    if isinstance(part, dict):
        part = part.values()
    elif not isinstance(part, (list, tuple, set, frozenset)):
        return False
    return not ids.isdisjoint(map(id, part))


def _follow_pickler(wanted: object, root: _Way, memo: Memo) -> _Way | None:
    """The way to an object at which a pickler was when it failed."""
    deadline = time.monotonic() + _PATIENCE_SECS
    # Parts that are made on the way, such as the state of an object, live on: others would get their ids.
    kept: list[Any] = []
    seen = {id(root.part)}
    ways = [root]
    while ways and time.monotonic() < deadline:
        way = ways.pop()
        for place, part in _likeliest(wanted, _parts(way.part, kept), memo, memo.get(id(way.part), (-1,))[0]):
            if part is wanted:
                return way.to(place, part)
            if id(part) not in seen:
                seen.add(id(part))
                ways.append(way.to(place, part))
    return None


def _likeliest(wanted: object, parts: Parts, memo: Memo, number_of_whole: int) -> Parts:
    """The parts that the pickler may have been in, the likeliest last, or just the one that is wanted."""
    latest: list[tuple[int, int, Place, Any]] = []
    unknown: list[tuple[Place, Any]] = []
    for position, (place, part) in enumerate(parts):
        if part is wanted:
            return [(place, part)]
        if type(part) in _PLAIN:
            continue
        entry = memo.get(id(part))
        if entry is not None:
            if entry[0] > number_of_whole:
                add = heapq.heappush if len(latest) < _MOST_WAYS else heapq.heappushpop
                add(latest, (entry[0], position, place, part))
        elif len(unknown) < _MOST_WAYS:
            unknown.append((place, part))
    return [*reversed(unknown), *((place, part) for _, _, place, part in sorted(latest))]


def _search(wanted: object, root: _Way) -> _Way | None:
    """The shortest way to an object inside another, by identity."""
    deadline = time.monotonic() + _PATIENCE_SECS
    kept: list[Any] = []
    seen = {id(root.part)}
    level = [root]
    while level:
        below: list[_Way] = []
        for way in level:
            if time.monotonic() > deadline:
                return None
            for place, part in _parts(way.part, kept):
                if part is wanted:
                    return way.to(place, part)
                if type(part) not in _PLAIN and id(part) not in seen:
                    seen.add(id(part))
                    below.append(way.to(place, part))
        level = below
    return None


def _try_parts(way: _Way, error: BaseException, make_pickler: MakePickler) -> Culprit:
    """Go deeper, one part that does not pickle after the other."""
    deadline = time.monotonic() + _PATIENCE_SECS
    seen = {id(way.part)}
    kept: list[Any] = []
    is_deeper = True
    while is_deeper:
        is_deeper = False
        for place, part in _parts(way.part, kept):
            if time.monotonic() > deadline:
                break
            if type(part) in _PLAIN or id(part) in seen:
                continue
            part_error = _pickling_error(part, make_pickler)
            if part_error is not None:
                seen.add(id(part))
                way, error = way.to(place, part), part_error
                is_deeper = True
                break
    return Culprit(_shortened(way.path), way.part, error, way.is_of_code)


def _is_of_code(whole: object, name: str) -> bool:
    """Whether what has this name in a class or function is out of the reach of the object that has it."""
    if isinstance(whole, FunctionType):
        return name in whole.__globals__ and name not in whole.__code__.co_freevars
    return isinstance(whole, type)


def _shortened(path: str) -> str:
    path = path.removeprefix(".")
    return path if len(path) <= _LONGEST_PATH else f"{path[:_LONGEST_PATH]}…"


def _parts(value: Any, kept: list[Any]) -> Parts:
    """What an object is made of, each part with the end of its path."""
    if isinstance(value, dict):
        return [((key,), part) for key, part in value.items()]
    if isinstance(value, (list, tuple, set, frozenset)):
        return enumerate(value)
    if isinstance(value, (MethodType, CachedFunction)):
        # What a function with a cache wraps, is the function to those who read the code.
        return [(".__self__", value.__self__) if isinstance(value, MethodType) else ("", value.__wrapped__)]
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
    for name in internals._extract_code_globals(code):  # noqa: SLF001 - With those of the functions inside it.
        if name in function.__globals__:
            yield f".{name}", function.__globals__[name]
    defaults = function.__defaults__ or ()
    names = code.co_varnames[code.co_argcount - len(defaults) :]
    for name, value in (*zip(names, defaults, strict=False), *(function.__kwdefaults__ or {}).items()):
        yield f".{name}", value


def _members_of(cls: type) -> Iterator[tuple[str, Any]]:
    for name, member in [*vars(cls).items()]:
        yield f".{name}", member
        for inside in _FUNCTIONS_OF.get(type(member), ()):
            yield f".{name}", getattr(member, inside)
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
    found: list[tuple[Place, Any]] = []
    found += [(index, item) for index, item in enumerate(arguments or ()) if item is not type(value)]
    found += enumerate(elements or ())
    found += [((key,), item) for key, item in entries or ()]
    for part in state if isinstance(state, tuple) else (state,):
        if isinstance(part, dict):
            found += [(f".{name}", item) for name, item in part.items()]
    return [*found, (f".{type(value).__name__}", type(value))]
