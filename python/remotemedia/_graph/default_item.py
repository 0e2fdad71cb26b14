"""The item that a pipeline receives if it runs without input."""

from __future__ import annotations

import builtins
import collections.abc
import functools
import typing
from types import FunctionType, UnionType
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from remotemedia._graph.annotations import innermost
from remotemedia._graph.graph import is_node
from remotemedia._graph.node_kinds import classify
from remotemedia._graph.plan_order import plan_order

if TYPE_CHECKING:
    from collections.abc import Callable

    from remotemedia._graph.graph import Graph

    Factory = Callable[[], Any]

__all__ = ["empty_item"]

_DEEPEST = 16
"""The limit on nested names of a type."""

_FACTORIES: dict[object, Factory] = {
    kind: kind for kind in (str, int, bool, bytes, bytearray, complex, list, tuple, dict, set, frozenset)
}
# An integer works for both.
_FACTORIES[float] = int
_FACTORIES |= dict.fromkeys((collections.abc.Mapping, collections.abc.MutableMapping), dict)
_FACTORIES |= dict.fromkeys((collections.abc.Set, collections.abc.MutableSet), set)
for _kind in ("Sequence", "MutableSequence", "Collection", "Iterable"):
    _FACTORIES[getattr(collections.abc, _kind)] = list

# By function and argument, because evaluating annotations takes as long as a whole run of the engine.
_known: WeakKeyDictionary[FunctionType, dict[int, Factory | None]] = WeakKeyDictionary()


def empty_item(graph: Graph) -> Any:
    """Return the empty value of the item type of the first annotated `process`, else `""`.

    A type without an empty value means `None`, unless there are earlier nodes, which would drop it.
    """
    for count, position in enumerate(plan_order(graph.entries)):
        factory = _factory_of(graph.entries[position].node)
        if factory is not None:
            return "" if factory is _nothing and count else factory()
    return ""


def _factory_of(node: Any) -> Factory | None:
    """Return the factory of the empty item of a node; `None` if its `process` is not annotated."""
    if isinstance(node, type) or not is_node(node):
        return None
    dispatching = _dispatching(node)
    if dispatching is not None:
        return _factory_of_dispatching(dispatching)
    function, place = innermost(node.process)
    known = _known.setdefault(function, {}) if type(function) is FunctionType else {}
    if place not in known:
        annotation = _annotation_of(function, place)
        if classify(node) == "streaming":
            annotation = next(iter(getattr(annotation, "__args__", ())), None)
        known[place] = None if _says_nothing(annotation) else _factory_for(annotation)
    return known[place]


def _dispatching(node: object) -> functools.singledispatchmethod[Any] | None:
    """Return the dispatching method, which looks like any function from outside."""
    found = next((vars(base)["process"] for base in type(node).__mro__ if "process" in vars(base)), None)
    return found if isinstance(found, functools.singledispatchmethod) else None


def _factory_of_dispatching(method: functools.singledispatchmethod[Any]) -> Factory | None:
    """Use the annotation of its own function, else the first type that it dispatches on."""
    annotation = _annotation_of(method.func, 1)
    if not _says_nothing(annotation):
        return _factory_for(annotation)
    factories = (_factory_for(kind) for kind in method.dispatcher.registry if kind is not object)
    return next((factory for factory in factories if factory is not _nothing), None)


def _annotation_of(function: Any, place: int) -> Any:
    try:
        code = function.__code__
        names = code.co_varnames[place : code.co_argcount]
        annotation = function.__annotations__.get(names[0]) if names else None
        return _evaluated(annotation, function.__globals__) if isinstance(annotation, str) else annotation
    except AttributeError:
        return None
    except Exception:  # noqa: BLE001 - A name that only type checkers know: a type without an empty value.
        return type(None)


def _evaluated(annotation: str, names: dict[str, Any]) -> Any:
    # A string, from `from __future__ import annotations`: source code of the node's own module.
    return eval(annotation, {**vars(builtins), **names})  # noqa: S307


def _says_nothing(annotation: Any) -> bool:
    is_free = isinstance(annotation, typing.TypeVar) and _meaning(annotation) is annotation
    return annotation is None or annotation is object or annotation is Any or is_free


def _factory_for(annotation: Any) -> Factory:
    for _ in range(_DEEPEST):
        meaning = annotation if _is_union(annotation) else _meaning(annotation)
        if meaning is annotation:
            break
        annotation = meaning
    if _is_union(annotation):
        factories = map(_factory_for, annotation.__args__)
        return next((factory for factory in factories if factory is not _nothing), _nothing)
    if not isinstance(annotation, type) or hasattr(annotation, "_fields"):
        return _nothing
    if annotation.__module__ == "numbers":
        return int
    # A subclass (a `TypedDict`, an `OrderedDict`) uses the empty value of its base.
    kinds = annotation.__mro__
    return next((_FACTORIES[kind] for kind in kinds if any(kind is one for one in _FACTORIES)), _nothing)


def _meaning(annotation: Any) -> Any:
    """Resolve one level of an alias of a type; return other types unchanged."""
    if isinstance(annotation, (type, UnionType)):
        # A generic built-in type, such as `list[int]`, is also a class.
        return getattr(annotation, "__origin__", annotation)
    if isinstance(annotation, typing.TypeVar):
        constraints = annotation.__constraints__
        union = typing.Union[constraints] if constraints else None  # noqa: UP007 - Their number varies.
        return union or annotation.__bound__ or annotation
    if isinstance(annotation, typing.ForwardRef):
        return getattr(builtins, annotation.__forward_arg__, annotation)
    if getattr(annotation, "__origin__", None) is typing.Literal:
        return type(annotation.__args__[0])
    # For `NewType`, `type X = …` and generic aliases.
    for name in ("__supertype__", "__value__", "__origin__"):
        if hasattr(annotation, name):
            return getattr(annotation, name)
    return annotation


def _is_union(annotation: Any) -> bool:
    return isinstance(annotation, UnionType) or getattr(annotation, "__origin__", None) is typing.Union


def _nothing() -> None:
    return None
