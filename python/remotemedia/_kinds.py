"""What kind of node an object is, and what kind of answer a call gave.

These are the only places that tell coroutines, generators and plain functions apart.
"""

from __future__ import annotations

from types import AsyncGeneratorType, CoroutineType, FunctionType, GeneratorType, MethodType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any, Literal

    Kind = Literal["plain", "generator", "coroutine", "async_generator"]
    NodeKind = Literal["plain", "generator", "coroutine", "async_generator", "streaming"]

__all__ = ["answer_kind", "classify", "function_of", "is_source", "misfit"]

# The flags of code objects, as in `inspect`, which would cost more to import than all of this package.
_VARARGS = 0x04
_GENERATOR = 0x20
_COROUTINE = 0x80
_ITERABLE_COROUTINE = 0x100
_ASYNC_GENERATOR = 0x200
_ANY_KIND = _GENERATOR | _COROUTINE | _ITERABLE_COROUTINE | _ASYNC_GENERATOR


def classify(node: object) -> NodeKind:
    """What `process` of a node is.

    `plain` says that its code makes neither a coroutine nor a generator; what a call answers may still be
    one, which `answer_kind` tells.
    """
    function = function_of(node.process)  # type: ignore[attr-defined]
    flags = function.__code__.co_flags & _ANY_KIND if function is not None else 0
    if getattr(node, "is_streaming", False) is True and _is_async_generator(function):
        return "streaming"
    if not flags:
        return "plain"
    if flags & _ASYNC_GENERATOR:
        return "async_generator"
    return "coroutine" if flags & (_COROUTINE | _ITERABLE_COROUTINE) else "generator"


def answer_kind(answer: object) -> Kind:
    """What a call of `process`, `flush`, `initialize` or `cleanup` answered.

    A coroutine is awaited, and its result is judged again; generators are drained; all else is a value.
    """
    kind = type(answer)
    if kind is GeneratorType:
        is_coroutine = answer.gi_code.co_flags & _ITERABLE_COROUTINE  # type: ignore[attr-defined]
        return "coroutine" if is_coroutine else "generator"
    if kind is CoroutineType:
        return "coroutine"
    return "async_generator" if kind is AsyncGeneratorType else "plain"


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
            f"process() needs {required} arguments ({names}), and gets one item; define process(self, data)"
        )
    if code.co_kwonlyargcount:
        defaults = function.__kwdefaults__ or ()
        for name in code.co_varnames[code.co_argcount : code.co_argcount + code.co_kwonlyargcount]:
            if name not in defaults:
                return f"process() takes '{name}' by keyword only; define process(self, {name})"
    return None


def function_of(process: Any) -> FunctionType | None:
    """The Python function behind a callable: a method, a `functools.partial`, an object with `__call__`."""
    for _ in range(16):
        if type(process) is FunctionType:
            return process
        if type(process) is MethodType:
            process = process.__func__
        elif hasattr(process, "func") and hasattr(process, "keywords"):
            process = process.func
        else:
            process = getattr(type(process), "__call__", None)  # noqa: B004 - Its code is looked at.
    return None


def _is_async_generator(function: Any) -> bool:
    # A decorated streaming node is one still: what `functools.wraps` left behind is followed.
    while type(function) is FunctionType:
        if function.__code__.co_flags & _ASYNC_GENERATOR:
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
