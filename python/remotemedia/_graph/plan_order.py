"""The order in which nodes are initialized and items pass through them."""

from __future__ import annotations

from remotemedia.exceptions import PipelineError

TYPE_CHECKING = False  # That of `typing` costs its import.
if TYPE_CHECKING:
    from collections.abc import Sequence

    from remotemedia._graph.graph import Entry

__all__ = ["plan_order"]

_MAX_IDS_SHOWN = 12


def plan_order(entries: Sequence[Entry]) -> list[int]:
    """Return the positions of the entries in plan order: each after its upstream nodes, else as described.

    Raises:
        PipelineError: If an id in `after` is unknown, or the connections form a cycle.
    """
    import heapq

    upstreams = _upstream_positions(entries)
    waiting_for = [len(found) for found in upstreams]
    downstreams: list[list[int]] = [[] for _ in entries]
    for position, found in enumerate(upstreams):
        for upstream in found:
            downstreams[upstream].append(position)
    ready = [position for position, count in enumerate(waiting_for) if not count]
    order: list[int] = []
    while ready:
        position = heapq.heappop(ready)
        order.append(position)
        for downstream in downstreams[position]:
            waiting_for[downstream] -= 1
            if not waiting_for[downstream]:
                heapq.heappush(ready, downstream)
    if len(order) < len(entries):
        raise PipelineError(f"The connections form a cycle: {_cycle(entries, upstreams)}")
    return order


def _upstream_positions(entries: Sequence[Entry]) -> list[list[int]]:
    positions = {entry.id: position for position, entry in enumerate(entries)}
    for entry in entries:
        for upstream in entry.after:
            if upstream not in positions:
                from remotemedia._suggest import did_you_mean

                hint = did_you_mean(upstream, positions)
                raise PipelineError(
                    f"Node '{entry.id}' comes after '{upstream}', but no node has that id{hint}"
                )
    return [[positions[upstream] for upstream in dict.fromkeys(entry.after)] for entry in entries]


def _cycle(entries: Sequence[Entry], upstreams: list[list[int]]) -> str:
    from graphlib import CycleError, TopologicalSorter

    try:
        TopologicalSorter(dict(enumerate(upstreams))).prepare()
    except CycleError as error:
        ids = [entries[position].id for position in error.args[1]]
    if len(ids) > _MAX_IDS_SHOWN:
        ids[6:-5] = ["…"]
    return " → ".join(ids)
