"""Records the constructor arguments of nodes.

The records are separate from the objects: nothing is added to `self`, to `vars()` or to pickles.
A node without arguments needs no record.
Values that JSON cannot represent are not kept alive: only their type is recorded.
"""

from __future__ import annotations

from _weakref import ref
from copyreg import __newobj__ as _new_object  # type: ignore[attr-defined]

TYPE_CHECKING = False  # That of `typing` costs its import.
if TYPE_CHECKING:
    import inspect
    from typing import Any

__all__ = [
    "NotJson",
    "arguments_to_keep",
    "constructor_signature",
    "find_not_json",
    "keep_record",
    "record",
    "recorded_params",
]

_JSON_TYPES = (str, int, float, bool, type(None), list, tuple, dict)
_PLAIN_TYPES = frozenset({str, bool, int, float, type(None)})
_SIMPLE_TYPES = _PLAIN_TYPES - {float}
_MOST_CONTAINERS = 10_000
_MAX_DEPTH = 200


class NotJson:
    """Replaces an argument that JSON cannot represent."""

    __slots__ = ("kind",)

    def __init__(self, kind: type) -> None:
        self.kind = kind


class _Record(ref):  # type: ignore[type-arg] # It takes no parameters at run time.
    """The arguments of one object, as long as it exists; `args` is `None` if they are not known."""

    __slots__ = ("args", "key", "kwargs")

    args: tuple[Any, ...] | None
    key: int
    kwargs: dict[str, Any]


_records: dict[int, _Record] = {}

# Never changed: records are copied before they are returned.
_NO_KWARGS: dict[str, Any] = {}


def record(node: object, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Record the constructor arguments of `node`."""
    entry = _new_record(node)
    entry.args = tuple(map(_kept, args)) if args else ()
    entry.kwargs = {name: _kept(value) for name, value in kwargs.items()} if kwargs else _NO_KWARGS


def recorded_params(node: object) -> dict[str, Any] | None:
    """Return the constructor arguments of `node` by name, or `None` if they were not recorded.

    Raises:
        TypeError: If an argument has no name: one of `*args`, or positional-only.
    """
    entry = _record_of(node)
    if entry is None:
        return {} if _needs_no_record(node) else None
    if entry.args is None:
        return None
    if not entry.args:
        return dict(entry.kwargs)
    parameters = list(constructor_signature(type(node)).parameters.values())
    params: dict[str, Any] = {}
    for index, value in enumerate(entry.args):
        parameter = parameters[min(index, len(parameters) - 1)]
        if parameter.kind is not parameter.POSITIONAL_OR_KEYWORD:
            raise TypeError(f"the parameter '{parameter.name}' of its constructor is positional-only")
        params[parameter.name] = value
    return {**params, **entry.kwargs}


def keep_record(node: object, reduced: Any) -> Any:
    """Add the record to the result of `__reduce_ex__`: a copy has the arguments of its original."""
    # Only for objects that are rebuilt without their constructor, which would record again.
    if not isinstance(reduced, tuple) or reduced[0] is not _new_object:
        return reduced
    kept = arguments_to_keep(node)
    if kept is None and _record_of(node) is None and _needs_no_record(node):
        kept = (), _NO_KWARGS
    return (_rebuild, (kept, *reduced[1]), *reduced[2:])


def arguments_to_keep(node: object) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    """Return the recorded arguments that a copy of `node` receives; `None` if JSON cannot represent them."""
    entry = _record_of(node)
    if entry is None or entry.args is None:
        return None
    if _is_simple(entry.args, entry.kwargs) or _is_small_json([entry.args, entry.kwargs]):
        return entry.args, entry.kwargs
    return None


def find_not_json(value: Any, path: str = "", depth: int = 0) -> tuple[str, Any] | None:
    """Return path and value of the first part of `value` that JSON cannot represent."""
    if value is None or isinstance(value, (str, bool, int)):
        return None
    if isinstance(value, float):
        return None if value - value == 0 else (path, value)
    if depth > _MAX_DEPTH or not isinstance(value, (list, tuple, dict)):
        return path, value
    for place, item in _parts(value, path):
        if found := find_not_json(item, place, depth + 1):
            return found
    return None


def _is_simple(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether JSON can represent the arguments, by their types alone; true for most nodes, and fast."""
    return _SIMPLE_TYPES.issuperset(map(type, args)) and _SIMPLE_TYPES.issuperset(map(type, kwargs.values()))


def _is_small_json(value: Any) -> bool:
    """Whether JSON can represent a value with few containers, so that the check is cheap during a copy."""
    waiting = [value]
    looked_at = 0
    while waiting:
        part = waiting.pop()
        looked_at += 1
        if not isinstance(part, (list, tuple, dict)):
            if find_not_json(part) is not None:
                return False
            continue
        if isinstance(part, dict) and not all(isinstance(key, str) for key in part):
            return False
        items = part.values() if isinstance(part, dict) else part
        kinds = set(map(type, items))
        if float in kinds and not all(item - item == 0 for item in items if type(item) is float):
            return False
        if not kinds <= _PLAIN_TYPES:
            waiting += [item for item in items if type(item) not in _PLAIN_TYPES]
        if looked_at + len(waiting) > _MOST_CONTAINERS:
            return False
    return True


def constructor_signature(kind: type) -> inspect.Signature:
    """Return the signature of a constructor, without `self`."""
    import inspect

    signature = inspect.signature(kind.__init__)  # type: ignore[misc] # The one of this very class.
    parameters = list(signature.parameters.values())[1:]
    return signature.replace(parameters=parameters, return_annotation=inspect.Signature.empty)


def _parts(value: list[Any] | tuple[Any, ...] | dict[Any, Any], path: str) -> list[tuple[str, Any]]:
    if not isinstance(value, dict):
        return [(f"{path}[{index}]", item) for index, item in enumerate(value)]
    # JSON cannot represent a key that is not a str; it counts for its whole entry.
    return [
        (f"{path}[{key!r}]" if path else str(key), item if isinstance(key, str) else NotJson(type(key)))
        for key, item in value.items()
    ]


def _kept(value: Any) -> Any:
    return value if isinstance(value, (*_JSON_TYPES, NotJson)) else NotJson(type(value))


def _needs_no_record(node: object) -> bool:
    """Whether an object without a record is a node that was created without arguments."""
    from remotemedia.core.node import Node

    return type(node).__new__ is Node.__new__


def _record_of(node: object) -> _Record | None:
    entry = _records.get(id(node))
    return entry if entry is not None and entry() is node else None


def _new_record(node: object) -> _Record:
    entry = _Record(node, _forget)
    entry.key = id(node)
    _records[entry.key] = entry
    return entry


def _rebuild(saved: tuple[tuple[Any, ...], dict[str, Any]] | None, kind: type, *args: Any) -> object:
    node: object = kind.__new__(kind, *args)
    if saved is None:
        entry = _new_record(node)
        entry.args, entry.kwargs = None, _NO_KWARGS
    else:
        record(node, *saved)
    return node


def _forget(entry: _Record, records: dict[int, _Record] = _records) -> None:
    if records.get(entry.key) is entry:
        del records[entry.key]
