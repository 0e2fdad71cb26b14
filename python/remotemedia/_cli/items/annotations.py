"""What the first nodes of a pipeline take, and what the last ones return, by their annotations."""

from __future__ import annotations

import functools
import typing
from collections import abc
from types import FunctionType, SimpleNamespace
from typing import TYPE_CHECKING, Any

from remotemedia._graph.annotations import innermost
from remotemedia._graph.node_kinds import classify

if TYPE_CHECKING:
    from remotemedia._graph.graph import Entry, Graph

__all__ = ["first_entries", "input_type", "last_entries", "output_type"]

_STREAMS = (abc.Iterator, abc.Generator, abc.AsyncIterator, abc.AsyncGenerator)
"""Types whose parts are the outputs."""

_STREAMS_OF_GENERATORS = (abc.Iterable, abc.AsyncIterable)
"""As well, if the node is a generator; otherwise they may be lists, which are one output."""

_BATCHES = (list, tuple, abc.Sequence, abc.MutableSequence, abc.Collection, abc.Iterable)

_AWAITABLES = (abc.Awaitable, abc.Coroutine)


def first_entries(graph: Graph) -> list[Entry]:
    """Return the nodes that receive the input."""
    return [entry for entry in graph.entries if not entry.after]


def last_entries(graph: Graph) -> list[Entry]:
    """Return the nodes whose outputs are those of the pipeline."""
    inner = {before for entry in graph.entries for before in entry.after}
    return [entry for entry in graph.entries if entry.id not in inner]


def input_type(entry: Entry) -> Any:
    """Return the type of items that a node takes; `Any` if that is not known."""
    function, place = _function_of(entry.node)
    code = getattr(function, "__code__", None)
    if code is None:
        return Any
    names = code.co_varnames[place : code.co_argcount]
    annotation = _annotation(function, names[0]) if names else Any
    if classify(entry.node) == "streaming":
        return _part(annotation, (*_STREAMS, *_STREAMS_OF_GENERATORS))
    return _part(annotation, _BATCHES) if "batch" in entry.options else annotation


def output_type(entry: Entry) -> Any:
    """Return the type of one output of a node; `Any` if that is not known."""
    function, _ = _function_of(entry.node)
    if function is None:
        return Any
    annotation = _annotation(function, "return")
    origin = typing.get_origin(annotation) or annotation
    if origin in _AWAITABLES:
        annotation = next(reversed(typing.get_args(annotation)), Any)
        origin = typing.get_origin(annotation) or annotation
    is_generator = classify(entry.node) not in {"plain", "coroutine"}
    streams = (*_STREAMS, *_STREAMS_OF_GENERATORS) if is_generator else _STREAMS
    if is_generator or origin in streams:
        annotation = _part(annotation, streams)
    return _part(annotation, _BATCHES) if "batch" in entry.options else annotation


def _function_of(node: Any) -> tuple[Any, int]:
    """Return the function of `process`, and the position of the item among its arguments."""
    process = getattr(node, "process", None)
    # A function that makes nodes does not say which.
    if not callable(process) or _is_dispatching(node):
        return None, 0
    function, place = innermost(process)
    is_method_of_class = isinstance(node, type) and type(process) is FunctionType
    return function, place + is_method_of_class


def _is_dispatching(node: object) -> bool:
    """Whether there are several functions, for several types."""
    kind = node if isinstance(node, type) else type(node)
    found = next((vars(base)["process"] for base in kind.__mro__ if "process" in vars(base)), None)
    return isinstance(found, functools.singledispatchmethod)


def _annotation(function: Any, name: str) -> Any:
    """Return an annotation, evaluated in the module of its function; `Any` if there is none, or it fails."""
    try:
        written = function.__annotations__[name]
        one = SimpleNamespace(__annotations__={name: written})
        names = _names_for_type_checkers() | function.__globals__
        return typing.get_type_hints(one, names, include_extras=True)[name]
    except Exception:  # noqa: BLE001 - It is code of the user: a name that only type checkers know, for example.
        return Any


@functools.cache
def _names_for_type_checkers() -> dict[str, Any]:
    """Return what modules often import only if `TYPE_CHECKING`."""
    from remotemedia.audio import AudioFrame

    names = {name: getattr(module, name) for module in (typing, abc) for name in module.__all__}
    return names | {"AudioFrame": AudioFrame}


def _part(annotation: Any, kinds: tuple[Any, ...]) -> Any:
    """Return the type of the parts of a stream or list; `Any` if it is not known."""
    arguments = typing.get_args(annotation)
    if typing.get_origin(annotation) not in kinds or not arguments:
        return Any
    if typing.get_origin(annotation) is tuple and arguments[1:] != (...,):
        return Any
    return arguments[0]
