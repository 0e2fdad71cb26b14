"""The kinds of nodes, and the kinds of results of their calls.

Only this module distinguishes coroutines, generators and plain functions.
"""

from __future__ import annotations

import sys
from types import AsyncGeneratorType, CoroutineType, FunctionType, GeneratorType, MethodType

TYPE_CHECKING = False  # That of `typing` costs its import.
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Literal

    Kind = Literal["plain", "generator", "coroutine", "async_generator"]
    NodeKind = Literal["plain", "generator", "coroutine", "async_generator", "streaming"]

__all__ = [
    "classify",
    "function_of",
    "has_methods",
    "is_marked",
    "is_source",
    "makes_coroutines",
    "misfit",
    "return_kind",
    "thread_for",
]

# The flags of code objects, as in `inspect`, which takes longer to import than this whole package.
_VARARGS = 0x04
_GENERATOR = 0x20
_COROUTINE = 0x80
_ITERABLE_COROUTINE = 0x100
_ASYNC_GENERATOR = 0x200
# How `inspect`, and `asyncio` before Python 3.12, mark functions: module, attribute, mark in the module.
_MARKS = (
    ("inspect", "_is_coroutine_marker", "_is_coroutine_mark"),
    # For the first releases of Python 3.12.
    ("inspect", "_is_coroutine_marker", "_is_coroutine_marker"),
    ("asyncio.coroutines", "_is_coroutine", "_is_coroutine"),
)
_DEEPEST = 16
"""The limit on nested wrappers of a function, because some objects are nested without end."""

_ANY_KIND = _GENERATOR | _COROUTINE | _ITERABLE_COROUTINE | _ASYNC_GENERATOR

_KINDS: dict[int, NodeKind] = {
    0: "plain",
    _GENERATOR: "generator",
    _COROUTINE: "coroutine",
    _ITERABLE_COROUTINE: "coroutine",
    _GENERATOR | _ITERABLE_COROUTINE: "coroutine",
    _ASYNC_GENERATOR: "async_generator",
}
"""The kinds of ordinary functions, by their flags."""


def classify(node: object) -> NodeKind:
    """Return the kind of `process` of a node.

    `plain` means that its code visibly creates neither a coroutine nor a generator; a call may still return
    one, which `return_kind` detects.
    """
    process = node.process  # type: ignore[attr-defined]
    function = process.__func__ if type(process) is MethodType else None
    if type(function) is not FunctionType:
        function = function_of(process)
    elif not function.__dict__ and getattr(node, "is_streaming", False) is not True:
        # An ordinary method, in most cases: without marks and other attributes.
        return _KINDS[function.__code__.co_flags & _ANY_KIND]
    flags = _flags_of(function) & _ANY_KIND
    if getattr(node, "is_streaming", False) is True and _may_stream(function):
        return "streaming"
    if flags & _ASYNC_GENERATOR:
        return "async_generator"
    if flags & _GENERATOR and not flags & _ITERABLE_COROUTINE:
        return "generator"
    return "coroutine" if flags or is_marked(process) else "plain"


def makes_coroutines(function: object) -> bool:
    """Whether a callable is visibly async."""
    method = function.__func__ if type(function) is MethodType else function
    if type(method) is FunctionType:
        # An ordinary one, in most cases.
        return bool(method.__code__.co_flags & _COROUTINE) or is_marked(method)
    return bool(_flags_of(function_of(function)) & _COROUTINE) or is_marked(function)


def return_kind(value: object) -> Kind:
    """Return the kind of a result of `process`, `flush`, `initialize` or `cleanup`.

    Coroutines and other awaitables are awaited, and their result is classified again; generators are drained;
    everything else is a value. Objects of Cython, mypyc and Nuitka are recognized by their methods.
    """
    kind = type(value)
    if kind is GeneratorType:
        is_coroutine = value.gi_code.co_flags & _ITERABLE_COROUTINE  # type: ignore[attr-defined]
        return "coroutine" if is_coroutine else "generator"
    if kind is CoroutineType:
        return "coroutine"
    if kind is AsyncGeneratorType:
        return "async_generator"
    # Most values have none of these.
    if hasattr(kind, "__await__") or hasattr(kind, "__anext__") or hasattr(kind, "__next__"):
        return _kind_by_methods(kind)
    return "plain"


def _kind_by_methods(kind: type) -> Kind:
    if has_methods(kind, "__await__"):
        return "coroutine"
    if has_methods(kind, "asend", "athrow", "aclose", "__anext__", "__aiter__"):
        return "async_generator"
    return "generator" if has_methods(kind, "send", "throw", "close", "__next__", "__iter__") else "plain"


def has_methods(kind: type, *names: str) -> bool:
    """Whether instances of a class have all of these methods; those of its metaclass do not count."""
    return all(_has_method(kind, name) for name in names)


def _has_method(kind: type, name: str) -> bool:
    # The usual case, that the class has none of them, is checked first.
    if not hasattr(kind, name):
        return False
    return next((vars(base)[name] for base in kind.__mro__ if name in vars(base)), None) is not None


def is_source(node: object) -> bool:
    """Whether `process` of a node takes no item, so its outputs are the input of the pipeline."""
    process = node.process  # type: ignore[attr-defined]
    if type(process) is MethodType and type(process.__func__) is FunctionType:
        code = process.__func__.__code__
        if code.co_argcount > 1:
            return False
        if not code.co_flags & _VARARGS:
            return code.co_argcount == 1
    return _takes_nothing(process)


def thread_for(nodes: Sequence[object]) -> Literal["caller", "session"] | None:
    """Return the thread for the `def` nodes of a session of plain Python; `None` for any thread.

    A `def` node that defines `initialize` or `cleanup` must stay on one thread, because its resources may
    belong to the thread: a `sqlite3` connection, a GL context. That is the calling thread, unless another
    node is async: `put` does not wait for coroutines, so the session runs its `def` nodes on its own thread.
    """
    on_threads = [node for node in nodes if classify(node) in {"plain", "generator"}]
    if not any(_has_own_lifecycle(node) for node in on_threads):
        return None
    return "caller" if len(on_threads) == len(nodes) else "session"


def _has_own_lifecycle(node: object) -> bool:
    from remotemedia.core.node import Node

    for name in ("initialize", "cleanup"):
        method = getattr(node, name, None)
        if method is not None and getattr(method, "__func__", method) is not getattr(Node, name):
            return True
    return False


def misfit(node: object) -> str | None:
    """Return why the engine cannot call `process` of a node with one item or none; `None` if it can.

    Only plain functions are checked: a decorator may pass other arguments than it receives.
    """
    process = node.process  # type: ignore[attr-defined]
    is_method = type(process) is MethodType
    function = process.__func__ if is_method else process
    if type(function) is not FunctionType:
        return None
    code = function.__code__
    if is_method and not code.co_argcount and not code.co_flags & _VARARGS:
        return "process() takes no self; define process(self, data)"
    required = code.co_argcount - len(function.__defaults__ or ()) - is_method
    if required > 1:
        names = ", ".join(code.co_varnames[is_method : required + is_method])
        return (
            f"process() requires {required} arguments ({names}), but receives one item; "
            "define process(self, data)"
        )
    if code.co_kwonlyargcount:
        defaults = function.__kwdefaults__ or ()
        for name in code.co_varnames[code.co_argcount : code.co_argcount + code.co_kwonlyargcount]:
            if name not in defaults:
                return f"the parameter '{name}' of process() is keyword-only; define process(self, {name})"
    return None


def _is_partial(value: object) -> bool:
    # Its module takes milliseconds to import, and without it there are none.
    functools = sys.modules.get("functools")
    return functools is not None and isinstance(value, functools.partial)


def function_of(process: Any) -> Any:
    """Return the function of a callable: a method, a `functools.partial`, an object with `__call__`.

    The result is a Python function, or another object with code, such as a Cython function; else `None`.
    """
    for _ in range(_DEEPEST):
        if type(process) is FunctionType or _flags_of(process):
            return process
        if type(process) is MethodType:
            process = process.__func__
        elif _is_partial(process):
            process = process.func
        else:
            process = getattr(type(process), "__call__", None)  # noqa: B004 - Its code is inspected.
    return None


def _flags_of(function: Any) -> int:
    """Return the flags of its code, or 0 if it has none."""
    if type(function) is FunctionType:
        return function.__code__.co_flags
    flags = getattr(getattr(function, "__code__", None), "co_flags", None)
    return flags if isinstance(flags, int) else 0


def is_marked(process: Any) -> bool:
    """Whether `inspect.markcoroutinefunction` was called for it."""
    if type(process) is MethodType:
        process = process.__func__
    if type(process) is FunctionType and not process.__dict__:
        return False
    for module_name, name, mark in _MARKS:
        found = getattr(process, name, None)
        # If the module has not been imported, its mark cannot have been set.
        if found is not None and found is getattr(sys.modules.get(module_name), mark, None):
            return True
    return False


def _may_stream(function: Any) -> bool:
    # Without code, only `is_streaming` of the node counts.
    if function is None:
        return True
    # A decorated function is unwrapped by `__wrapped__`, which `functools.wraps` sets.
    for _ in range(_DEEPEST):
        if _flags_of(function) & _ASYNC_GENERATOR:
            return True
        function = getattr(function, "__wrapped__", None)
    return False


def _takes_nothing(process: object) -> bool:
    """Check unusual callables: partials, callable objects, decorated and built-in functions."""
    import inspect

    try:
        parameters = inspect.signature(process).parameters.values()  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return False
    takes_an_item = (
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        inspect.Parameter.VAR_POSITIONAL,
    )
    return not any(parameter.kind in takes_an_item for parameter in parameters)
