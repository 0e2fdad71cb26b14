"""What sessions of one pipeline know of its nodes, from one opening to the next."""

from __future__ import annotations

import functools
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any

from remotemedia._compiled.kernels import build, build_async
from remotemedia._compiled.layout import routes_of
from remotemedia._graph.graph import Graph
from remotemedia._graph.node_kinds import classify, is_marked
from remotemedia._graph.policy import Policy
from remotemedia._loop.gates import connections_of
from remotemedia._loop.places import (
    THREAD,
    are_staged,
    has_streaming_nodes,
    makes_several,
    on_loop,
    places_of,
    stages_of,
)
from remotemedia.core.node import Node
from remotemedia.nodes import _builtin

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Literal

    from remotemedia._compiled.kernels import AsyncKernels, Kernel
    from remotemedia._graph.graph import Entry

__all__ = ["Known", "Part", "known_of", "only_marks"]

_MARKING = {"initialize": Node.initialize, "cleanup": Node.cleanup}

# Their kernels contain values of the nodes.
_WITH_VALUES: set[Any] = {_builtin.CALCULATE, _builtin.FILTER}


class Part:
    """Neighbours that run in one place.

    Attributes:
        first: The index of the first node.
        on_thread: Whether they run on the thread.
        kernel: Calls them, if there is a kernel for one item.
    """

    def __init__(self, first: int, nodes: Sequence[Any], *, on_thread: bool) -> None:
        """Compile the nodes."""
        self.first = first
        self.on_thread = on_thread
        self.kernel: Kernel | None = None
        if on_thread:
            self.kernel = build(nodes)
        elif (kernels := build_async(nodes)) is not None:
            self.kernel = kernels.one


class Known:
    """What the code of the nodes of a graph determines.

    Attributes:
        pairs: The ids and objects.
        ids: The ids.
        nodes: The objects.
        first: The index of the node that receives the items; a source is before it.
        connections: How they are connected.
        policies: What is done with items on which they fail.
        has_policies: Whether anything is.
    """

    def __init__(self, graph: Graph, signature: tuple[Any, ...] | None) -> None:
        """Look at the nodes, whose signature is this."""
        self.signature = signature
        self.pairs = [(entry.id, entry.node) for entry in graph.entries]
        self.ids = [entry.id for entry in graph.entries]
        self.nodes: list[Any] = [entry.node for entry in graph.entries]
        self.first = 0 if graph.source is None else 1
        # Not the graph, which refers to this.
        self._name, self._entries, self._source = graph.name, graph.entries, graph.source
        self.connections = connections_of(graph.entries)
        self.policies = [Policy(entry.options) for entry in graph.entries]
        self.has_policies = any(self.policies)
        self._is_on_loop: bool | None = None
        self._ordered: Graph | None = None
        self._stages: list[Graph] | None = None
        self._kernels: AsyncKernels | None = None
        self._parts: list[Part] | None = None

    @functools.cached_property
    def on_thread(self) -> list[bool]:
        """Whether each node is called on a thread. A factory has not created its node yet."""
        return [place == THREAD for place in places_of(self._entries)]

    @functools.cached_property
    def is_chain(self) -> bool:
        """Whether each node receives the outputs of the one before it."""
        return routes_of(self.connections).without(0) is None

    @functools.cached_property
    def is_streaming(self) -> bool:
        """Whether one of the nodes takes the whole stream."""
        return has_streaming_nodes(self._entries)

    @functools.cached_property
    def makes_several(self) -> bool:
        """Whether one of the nodes may have any number of outputs for an item."""
        return makes_several(self._entries[self.first :])

    @functools.cached_property
    def never_suspends(self) -> bool:
        """Whether all are `def` nodes on the loop, which are called once for an item."""
        if self.has_policies or any(self.on_thread):
            return False
        return all(classify(node) == "plain" for node in self.nodes)

    def on_loop(self, graph: Graph) -> Graph | None:
        """Return the graph in plan order, if a session of it runs on the caller's event loop."""
        if self._is_on_loop is None:
            ordered = on_loop(graph, is_run=False)
            self._is_on_loop = ordered is not None
            if ordered is not None and ordered is not graph:
                ordered.known = known_of(ordered)
                self._ordered = ordered
        if self._is_on_loop and self._ordered is None:
            graph.known = self
            return graph
        return self._ordered

    @property
    def stages(self) -> list[Graph]:
        """The graphs of several stages; the list is empty if all nodes are in one."""
        if self._stages is None:
            self._stages = []
            if are_staged(self._entries):
                parts = stages_of(Graph(self._name, self._entries, self._source))
                self._stages = [Graph(self._name, entries) for entries in parts if len(parts) > 1]
            for index, stage in enumerate(self._stages):
                stage.source = None if index else self._source
                stage.known = known_of(stage)
        return self._stages

    def kernels(
        self, compile_nodes: Callable[[], AsyncKernels | None], *, are_changed: bool
    ) -> AsyncKernels | None:
        """Return the kernels of the nodes that receive items, which have been initialized.

        Args:
            compile_nodes: Returns new ones.
            are_changed: Whether the nodes may have chosen other methods since this was created.
        """
        if not self._keeps_kernels(are_changed=are_changed):
            return compile_nodes()
        if self._kernels is None:
            self._kernels = compile_nodes()
        return self._kernels

    def parts(self, called: Sequence[Any], *, are_changed: bool) -> list[Part]:
        """Return the parts of the chain.

        Args:
            called: What the items of each node are passed to.
            are_changed: As for `kernels`.
        """
        if not self._keeps_kernels(are_changed=are_changed):
            return self.divided(called)
        if self._parts is None:
            self._parts = self.divided(called)
        return self._parts

    def divided(self, called: Sequence[Any]) -> list[Part]:
        """Return new parts of the chain, for what the items of each node are passed to."""
        found = []
        begin = self.first
        for end in range(self.first + 1, len(self.nodes) + 1):
            if end == len(self.nodes) or self.on_thread[end] != self.on_thread[begin]:
                found.append(Part(begin, called[begin:end], on_thread=self.on_thread[begin]))
                begin = end
        return found

    def _keeps_kernels(self, *, are_changed: bool) -> bool:
        """Whether the kernels are the same in each session. Guards belong to one."""
        if self.has_policies or self.signature is None:
            return False
        return not are_changed or self.signature == _signature_of(self._name, self._entries)


def known_of(graph: Graph) -> Known:
    """Return what is known of a graph, also from earlier sessions of its pipeline."""
    signature = _signature_of(graph.name, graph.entries)
    known = graph.memory.known
    if known is None or signature is None or known.signature != signature:
        known = graph.memory.known = Known(graph, signature)
    return known


def only_marks(node: object, name: Literal["initialize", "cleanup"]) -> bool:
    """Whether a method of a node is that of `Node`, which only sets `is_initialized`.

    It runs no code of the user, so it may be called on any thread.
    """
    method = getattr(node, name, None)
    kind = type(node)
    return (
        type(method) is MethodType
        and method.__func__ is _MARKING[name]
        and method.__self__ is node
        # Setting the attribute runs no code, either.
        and type(getattr(kind, "is_initialized", None)) is bool
        and kind.__setattr__ is object.__setattr__
    )


def _signature_of(name: str, entries: Sequence[Entry]) -> tuple[Any, ...] | None:
    """Return what determines the kinds of the nodes and their kernels; `None` for unusual nodes."""
    found: list[Any] = [name]
    for entry in entries:
        node = entry.node
        # A factory has none.
        process: Any = getattr(node, "process", None)
        if type(process) is not MethodType or process.__self__ is not node:
            return None
        function = process.__func__
        if type(function) is not FunctionType or (function.__dict__ and is_marked(function)):
            return None
        if function in _WITH_VALUES or getattr(node, "is_streaming", False) is True:
            return None
        found += (type(node), function, function.__code__)
    return tuple(found)
