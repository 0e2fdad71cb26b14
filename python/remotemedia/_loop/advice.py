"""What the measured times of nodes say about `placement="inline"` in asyncio."""

from __future__ import annotations

from itertools import chain, groupby
from typing import TYPE_CHECKING, Any

from remotemedia._graph.graph import Entry, Graph
from remotemedia._graph.node_kinds import classify, makes_coroutines
from remotemedia._loop.places import LOOP, THREAD, are_staged, on_loop, places_of, stages_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from remotemedia._loop.places import Place

    Times = Mapping[str, Mapping[str, Any]]

__all__ = ["CALL_HOP_US", "FEWEST_ITEMS", "ITEM_HOP_US", "LONGEST_HOLD_US", "advise", "advise_session"]

FEWEST_ITEMS = 100
"""With fewer items, their times say too little."""

CALL_HOP_US = 10.0
"""Each call of a session spends longer than this on its way to a thread and back."""

ITEM_HOP_US = 1.0
"""The same for an item of a run or stream, which crosses together with others."""

LONGEST_HOLD_US = 5000.0
"""How long a node may hold up the event loop."""

_DEF = {"plain", "generator"}
_NEXT_UNIT = 1000


def advise(graph: Graph, metrics: Mapping[str, Any], *, is_run: bool, hop_us: float) -> list[str]:
    """Return a sentence about each placement that costs more than another one in asyncio.

    Runs and sessions that measure may have their `def` nodes on other threads than those that do not, which
    this is about.

    Args:
        graph: The checked pipeline.
        metrics: Its metrics.
        is_run: Whether it runs once, or is a session.
        hop_us: The least time that an item spends on its way to a thread and back.
    """
    times = {node["node_id"]: node for node in metrics["node_metrics"]}
    return [
        *_advise_inline(graph, times, is_run=is_run, hop_us=hop_us),
        *_advise_against(graph, times, is_run=is_run, hop_us=hop_us),
    ]


def advise_session(graph: Graph, metrics: Mapping[str, Any], calls: int) -> list[str]:
    """Return the same about a session, so many of whose items came by `call`."""
    hop_us = CALL_HOP_US if calls >= FEWEST_ITEMS else ITEM_HOP_US
    return advise(graph, metrics, is_run=False, hop_us=hop_us)


def _advise_inline(graph: Graph, times: Times, *, is_run: bool, hop_us: float) -> list[str]:
    movable = {entry.id for entry in graph.entries if _is_movable(entry) and entry is not graph.source}
    if not movable or on_loop(_with_inline(graph, movable), is_run=is_run) is None:
        return []
    if is_run and LOOP not in places_of(graph.entries):
        # All items of such a run cross to its thread once.
        return []
    chosen = []
    for crossing in _crossings(graph):
        nodes = [times[entry.id] for entry in crossing]
        if all(entry.id in movable for entry in crossing) and _are_short(crossing, nodes, hop_us):
            chosen.append(crossing)
    # The chain goes to the loop with all of them, or not at all.
    ids = {entry.id for entry in chain.from_iterable(chosen)}
    if on_loop(_with_inline(graph, ids), is_run=is_run) is None:
        return []
    what = "a call" if hop_us == CALL_HOP_US else "an item"
    return [_inline_text(crossing, _micros(crossing, times), what) for crossing in chosen]


def _is_movable(entry: Entry) -> bool:
    """Whether this is a `def` node without any option."""
    if entry.options or isinstance(entry.node, type) or not callable(getattr(entry.node, "process", None)):
        return False
    return classify(entry.node) in _DEF


def _with_inline(graph: Graph, ids: Collection[str]) -> Graph:
    """Return the graph with `placement="inline"` written on these nodes."""
    entries = []
    for entry in graph.entries:
        options = {"placement": "inline"} if entry.id in ids else entry.options
        entries.append(Entry(entry.id, entry.node, entry.node_type, entry.after, entry.join, options))
        entries[-1].inherits_placement = entry.inherits_placement and entry.id not in ids
    return Graph(graph.name, entries, graph.source)


def _crossings(graph: Graph) -> list[list[Entry]]:
    """Return the neighbours that an item visits on each of its ways to a thread and back."""
    found = []
    for stage in _placed(graph):
        for place, group in groupby(stage, lambda one: one[1]):
            if place == THREAD:
                found.append([entry for entry, _ in group])
    return found


def _placed(graph: Graph) -> list[list[tuple[Entry, Place]]]:
    """Return the nodes of each stage, and where they run."""
    stages = stages_of(graph) if are_staged(graph.entries) else [graph.entries]
    return [[*zip(stage, places_of(stage), strict=True)] for stage in stages]


def _are_short(crossing: list[Entry], nodes: list[Mapping[str, Any]], hop_us: float) -> bool:
    """Whether all nodes of a crossing together take less time than the crossing, and none ever takes long."""
    if any(node["items_in"] < FEWEST_ITEMS for node in nodes):
        return False
    if any(_longest(entry, node)[0] > LONGEST_HOLD_US for entry, node in zip(crossing, nodes, strict=True)):
        return False
    return _per_item(nodes) < hop_us


def _per_item(nodes: list[Mapping[str, Any]]) -> float:
    """Return the time in these nodes for each item that enters the first."""
    return float(sum(node["total_duration_us"] for node in nodes) / nodes[0]["items_in"])


def _micros(crossing: list[Entry], times: Times) -> float:
    return _per_item([times[entry.id] for entry in crossing])


def _inline_text(crossing: list[Entry], micros: float, what: str) -> str:
    from remotemedia.nodes import _builtin

    # Built-in nodes run where their neighbours run.
    names = [f"'{entry.id}'" for entry in crossing if type(entry.node) not in _builtin.INLINE]
    if len(names) == 1:
        nodes, way, where = f"Node {names[0]} takes", "its", "it"
    else:
        nodes, way, where = f"Nodes {', '.join(names)} together take", "their", "each of them"
    return (
        f"{nodes} {_duration(micros)}, but in asyncio {what} spends longer on the way to {way} thread and "
        f'back; write placement="inline" on {where}'
    )


def _advise_against(graph: Graph, times: Times, *, is_run: bool, hop_us: float) -> list[str]:
    if on_loop(graph, is_run=is_run) is None:
        return []
    placed = chain.from_iterable(_placed(graph))
    inline = [entry for entry, place in placed if place == LOOP and classify(entry.node) in _DEF]
    texts = [_against_text(entry, times[entry.id], hop_us) for entry in inline]
    return [text for text in texts if text is not None]


def _against_text(entry: Entry, node: Mapping[str, Any], hop_us: float) -> str | None:
    longest, phase = _longest(entry, node)
    if longest <= LONGEST_HOLD_US:
        return None
    what, average = "its initialize()", node["avg_duration_us"]
    condition = took = ""
    if phase == "process":
        what, took = "its longest call", f" ({_duration(average)} on average)"
        # The system can delay any call as long.
        condition = "if the machine was not busy with other work, " if average < hop_us else ""
    return (
        f"Node '{entry.id}' runs on the event loop in asyncio, and {what} took {_duration(longest)}{took}, "
        f"for which all other tasks wait; {condition}{_remedy(entry)}"
    )


def _longest(entry: Entry, node: Mapping[str, Any]) -> tuple[float, str]:
    """Return the longest time that a node can hold up the loop, and in which phase."""
    # The time of a coroutine contains that in which others run.
    call = 0.0 if _is_async(entry.node, "flush") else node["max_duration_us"]
    initialize = 0.0 if _is_async(entry.node, "initialize") else node["initialize_duration_us"]
    if initialize > max(call, LONGEST_HOLD_US):
        return initialize, "initialize"
    return call, "process"


def _is_async(node: object, method: str) -> bool:
    return makes_coroutines(getattr(node, method, None))


def _remedy(entry: Entry) -> str:
    if "placement" in entry.options and not entry.inherits_placement:
        return "remove its placement"
    return 'write placement="thread" on it'


def _duration(micros: float) -> str:
    for unit in ("µs", "ms"):
        if micros < _NEXT_UNIT:
            return f"{micros:.1f} {unit}"
        micros /= _NEXT_UNIT
    return f"{micros:.1f} s"
