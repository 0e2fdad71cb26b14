"""Where the branches of a graph meet: what has arrived there of the input that is in progress."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from remotemedia._compiled.failures import NO_NODE
from remotemedia._compiled.layout import Connections, routes_of
from remotemedia._graph.output_shape import shape

if TYPE_CHECKING:
    from collections.abc import Sequence

    from remotemedia._compiled.failures import InProgress
    from remotemedia._graph.graph import Entry

__all__ = ["Gates", "connections_of"]


class Gates:
    """Collects the outputs of branches, until all other work of the input is done.

    Attributes:
        routes: The ways between the nodes.
    """

    def __init__(self, connections: Connections, ids: Sequence[str]) -> None:
        """Start with nothing.

        Args:
            connections: How the nodes are connected.
            ids: Their ids, which are the keys of joined outputs.
        """
        self._connections = connections
        self.routes = routes_of(connections)
        self._ids = ids
        self._arrived: dict[tuple[int, int], list[Any]] = {}
        self._entered: set[int] = set()

    def empty(self) -> Gates:
        """Return gates of the same graph for another input."""
        return Gates(self._connections, self._ids)

    def forget(self) -> None:
        """Forget the input."""
        self._arrived.clear()
        self._entered.clear()

    def enter(self, node: int) -> None:
        """Note that a node receives an item."""
        self._entered.add(node)

    def add(self, gate: int, node: int, output: Any) -> None:
        """Collect an output of a node; `NO_NODE` is the gate of the outputs of several last nodes."""
        self._arrived.setdefault((gate, node), []).append(output)

    def open(self, gate: int, *, is_flush: bool) -> list[Any]:
        """Return the items for the node behind a gate.

        Args:
            gate: The node.
            is_flush: Whether it is the end of the input, at which a join needs an output.
        """
        before = self.routes.after[gate]
        arrived = [self._arrived.pop((gate, node), []) for node in before]
        if not self.routes.joins[gate]:
            return [item for branch in arrived for item in branch]
        is_reached = not is_flush and not self._entered.isdisjoint(before)
        if not any(arrived) and not is_reached:
            return []
        return [{self._ids[node]: shape(branch) for node, branch in zip(before, arrived, strict=True)}]

    def outputs(self) -> list[Any]:
        """Return the outputs of several last nodes."""
        return [output for end in self.routes.ends for output in self._arrived.pop((NO_NODE, end), [])]

    def take_over(self, in_progress: InProgress) -> None:
        """Continue with what a kernel has collected."""
        self.forget()
        self._entered.update(in_progress.entered)
        for gate, node, outputs in in_progress.arrived:
            if outputs:
                self._arrived[gate, node] = outputs


def connections_of(entries: Sequence[Entry]) -> Connections:
    """Return how nodes in plan order are connected with each other; the nodes before them are left out."""
    positions = {entry.id: position for position, entry in enumerate(entries)}
    after = tuple(tuple(positions[one] for one in entry.after if one in positions) for entry in entries)
    return Connections(after, tuple(entry.join for entry in entries))
