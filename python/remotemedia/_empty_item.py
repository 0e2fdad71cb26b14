"""The one item that a pipeline gets when it is run without input."""

from __future__ import annotations

import builtins
import sys
from types import UnionType
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from remotemedia._kinds import classify, function_of
from remotemedia.core._graph import plan_order

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FunctionType

    from remotemedia.core._graph import Graph

    Factory = Callable[[], Any]

__all__ = ["empty_item"]

_FACTORIES: dict[object, Factory] = {
    kind: kind for kind in (str, int, bool, bytes, bytearray, complex, list, tuple, dict, set, frozenset)
}
# Zero is zero; a whole number works for both.
_FACTORIES[float] = int

# What the annotations of a function say: to evaluate them takes as long as a whole call of the engine.
_known: WeakKeyDictionary[FunctionType, Factory | None] = WeakKeyDictionary()


def empty_item(graph: Graph) -> Any:
    """The empty value of the type that the first annotated `process` along the way takes, else `None`."""
    for position in plan_order(graph.entries):
        factory = _factory_of(graph.entries[position].node)
        if factory is not None:
            return factory()
    return None


def _factory_of(node: object) -> Factory | None:
    """What makes the empty item of a node; `None` if its `process` is not annotated."""
    process = node.process  # type: ignore[attr-defined]
    function = function_of(process)
    if function is None:
        return None
    if function not in _known:
        is_method = type(process) is not type(function)
        annotation = _annotation_of(function, 1 if is_method else 0)
        if classify(node) == "streaming":
            annotation = next(iter(getattr(annotation, "__args__", ())), None)
        _known[function] = None if _says_nothing(annotation) else _factory_for(annotation)
    return _known[function]


def _annotation_of(function: FunctionType, position: int) -> Any:
    names = function.__code__.co_varnames[position : function.__code__.co_argcount]
    try:
        annotation = function.__annotations__.get(names[0]) if names else None
        if isinstance(annotation, str):
            # As `from __future__ import annotations` leaves it. It is source code of the node's own module.
            annotation = eval(annotation, {**vars(builtins), **function.__globals__})  # noqa: S307
    except Exception:  # noqa: BLE001 - A name that only type checkers know: some type, but none that has an empty value.
        return type(None)
    return annotation


def _says_nothing(annotation: Any) -> bool:
    typing = sys.modules.get("typing")
    is_free = typing is not None and (annotation is typing.Any or isinstance(annotation, typing.TypeVar))
    return annotation is None or annotation is object or is_free


def _factory_for(annotation: Any) -> Factory:
    if _is_union(annotation):
        known = [
            member for member in annotation.__args__ if getattr(member, "__origin__", member) in _FACTORIES
        ]
        annotation = known[0] if known else None
    return _FACTORIES.get(getattr(annotation, "__origin__", annotation), _nothing)


def _is_union(annotation: Any) -> bool:
    typing = sys.modules.get("typing")
    return isinstance(annotation, UnionType) or (
        typing is not None and getattr(annotation, "__origin__", None) is typing.Union
    )


def _nothing() -> None:
    return None
