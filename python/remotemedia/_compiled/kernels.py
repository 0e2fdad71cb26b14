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

from remotemedia._compiled.forms import ALIGNED, CHUNK, LIMITED, MANY, ONE, SENT, STREAM, TIMED_CHUNK
from remotemedia._compiled.layout import Connections, chain, layout_of
from remotemedia._compiled.pushed import END, SUSPENDED
from remotemedia._compiled.source import source_of
from remotemedia._compiled.steps import Returns, Step, describe
from remotemedia._core import is_lazy
from remotemedia._graph.node_kinds import return_kind
from remotemedia._graph.output_shape import shape

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import CodeType

    from remotemedia._compiled.forms import Form
    from remotemedia._compiled.source import Source

__all__ = [
    "LARGEST_GRAPH",
    "AsyncKernels",
    "Connections",
    "Kernel",
    "LazyResultError",
    "StoppedError",
    "build",
    "build_aligned",
    "build_async",
    "build_part",
    "build_sent",
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
    "END": END,
    "Generator": types.GeneratorType,
    "LazyResultError": LazyResultError,
    "SUSPENDED": SUSPENDED,
    "StoppedError": StoppedError,
    "is_lazy": is_lazy,
    "resolve": resolve,
    "shape": shape,
}


_MOST_COPIES = 256
# The copies of codes, by the addresses of what they are for, which they keep alive.
_copies: dict[tuple[int, ...], tuple[CodeType, CodeType, list[CodeType]]] = {}


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

    def __init__(self, described: _Described) -> None:
        """Store what `build_async` found."""
        self._described = described

    @functools.cached_property
    def many(self) -> Kernel:
        """The kernel `many(items, outputs)`, with an iterator of items and a list for the outputs."""
        return self._kernel(MANY)

    @functools.cached_property
    def limited(self) -> Kernel:
        """The kernel `limited(items, outputs, room)`, which calls `room.is_full()` after each output.

        If that returns `True`, it awaits `room.wait()`.
        """
        return self._kernel(LIMITED)

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
        return self._kernel(ONE) if self._described.has_one_output() else None

    def are_async(self) -> bool:
        """Whether all nodes run on an event loop, apart from built-in ones."""
        steps = self._described.steps
        kinds = [step.kind for step in steps if not step.is_inlined]
        return bool(kinds) and all(kind in {"coroutine", "async_generator"} for kind in kinds)

    def has_generators(self) -> bool:
        """Whether a node has any number of outputs."""
        return self._described.has_generators()

    def _kernel(self, form: Form) -> Kernel:
        kernel = self._described.kernel(form)
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
        ids: Their ids, which are the keys of joined outputs, and by which `node_at` names them.
        timers: Functions that are called with each result of the nodes, and return it, to measure the calls.
    """
    described = _describe_def(nodes, connections, ids)
    if described is None or not timers:
        return None if described is None else described.kernel(CHUNK)
    # A generator spends its time in many places.
    if described.has_generators():
        return None
    return described.timed_by(timers).kernel(TIMED_CHUNK)


def build_aligned(
    nodes: Sequence[Any],
    connections: Connections | None = None,
    ids: Sequence[str] = (),
    timers: Sequence[Callable[[Any], Any]] = (),
) -> Kernel | None:
    """Compile a graph of plain nodes as `build` does, so that each item has one output, which may be `None`.

    Returns:
        The kernel, or `None` if that is not possible, or an item can have several outputs.
    """
    described = _describe_def(nodes, connections, ids)
    if described is None or timers or not described.has_one_output():
        return None
    return described.kernel(ALIGNED)


def build_sent(
    nodes: Sequence[Any],
    connections: Connections | None = None,
    ids: Sequence[str] = (),
    timers: Sequence[Callable[[Any], Any]] = (),
) -> Kernel | None:
    """Compile a graph of plain nodes for single items, with the same arguments as `build`.

    The kernel is a generator function without arguments. After `next`, its generator receives items by
    `send`, none of which is lazy, and yields the output of each or `None`.

    Returns:
        The kernel, or `None` if that is not possible, or an item can have several outputs.
    """
    described = _describe_def(nodes, connections, ids)
    if described is None or timers or not described.has_one_output():
        return None
    return described.kernel(SENT)


def build_async(
    nodes: Sequence[Any], connections: Connections | None = None, ids: Sequence[str] = ()
) -> AsyncKernels | None:
    """Compile a graph of nodes of all kinds, with the same arguments as `build`.

    Returns:
        Its kernels, or `None` if it contains a source or a streaming node, or is too large.
    """
    described = _describe(nodes, connections, ids)
    if described is None:
        return None
    may_be_deep = connections is not None or described.has_generators()
    if may_be_deep and described.source(MANY) is None:
        return None
    return AsyncKernels(described)


class _Described(NamedTuple):
    """What kernels are compiled from."""

    steps: tuple[Step, ...]
    connections: Connections
    objects: dict[str, Any]
    """The objects that the lines of a kernel refer to, by their names there."""

    def has_generators(self) -> bool:
        return any(step.makes_several for step in self.steps)

    def has_one_output(self) -> bool:
        return layout_of(self.steps, self.connections).has_one_output

    def timed_by(self, timers: Sequence[Callable[[Any], Any]]) -> _Described:
        timed = {f"m{index}": timer for index, timer in enumerate(timers)}
        # The calls are measured, so none is replaced.
        steps = tuple(step._replace(inlined=None) for step in self.steps)
        return _Described(steps, self.connections, self.objects | timed)

    def source(self, form: Form) -> Source | None:
        return source_of(form, self.steps, self.connections, tuple(self.objects))

    def kernel(self, form: Form) -> Kernel | None:
        source = self.source(form)
        if source is None:
            return None
        # What is not an object is a variable of the kernel, at first `None`. The engine reads `lines`.
        objects = {**self.objects, "lines": source.node_of_line}
        defaults = tuple(map(objects.get, source.parameters))
        code = _code_for(source.code, [self.objects[name].__code__ for name in source.functions])
        cells = tuple([types.CellType(None) for _ in code.co_freevars])
        function = types.FunctionType(code, _SCOPE, "kernel", defaults or None, cells or None)
        return Kernel(function, source, cells[0] if code.co_freevars == ("stop",) else None)


def _code_for(code: CodeType, called: list[CodeType]) -> CodeType:
    """Return a copy for kernels that call these functions, because CPython specializes calls for one."""
    # Computing the hash of code takes longer than all else here.
    key = (id(code), *map(id, called))
    found = _copies.get(key)
    if found is None:
        if len(_copies) >= _MOST_COPIES:
            _copies.clear()
        found = _copies[key] = (code.replace(), code, called)
    return found[0]


def build_part(form: Form, nodes: Sequence[Any]) -> Kernel:
    """Compile a part of a chain, of any number of nodes, also none, in an asynchronous form."""
    described = _describe(nodes, None, ())
    kernel = None if described is None else described.kernel(form)
    if kernel is not None:
        return kernel
    # Without knowledge of the nodes, nothing is nested.
    steps = [Step("plain", False, Returns(), None, "", index) for index in range(len(nodes))]  # noqa: FBT003
    objects = {f"p{index}": node.process for index, node in enumerate(nodes)}
    return _Described(tuple(steps), chain(len(nodes)), objects).kernel(form)  # type: ignore[return-value] # See above.


def _describe_def(
    nodes: Sequence[Any], connections: Connections | None, ids: Sequence[str]
) -> _Described | None:
    described = _describe(nodes, connections, ids)
    # Other callables than methods of classes are too slow to gain from it.
    if described is None or any(
        step.kind not in {"plain", "generator"} or not step.is_method for step in described.steps
    ):
        return None
    return described


def _describe(nodes: Sequence[Any], connections: Connections | None, ids: Sequence[str]) -> _Described | None:
    if not 0 < len(nodes) <= LARGEST_GRAPH:
        return None
    steps: list[Step] = []
    objects: dict[str, Any] = {f"k{index}": name for index, name in enumerate(ids)}
    for index, node in enumerate(nodes):
        described = describe(node, index)
        if described is None:
            return None
        steps.append(described[0])
        objects.update(described[1])
    return _Described(tuple(steps), connections or chain(len(nodes)), objects)
