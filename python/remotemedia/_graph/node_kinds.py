"""What kind of node an object is, and what kind of answer a call gave.

These are the only places that tell coroutines, generators and plain functions apart.
"""

from __future__ import annotations

import functools
import sys
from types import AsyncGeneratorType, CoroutineType, FunctionType, GeneratorType, MethodType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Literal

    Kind = Literal["plain", "generator", "coroutine", "async_generator"]
    NodeKind = Literal["plain", "generator", "coroutine", "async_generator", "streaming"]

__all__ = [
    "answer_kind",
    "classify",
    "function_of",
    "has_methods",
    "is_source",
    "makes_coroutines",
    "misfit",
    "thread_for",
]

# The flags of code objects, as in `inspect`, which would cost more to import than all of this package.
_VARARGS = 0x04
_GENERATOR = 0x20
_COROUTINE = 0x80
_ITERABLE_COROUTINE = 0x100
_ASYNC_GENERATOR = 0x200
# How `inspect`, and `asyncio` before Python 3.12, mark functions: module, attribute, mark in the module.
_MARKS = (
    ("inspect", "_is_coroutine_marker", "_is_coroutine_mark"),
    # The first releases of Python 3.12.
    ("inspect", "_is_coroutine_marker", "_is_coroutine_marker"),
    ("asyncio.coroutines", "_is_coroutine", "_is_coroutine"),
)
_DEEPEST = 16
"""As many wrappers of a function are looked into. Some objects have another in them for ever."""

_ANY_KIND = _GENERATOR | _COROUTINE | _ITERABLE_COROUTINE | _ASYNC_GENERATOR


def classify(node: object) -> NodeKind:
    """What `process` of a node is.

    `plain` says that its code makes neither a coroutine nor a generator, as far as can be seen; what a call
    answers may still be one, which `answer_kind` tells.
    """
    process = node.process  # type: ignore[attr-defined]
    function = function_of(process)
    flags = _flags_of(function) & _ANY_KIND
    if getattr(node, "is_streaming", False) is True and _may_stream(function):
        return "streaming"
    if flags & _ASYNC_GENERATOR:
        return "async_generator"
    if flags & _GENERATOR and not flags & _ITERABLE_COROUTINE:
        return "generator"
    return "coroutine" if flags or _is_marked(process) else "plain"


def makes_coroutines(function: object) -> bool:
    """Whether a callable is async, as far as can be seen."""
    return bool(_flags_of(function_of(function)) & _COROUTINE) or _is_marked(function)


def answer_kind(answer: object) -> Kind:
    """What a call of `process`, `flush`, `initialize` or `cleanup` answered.

    A coroutine, or whatever else can be awaited, is awaited, and its result is judged again; generators are
    drained; all else is a value. Those of other compilers (Cython, mypyc, Nuitka) are known by their methods.
    """
    kind = type(answer)
    if kind is GeneratorType:
        is_coroutine = answer.gi_code.co_flags & _ITERABLE_COROUTINE  # type: ignore[attr-defined]
        return "coroutine" if is_coroutine else "generator"
    if kind is CoroutineType:
        return "coroutine"
    if kind is AsyncGeneratorType:
        return "async_generator"
    if has_methods(kind, "__await__"):
        return "coroutine"
    if has_methods(kind, "asend", "athrow", "aclose", "__anext__", "__aiter__"):
        return "async_generator"
    return "generator" if has_methods(kind, "send", "throw", "close", "__next__", "__iter__") else "plain"


def has_methods(kind: type, *names: str) -> bool:
    """Whether a class has all of these methods for its instances; those of its metaclass do not count."""
    return all(_has_method(kind, name) for name in names)


def _has_method(kind: type, name: str) -> bool:
    # What the class does not have at all is the usual case, and asked for first.
    if not hasattr(kind, name):
        return False
    return next((vars(base)[name] for base in kind.__mro__ if name in vars(base)), None) is not None


def is_source(node: object) -> bool:
    """Whether `process` of a node takes no item, so that its outputs are the input of the pipeline."""
    process = node.process  # type: ignore[attr-defined]
    if type(process) is MethodType and type(process.__func__) is FunctionType:
        code = process.__func__.__code__
        if code.co_argcount > 1:
            return False
        if not code.co_flags & _VARARGS:
            return code.co_argcount == 1
    return _takes_nothing(process)


def thread_for(nodes: Sequence[object]) -> Literal["caller", "session"] | None:
    """Which thread the `def` nodes of a session of plain Python must stay on; `None` if any thread will do.

    A `def` node with an `initialize` or `cleanup` of its own must stay on one thread, because what these
    create may belong to it: a `sqlite3` connection, a GL context. That is the calling thread, unless another
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
    """Why the engine cannot call `process` of a node, with an item or with nothing; `None` if it can.

    Only what a function says itself counts: a decorator may pass on other arguments than it takes.
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


def function_of(process: Any) -> Any:
    """The function behind a callable: a method, a `functools.partial`, an object with `__call__`.

    It is one of Python's, or another that has code, as those that Cython compiles do; else `None`.
    """
    for _ in range(_DEEPEST):
        if type(process) is FunctionType or _flags_of(process):
            return process
        if type(process) is MethodType:
            process = process.__func__
        elif isinstance(process, functools.partial):
            process = process.func
        else:
            process = getattr(type(process), "__call__", None)  # noqa: B004 - Its code is looked at.
    return None


def _flags_of(function: Any) -> int:
    """The flags of its code, 0 if it has none."""
    if type(function) is FunctionType:
        return function.__code__.co_flags
    flags = getattr(getattr(function, "__code__", None), "co_flags", None)
    return flags if isinstance(flags, int) else 0


def _is_marked(process: Any) -> bool:
    """Whether somebody has said that calls give coroutines: `inspect.markcoroutinefunction`."""
    if type(process) is MethodType:
        process = process.__func__
    for module_name, name, mark in _MARKS:
        found = getattr(process, name, None)
        # Where the module has not been imported, nobody can have set its mark.
        if found is not None and found is getattr(sys.modules.get(module_name), mark, None):
            return True
    return False


def _may_stream(function: Any) -> bool:
    # Of what shows no code, the node's word is all there is.
    if function is None:
        return True
    # A decorated streaming node is one still: what `functools.wraps` left behind is followed.
    for _ in range(_DEEPEST):
        if _flags_of(function) & _ASYNC_GENERATOR:
            return True
        function = getattr(function, "__wrapped__", None)
    return False


def _takes_nothing(process: object) -> bool:
    """Judge the unusual callables: partials, callable objects, decorated and built-in functions."""
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
