"""Where the nodes of a pipeline run in asyncio."""

from __future__ import annotations

import logging
from itertools import filterfalse, groupby
from types import FunctionType
from typing import TYPE_CHECKING, Any, Literal

from remotemedia._compiled.bytecode import only_iterates
from remotemedia._compiled.kernels import LARGEST_GRAPH
from remotemedia._graph.graph import Graph
from remotemedia._graph.node_kinds import classify, is_source
from remotemedia._graph.plan_order import plan_order
from remotemedia._graph.policy import Policy

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from remotemedia._core import LoopMetrics
    from remotemedia._graph.graph import Entry

    Place = Literal["loop", "thread"]

__all__ = [
    "LOOP",
    "THREAD",
    "are_staged",
    "can_measure",
    "has_stages",
    "has_streaming_nodes",
    "is_concurrent",
    "is_logged",
    "is_placed",
    "makes_several",
    "metrics_of",
    "on_loop",
    "places_of",
    "stages_of",
]

_logger = logging.getLogger("remotemedia")

LOOP: Literal["loop"] = "loop"
"""On the caller's event loop."""

THREAD: Literal["thread"] = "thread"
"""Beside it, on a thread of the run or session."""

_OPTIONS = {"placement", "group", "concurrency", "ordered"}
_POLICIES = {"on_error", "dead_letter", "retries", "retry_delay", "timeout"}
_PLACEMENTS = {None, "inline", "thread"}


def on_loop(graph: Graph, *, is_run: bool) -> Graph | None:
    """Return a pipeline in plan order, if its nodes run on the caller's event loop, or on threads beside it.

    On the loop run coroutines, async generators, and nodes with `placement="inline"`; beside it run other
    `def` nodes, in a session also on threads of their own, with `placement="thread"`. Coroutines, and some
    `def` nodes, may have failure policies. Other options need stages elsewhere, and so does logging, for
    which sessions check `is_logged` when they open. Streaming nodes only iterate over their items; in a run
    only if no node has a policy. Where there are branches, no node has a thread of its own, nodes with any
    number of outputs have no thread beside them, and runs have no streaming nodes.

    Args:
        graph: The checked pipeline.
        is_run: Whether it runs once; such a run needs a node on the loop.
    """
    if len(graph.entries) > LARGEST_GRAPH or (is_run and (_are_all_beside(graph.entries) or is_logged())):
        return None
    kinds = [_kind_of(entry, is_run=is_run) for entry in graph.entries]
    if None in kinds or (is_run and "streaming" in kinds and _has_policies(graph.entries)):
        return None
    if is_run and any("group" in entry.options for entry in graph.entries):
        return None
    if _is_chain(graph.entries):
        return graph if _runs_beside(graph, is_run=is_run) else None
    ordered = Graph(
        graph.name, [graph.entries[position] for position in plan_order(graph.entries)], graph.source
    )
    return ordered if _can_branch(ordered, is_run=is_run) else None


def _are_all_beside(entries: Iterable[Entry]) -> bool:
    """Whether all are plain `def` nodes without options: the usual run, for which nothing else is checked."""
    from remotemedia.nodes import _builtin

    return all(
        not entry.options and type(entry.node) not in _builtin.INLINE and classify(entry.node) == "plain"
        for entry in entries
    )


def can_measure(graph: Graph, *, is_run: bool) -> bool:
    """Whether metrics can be collected of a pipeline that runs here.

    In a run, streaming nodes call the nodes before them.
    """
    if any(is_concurrent(entry) for entry in graph.entries):
        return False
    return not (is_run and has_streaming_nodes(graph.entries) and not are_staged(graph.entries))


def makes_several(entries: Iterable[Entry]) -> bool:
    """Whether one of the nodes may have any number of outputs for an item."""
    return any(classify(entry.node).endswith(("generator", "streaming")) for entry in entries)


def has_streaming_nodes(entries: Iterable[Entry]) -> bool:
    """Whether one of the nodes takes the whole stream."""
    return any(classify(entry.node) == "streaming" for entry in entries)


def _has_policies(entries: Iterable[Entry]) -> bool:
    return any(entry.options and Policy(entry.options) for entry in entries)


def metrics_of(graph: Graph) -> LoopMetrics:
    """Return what collects the metrics of such a pipeline."""
    from remotemedia._core import LoopMetrics

    nodes = [
        (entry.id, entry.node_type, entry.options.get("placement") or "inline") for entry in graph.entries
    ]
    return LoopMetrics(graph.name, nodes, int(graph.source is not None))


def _is_chain(entries: Sequence[Entry]) -> bool:
    before: list[str] = []
    for entry in entries:
        if entry.after != before or entry.join:
            return False
        before = [entry.id]
    return True


def _meet_at_source(graph: Graph) -> bool:
    """Whether a node receives the items of a source together with other outputs, or in a dict."""
    source = graph.source
    return source is not None and any(
        source.id in entry.after and (entry.join or len(entry.after) > 1) for entry in graph.entries
    )


def _can_branch(graph: Graph, *, is_run: bool) -> bool:
    """Whether a graph in plan order that is not a chain can run on the loop and on a thread beside it."""
    if has_stages(graph.entries) or _meet_at_source(graph) or (is_run and has_streaming_nodes(graph.entries)):
        return False
    if THREAD not in (places := places_of(graph.entries)):
        return True
    # Without a node on the loop, threads take the items through compiled code. A node with any number of
    # outputs beside a thread would need a queue.
    return LOOP in places and not makes_several(graph.entries[graph.source is not None :])


def _runs_beside(graph: Graph, *, is_run: bool) -> bool:
    """Whether a chain can run on the loop and on threads beside it."""
    nodes = graph.entries[graph.source is not None :]
    has_placed = is_placed(nodes)
    if has_placed and is_run:
        return False
    if any(is_concurrent(entry) for entry in graph.entries):
        return not makes_several(nodes)
    if THREAD not in (places := places_of(graph.entries)) and not has_placed:
        return True
    if is_run and has_streaming_nodes(nodes):
        # As in a session, several tasks take the items through the stages.
        return all(
            classify(entry.node) != "streaming" or _only_iterates(entry.node, is_run=False) for entry in nodes
        )
    return has_placed or LOOP in places or not is_run


def stages_of(graph: Graph) -> list[list[Entry]]:
    """Return the nodes of each stage: neighbours of a placed node are in others, unless in its group.

    So are those of a node with concurrency. Where a node has any number of outputs, those on the loop and
    those beside it are in different stages, between which the outputs wait. A source is in the first stage.
    """
    sources = graph.source is not None
    stages: list[list[Entry]] = [[*graph.entries[:sources]]] if sources else []
    last: object = None
    for index, entry in enumerate(graph.entries[sources:]):
        name = _stage_name(entry, index)
        if stages and (name == last or index == 0):
            stages[-1].append(entry)
        else:
            stages.append([entry])
        last = name
    return [part for stage in stages for part in _divided(stage)]


def _divided(stage: list[Entry]) -> list[list[Entry]]:
    """Return the nodes of a stage by their places, if there is more than one and outputs have to wait."""
    nodes = [*_receiving(stage)]
    if is_placed(nodes) or not _crosses(nodes):
        return [stage]
    places = dict(zip((entry.id for entry in nodes), places_of(nodes), strict=True))
    parts = [[*part] for _, part in groupby(nodes, lambda entry: places[entry.id])]
    return [[*stage[: len(stage) - len(nodes)], *parts[0]], *parts[1:]]


def _crosses(nodes: Sequence[Entry]) -> bool:
    """Whether nodes have any number of outputs, and others are beside the loop."""
    return makes_several(nodes) and THREAD in places_of(nodes)


def are_staged(entries: Sequence[Entry]) -> bool:
    """Whether a chain may have several stages."""
    return has_stages(entries) or _crosses([*_receiving(entries)])


def _receiving(entries: Iterable[Entry]) -> Iterable[Entry]:
    """Return the nodes that receive items: a source does not."""
    return filterfalse(lambda entry: is_source(entry.node), entries)


def has_stages(entries: Iterable[Entry]) -> bool:
    """Whether nodes have stages of their own: they have a thread, or receive several items at once."""
    return any(entry.options and (not _is_inline(entry) or is_concurrent(entry)) for entry in entries)


def is_concurrent(entry: Entry) -> bool:
    """Whether several items are in a node at once."""
    return bool(entry.options.get("concurrency", 1) > 1)


def is_placed(entries: Iterable[Entry]) -> bool:
    """Whether the nodes of a stage have a thread of their own."""
    return any(entry.options and not _is_inline(entry) for entry in entries)


def _stage_name(entry: Entry, index: int) -> object:
    """Return what the nodes of a stage have in common; `None` for those that are not placed."""
    if is_concurrent(entry):
        return index
    if _is_inline(entry):
        return None
    group = entry.options.get("group")
    return index if group is None and not entry.inherits_placement else (group,)


def places_of(entries: Sequence[Entry]) -> list[Place]:
    """Return where each node runs. A built-in node runs with its neighbour, and alone on the loop."""
    places: list[Place | None] = [_place_of(entry) for entry in entries]
    known = next((place for place in places if place is not None), LOOP)
    found: list[Place] = []
    for place in places:
        known = place or known
        found.append(known)
    return found


def _is_inline(entry: Entry) -> bool:
    return entry.options.get("placement") in {None, "inline"}


def _kind_of(entry: Entry, *, is_run: bool) -> str | None:
    """Return the kind of a node, or `None` if it needs a stage that is not on the loop."""
    if isinstance(entry.node, type) or not callable(getattr(entry.node, "process", None)):
        return None
    kind = classify(entry.node)
    if not _can_have_options(entry, kind):
        return None
    if kind == "streaming":
        return kind if _only_iterates(entry.node, is_run=is_run) else None
    if _place_of(entry) == THREAD and (kind == "generator" or is_source(entry.node)):
        return None
    return kind


def _can_have_options(entry: Entry, kind: str) -> bool:
    """Whether a node of this kind can have its options here."""
    options = entry.options
    if not options:
        return True
    if not (options.keys() <= _OPTIONS | _POLICIES and options.get("placement") in _PLACEMENTS):
        return False
    if "ordered" in options and not is_concurrent(entry):
        return False
    if is_concurrent(entry) and (kind != "coroutine" or not _is_inline(entry) or "group" in options):
        return False
    policy = Policy(options)
    return not policy or _can_guard(policy, kind, entry)


def _can_guard(policy: Policy, kind: str, entry: Entry) -> bool:
    """Whether a node can be called here under its policy.

    A call of a `def` node cannot be stopped, and on a thread neither can the pause before the next one.
    The task of a streaming node belongs to all of its items.
    """
    if is_source(entry.node) or kind == "streaming":
        return False
    can_be_stopped = kind in {"coroutine", "async_generator"}
    return can_be_stopped or policy.only_handles or (policy.timeout is None and _place_of(entry) == LOOP)


def _only_iterates(node: Any, *, is_run: bool) -> bool:
    """Whether a streaming node reads its items only in loops of its own code, and is no source.

    Any other one could let other tasks read them, or set a limit on the time for an item. In a session,
    each item may come from another task, so there may be no `with` at all, which could belong to a task.
    """
    method = node.process
    function = getattr(method, "__func__", None)
    if not isinstance(function, FunctionType) or getattr(method, "__self__", None) is not node:
        return False
    return not is_source(node) and only_iterates(function.__code__, allows_with=is_run)


def _place_of(entry: Entry) -> Place | None:
    if classify(entry.node) in {"coroutine", "async_generator", "streaming"}:
        return LOOP
    if "placement" in entry.options:
        return LOOP if _is_inline(entry) else THREAD
    from remotemedia.nodes import _builtin

    return None if type(entry.node) in _builtin.INLINE else THREAD


def is_logged() -> bool:
    """Whether single steps are logged."""
    return _logger.isEnabledFor(logging.DEBUG)
