"""One Python function for a graph of nodes, so that CPython inlines their calls.

CPython runs Python functions that Python code calls in the same evaluation loop; a call from native code
never does. A stage is therefore compiled as the loop that a programmer would write. There are two kinds of
kernels: `def`, for `def` nodes, and `async def`, for all kinds of nodes.

A kernel counts nothing for its caller. After an error, `find` reads from its frame in the traceback which
node raised and what was in progress.
"""

from __future__ import annotations

import builtins
import functools
import types
from typing import TYPE_CHECKING, Any, NamedTuple

from remotemedia._compiled.forms import CALL, CHUNK, MANY, ONE, STREAM, TIMED_CHUNK
from remotemedia._compiled.layout import Connections, chain
from remotemedia._compiled.source import source_of
from remotemedia._compiled.steps import describe
from remotemedia._core import is_lazy
from remotemedia._graph.node_kinds import return_kind
from remotemedia._graph.output_shape import shape

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from remotemedia._compiled.forms import Form
    from remotemedia._compiled.source import Source
    from remotemedia._compiled.steps import Step

    # The nodes, their connections, and the objects that the lines of a kernel refer to.
    Described = tuple[tuple[Step, ...], Connections, dict[str, Any]]

__all__ = [
    "LARGEST_GRAPH",
    "AsyncKernels",
    "Connections",
    "Kernel",
    "LazyResultError",
    "StoppedError",
    "build",
    "build_async",
    "build_call",
    "resolve",
]

LARGEST_GRAPH = 64
"""Larger graphs run node by node: a compiled loop would gain little and take long to compile."""


class LazyResultError(Exception):
    """A node returned a generator, its argument: the engine continues from there.

    So does a coroutine in a kernel that cannot await it.
    """


async def resolve(result: Any) -> Any:
    """Return what an awaitable results in. A generator ends the kernel."""
    while (kind := return_kind(result)) == "coroutine":
        result = await result
    if kind != "plain":
        raise LazyResultError(result)
    return result


class StoppedError(Exception):
    """A kernel was stopped between two outputs of a generator."""


# Shared by all kernels: the interpreter specializes global lookups for one scope.
_SCOPE = {
    "__builtins__": builtins,
    "AsyncGenerator": types.AsyncGeneratorType,
    "Coroutine": types.CoroutineType,
    "Generator": types.GeneratorType,
    "LazyResultError": LazyResultError,
    "StoppedError": StoppedError,
    "is_lazy": is_lazy,
    "resolve": resolve,
    "shape": shape,
}


class Kernel(NamedTuple):
    """A compiled graph."""

    function: Callable[..., Any]
    source: Source
    """Its source, which other kernels share."""
    stop: types.CellType | None
    """Set its contents to `True` to end the loops over generators; `None` if there are none."""


class AsyncKernels:
    """Nodes of all kinds as coroutine functions, each of which is compiled when it is first used.

    The nodes must have been initialized, because an object may choose its methods then. Whatever a kernel
    raises, the caller passes to `find`, and then continues what was in progress (after `LazyResultError`) or
    closes the generators with `close_all`.
    """

    def __init__(self, steps: tuple[Step, ...], connections: Connections, objects: dict[str, Any]) -> None:
        """Store what `build_async` found."""
        self._steps = steps
        self._connections = connections
        self._objects = objects

    @functools.cached_property
    def many(self) -> Kernel:
        """The kernel `many(items, outputs)`, with an iterator of items and a list for the outputs."""
        return self._kernel(MANY)

    @functools.cached_property
    def stream(self) -> Kernel:
        """The kernel `stream(items, outputs, turns)`, with an async iterator of items.

        While `turns.is_shared`, it awaits `turns.enter()` before each item and calls `turns.leave()` after
        it. It awaits `turns.breathe()` after every 64 items, before it asks for the next one, and returns the
        number of items.
        """
        return self._kernel(STREAM)

    @functools.cached_property
    def one(self) -> Kernel | None:
        """The kernel `one(item)`, which returns the output or `None`.

        There is no such kernel if an item can have several outputs.
        """
        return self._kernel(ONE) if self.many.source.layout.has_one_output else None

    def _kernel(self, form: Form) -> Kernel:
        kernel = _kernel(form, self._steps, self._connections, self._objects)
        if kernel is None:
            raise ValueError("the loops are nested too deeply")
        return kernel


def build(
    nodes: Sequence[Any],
    connections: Connections | None = None,
    ids: Sequence[str] = (),
    timers: Sequence[Callable[[Any], Any]] = (),
) -> Kernel | None:
    """Compile a graph of `def` nodes, or return `None` if that is not possible.

    The kernel is called as `kernel(items, outputs)`, with an iterator of items, none of which is lazy, and a
    list for the outputs.

    Args:
        nodes: The nodes, in plan order.
        connections: How they are connected; as a chain if it is missing.
        ids: Their ids, which are the keys of joined outputs.
        timers: Functions that are called with each result of the nodes, and return it, to measure the calls.
    """
    described = _describe_def(nodes, connections, ids)
    if described is None or not timers:
        return None if described is None else _kernel(CHUNK, *described)
    steps, connections, objects = described
    # A generator spends its time in many places.
    if any(step.makes_several for step in steps):
        return None
    objects |= {f"m{index}": timer for index, timer in enumerate(timers)}
    return _kernel(TIMED_CHUNK, tuple(step._replace(inlined=None) for step in steps), connections, objects)


def build_call(
    nodes: Sequence[Any],
    connections: Connections | None = None,
    ids: Sequence[str] = (),
    timers: Sequence[Callable[[Any], Any]] = (),
) -> Kernel | None:
    """Compile a graph of plain nodes for single items, with the same arguments as `build`.

    The kernel is called as `kernel(item)`, with an item that is not lazy, and returns the output or `None`.

    Returns:
        The kernel, or `None` if that is not possible, or an item can have several outputs.
    """
    described = _describe_def(nodes, connections, ids)
    kernel = _kernel(CALL, *described) if described is not None and not timers else None
    return kernel if kernel is not None and kernel.source.layout.has_one_output else None


def build_async(
    nodes: Sequence[Any], connections: Connections | None = None, ids: Sequence[str] = ()
) -> AsyncKernels | None:
    """Compile a graph of nodes of all kinds, with the same arguments as `build`.

    Returns:
        Its kernels, or `None` if it contains a source or a streaming node, or is too large.
    """
    described = _describe(nodes, connections, ids)
    if described is None or _kernel(MANY, *described) is None:
        return None
    return AsyncKernels(*described)


def _describe_def(
    nodes: Sequence[Any], connections: Connections | None, ids: Sequence[str]
) -> Described | None:
    described = _describe(nodes, connections, ids)
    # Other callables than methods of classes are too slow to gain from it.
    if described is None or any(
        step.kind not in {"plain", "generator"} or not step.is_method for step in described[0]
    ):
        return None
    return described


def _describe(nodes: Sequence[Any], connections: Connections | None, ids: Sequence[str]) -> Described | None:
    if not 0 < len(nodes) <= LARGEST_GRAPH:
        return None
    steps: list[Step] = []
    objects: dict[str, Any] = {f"k{index}": name for index, name in enumerate(ids)}
    for index, node in enumerate(nodes):
        described = describe(node, index)
        if described is None:
            return None
        steps.append(described[0])
        objects |= described[1]
    return tuple(steps), connections or chain(len(nodes)), objects


def _kernel(
    form: Form, steps: tuple[Step, ...], connections: Connections, objects: dict[str, Any]
) -> Kernel | None:
    source = source_of(form, steps, connections, tuple(objects))
    if source is None:
        return None
    # What is not an object is a variable of the kernel, at first `None`.
    defaults = tuple(objects.get(name) for name in source.parameters)
    cells = tuple(types.CellType(None) for _ in source.code.co_freevars)
    function = types.FunctionType(source.code, _SCOPE, "kernel", defaults or None, cells or None)
    stop = cells[0] if "stop" in source.code.co_freevars else None
    return Kernel(function, source, stop)
