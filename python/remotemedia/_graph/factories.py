"""Classes and functions in place of nodes: each run and each session makes nodes of its own."""

from __future__ import annotations

from remotemedia._graph.graph import Entry, connected, describe, has_replicas, is_factory, is_node
from remotemedia._graph.node_kinds import makes_coroutines
from remotemedia._graph.options import check_fit
from remotemedia.exceptions import PipelineError

TYPE_CHECKING = False  # That of `typing` costs its import.
if TYPE_CHECKING:
    from remotemedia._graph.graph import Graph

__all__ = ["with_nodes"]


def with_nodes(graph: Graph) -> Graph:
    """Return the graph with new nodes in place of classes and functions that make them, or the graph itself.

    Replicas are made one by one when they are initialized.

    Raises:
        PipelineError: If a node cannot be made.
    """
    if not any(_is_made_here(entry) for entry in graph.entries):
        return graph
    complete = connected(graph.name, [_with_node(entry) for entry in graph.entries])
    if complete.source is not None and graph.source is None:
        what = "a source must be an object, not a class or a function that makes it"
        raise PipelineError(f"Node '{complete.source.id}': {what}")
    complete.order = graph.order
    complete.ignored = graph.ignored
    return complete


def _is_made_here(entry: Entry) -> bool:
    return is_factory(entry.node) and not has_replicas(entry.options)


def _with_node(entry: Entry) -> Entry:
    if not _is_made_here(entry):
        return entry
    node = _make(entry)
    check_fit(node, entry.options, entry.id)
    complete = Entry(entry.id, node, entry.node_type, entry.after, entry.join, entry.options)
    complete.inherits_placement = entry.inherits_placement
    return complete


def _make(entry: Entry) -> object:
    if makes_coroutines(entry.node):
        what = "create the object in a function without async, and await in an async initialize()"
        raise PipelineError(f"Node '{entry.id}': the factory is async; {what}")
    try:
        node = entry.node()  # type: ignore[operator]
    except Exception as error:
        what = f"{type(error).__name__}: {error}"
        raise PipelineError(f"Node '{entry.id}' could not be made: {what}") from error
    if not is_node(node) or isinstance(node, type):
        what = f"the function returned {describe(node)}"
        raise PipelineError(f"Node '{entry.id}' could not be made: {what}")
    return node
