"""The ways of items through the nodes of a graph."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from remotemedia._compiled.steps import Step

__all__ = ["INPUT", "Connections", "Layout", "Routes", "chain", "layout_of", "routes_of"]

INPUT = -1
"""Stands for the input of the graph where others stand for nodes."""


class Connections(NamedTuple):
    """How nodes are connected. They are numbered in plan order."""

    after: tuple[tuple[int, ...], ...]
    """The nodes before each node, in the order in which they count."""
    joins: tuple[bool, ...]
    """Whether each node receives one dict with the outputs of the nodes before it."""


@functools.lru_cache(maxsize=64)
def chain(length: int) -> Connections:
    """Return the connections of a chain."""
    return Connections(tuple((index - 1,) if index else () for index in range(length)), (False,) * length)


class Routes:
    """The ways between nodes.

    Attributes:
        after: The nodes before each node.
        joins: Whether each node receives a dict.
        targets: The nodes behind each node, and behind the input.
        ends: The nodes that no other node follows.
        gates: The nodes where branches meet, in plan order. Their items are collected until all other work of
            the input is done.
    """

    def __init__(self, connections: Connections) -> None:
        """Derive everything from the connections."""
        self.after, self.joins = connections
        nodes = range(len(self.after))
        self.targets = {node: [target for target in nodes if node in self.after[target]] for node in nodes}
        self.targets[INPUT] = [node for node in nodes if not self.after[node]]
        self.ends = [node for node in nodes if not self.targets[node]]
        self.gates = [
            node for node in nodes if len(self.after[node]) > 1 or (self.joins[node] and self.after[node])
        ]

    def without(self, count: int) -> Connections | None:
        """Return how the nodes behind the first ones are connected; `None` if they are a chain."""
        after = tuple(tuple(one - count for one in before if one >= count) for before in self.after[count:])
        connections = Connections(after, self.joins[count:])
        return None if connections == chain(len(after)) else connections

    @property
    def has_several_ends(self) -> bool:
        """Whether the outputs are collected, and leave in plan order of the last nodes."""
        return len(self.ends) > 1


@functools.lru_cache(maxsize=128)
def routes_of(connections: Connections) -> Routes:
    """Return the ways between nodes, which graphs of one shape share."""
    return Routes(connections)


class Layout(Routes):
    """What else follows from the connections and the kinds of nodes.

    Attributes:
        is_single: Whether each node has at most one output for an input.
        flagged: The nodes of which a kernel must know whether they were entered.
        always_entered: The nodes that receive an item of every input.
    """

    def __init__(self, steps: Sequence[Step], connections: Connections) -> None:
        """Derive everything from the connections."""
        super().__init__(connections)
        nodes = range(len(steps))
        self.is_single: list[bool] = []
        self._is_sure: list[bool] = []
        for node in nodes:
            before = self.after[node]
            if node in self.gates:
                is_single = self.joins[node]
                is_sure = is_single and any(self._is_sure[one] for one in before)
            else:
                is_single, is_sure = not before or self.is_single[before[0]], not before
            self.is_single.append(is_single and not steps[node].makes_several)
            self._is_sure.append(is_sure)
        self.always_entered = [node for node in nodes if self._is_sure[node]]
        self.flagged = {node for gate in self.gates for node in self.entered(gate)}

    @property
    def has_one_output(self) -> bool:
        """Whether an item has at most one output."""
        return len(self.ends) == 1 and self.is_single[self.ends[0]]

    def is_variable(self, gate: int, node: int) -> bool:
        """Whether a variable, not a list, holds what a gate collects from a node."""
        return self.joins[gate] and self.is_single[node]

    def entered(self, gate: int) -> list[int]:
        """Return nodes of which at least one was entered if any before a join was; none if one always is."""
        before = self.after[gate]
        if not self.joins[gate] or any(self._is_sure[node] for node in before):
            return []
        return list(dict.fromkeys(self.siblings(node)[0] for node in before))

    def first_of(self, node: int) -> int:
        """Return the gate or first node that the items of a node come from without another gate between."""
        while node not in self.gates and self.after[node]:
            node = self.after[node][0]
        return node

    def siblings(self, node: int) -> list[int]:
        """Return the nodes that are entered if and only if this one is."""
        if node in self.gates:
            return [node]
        source = self.after[node][0] if self.after[node] else INPUT
        return [target for target in self.targets[source] if target not in self.gates]


@functools.lru_cache(maxsize=128)
def layout_of(steps: tuple[Step, ...], connections: Connections) -> Layout:
    """Return the layout of a graph, which others of its shape share."""
    return Layout(steps, connections)
