"""One Python function for a chain of nodes, so that CPython inlines their calls.

CPython runs Python functions that Python code calls in the same evaluation loop; a call from native code
never does. A chain is therefore compiled as the loop that a programmer would write. There are two kinds:
`def`, for chains of plain nodes, and `async def`, for chains with all kinds of nodes.

A kernel counts nothing for its caller. After an error, `find` reads from its frame in the traceback which
node raised and which generators are open.
"""

from __future__ import annotations

import builtins
import functools
import types
from typing import TYPE_CHECKING, Any, NamedTuple

from remotemedia._compiled.source import CHUNK, MANY, MOST_GENERATORS, NO_NODE, ONE, STREAM, source_of
from remotemedia._compiled.steps import describe
from remotemedia._core import is_lazy
from remotemedia._exception_chain import set_traceback, traceback_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from remotemedia._compiled.source import Form, Source
    from remotemedia._compiled.steps import Step

__all__ = [
    "LONGEST_CHAIN",
    "NO_NODE",
    "AsyncKernels",
    "Found",
    "Kernel",
    "LazyResultError",
    "build",
    "build_async",
    "close_all",
    "find",
    "locate",
]

LONGEST_CHAIN = 64
"""Longer chains run node by node: a compiled loop would gain little and take long to compile."""


class LazyResultError(Exception):
    """A node returned a generator or coroutine, its argument: the engine continues from there."""


# Shared by all kernels: the interpreter specializes global lookups for one scope.
_SCOPE = {
    "__builtins__": builtins,
    "AsyncGenerator": types.AsyncGeneratorType,
    "Coroutine": types.CoroutineType,
    "Generator": types.GeneratorType,
    "LazyResultError": LazyResultError,
    "is_lazy": is_lazy,
}


class Kernel(NamedTuple):
    """A compiled chain."""

    function: Callable[..., Any]
    node_of_line: list[int]
    """The index of the node that each line of its code calls; `NO_NODE` for lines that call none."""


class Found(NamedTuple):
    """What was going on in a kernel when it raised an error."""

    node: int
    """The index of the node that raised; `NO_NODE` if the input or `breathe` did."""
    position: int | None
    """How many items of the stream were done before; `None` for other kernels."""
    opened: list[tuple[int, Any]]
    """The generators that were begun, and the indices of their nodes, the innermost first. Some ended."""


class AsyncKernels:
    """A chain of nodes of all kinds as coroutine functions, each of which is compiled when it is first used.

    The nodes must have been initialized, because an object may choose its methods then. Whatever a kernel
    raises, the caller passes to `find`, and then continues the open generators (after `LazyResultError`) or
    closes them with `close_all`.
    """

    def __init__(self, steps: tuple[Step, ...], objects: dict[str, Any]) -> None:
        """Store what `build_async` found."""
        self._steps = steps
        self._objects = objects

    @functools.cached_property
    def many(self) -> Kernel:
        """The kernel `many(items, outputs)`, with an iterator of items and a list for the outputs."""
        return self._kernel(MANY)

    @functools.cached_property
    def stream(self) -> Kernel:
        """The kernel `stream(items, outputs, breathe)`, with an async iterator of items.

        It awaits `breathe()` after every 64 items, before it asks for the next one.
        """
        return self._kernel(STREAM)

    @functools.cached_property
    def one(self) -> Kernel | None:
        """The kernel `one(item)`, which returns the output or `None`.

        There is no such kernel for a chain with generators.
        """
        if any(step.makes_several for step in self._steps):
            return None
        return self._kernel(ONE)

    def _kernel(self, form: Form) -> Kernel:
        return _bound(source_of(form, self._steps, tuple(self._objects)), self._objects)


def build(nodes: list[Any]) -> Kernel | None:
    """Compile a chain of plain nodes, or return `None` if it contains another kind or is too long.

    The kernel is called as `kernel(items, outputs)`, with an iterator of items, none of which is lazy, and a
    list for the outputs. The caller removes `None` from the outputs, faster than the loop could.
    """
    described = _describe(nodes)
    if described is None:
        return None
    steps, objects = described
    if any(step.kind != "plain" or not step.is_method for step in steps):
        return None
    kernel = _bound(source_of(CHUNK, steps, tuple(objects)), objects)
    return Kernel(kernel.function, [max(node, 0) for node in kernel.node_of_line])


def build_async(nodes: Sequence[Any]) -> AsyncKernels | None:
    """Compile a chain of nodes of all kinds, or return `None`.

    A chain is not compiled if it contains a source or a streaming node, or too many nodes or generators.
    """
    described = _describe(nodes)
    return AsyncKernels(*described) if described is not None else None


def locate(error: BaseException, node_of_line: list[int]) -> int:
    """Return the index of the node that raised in a kernel, and remove the kernel from the traceback."""
    traceback = traceback_of(error)
    if traceback is None:
        return 0
    set_traceback(error, traceback.tb_next)
    return node_of_line[min(traceback.tb_lineno, len(node_of_line) - 1)]


def find(error: BaseException, kernel: Kernel) -> Found:
    """Return what was going on when a kernel raised, and let the traceback begin in the node."""
    code = kernel.function.__code__
    traceback = traceback_of(error)
    while traceback is not None and traceback.tb_frame.f_code is not code:
        traceback = traceback.tb_next
    if traceback is None:
        return Found(NO_NODE, None, [])
    set_traceback(error, traceback.tb_next)
    variables = traceback.tb_frame.f_locals
    names = [name for name in code.co_varnames if name.startswith("g") and variables.get(name) is not None]
    opened = [(int(name[1:]), variables[name]) for name in reversed(names)]
    return Found(kernel.node_of_line[traceback.tb_lineno], variables.get("position"), opened)


async def close_all(opened: list[tuple[int, Any]]) -> list[tuple[int, BaseException]]:
    """Close generators that a kernel left open; return what they raised, with the indices of their nodes."""
    failures: list[tuple[int, BaseException]] = []
    for node, generator in opened:
        try:
            if hasattr(generator, "aclose"):
                await generator.aclose()
            else:
                generator.close()
        except BaseException as error:  # noqa: BLE001 - Reported with the other failures.
            failures.append((node, error))
    return failures


def _describe(nodes: Sequence[Any]) -> tuple[tuple[Step, ...], dict[str, Any]] | None:
    if not 0 < len(nodes) <= LONGEST_CHAIN:
        return None
    steps: list[Step] = []
    objects: dict[str, Any] = {}
    for index, node in enumerate(nodes):
        described = describe(node, index)
        if described is None:
            return None
        steps.append(described[0])
        objects |= described[1]
    if sum(step.makes_several for step in steps) > MOST_GENERATORS:
        return None
    return tuple(steps), objects


def _bound(source: Source, objects: dict[str, Any]) -> Kernel:
    # What is not an object is a variable of the kernel, at first `None`.
    defaults = tuple(objects.get(name) for name in source.parameters)
    cells = tuple(types.CellType(None) for _ in source.code.co_freevars)
    function = types.FunctionType(source.code, _SCOPE, "kernel", defaults or None, cells or None)
    return Kernel(function, source.node_of_line)
