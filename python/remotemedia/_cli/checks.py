"""What `check` reports about a pipeline besides its plan."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from remotemedia._cli.errors import TargetError
from remotemedia._graph.collector import without_collector

if TYPE_CHECKING:
    from remotemedia._graph.graph import Entry, Graph
    from remotemedia.exceptions import SerializationError


_AT_ONCE = 500
"""How many nodes are checked together; most often all of them can be sent."""


_KEYS = {
    "node_id",
    "items_in",
    "total_duration_us",
    "avg_duration_us",
    "max_duration_us",
    "initialize_duration_us",
}
"""Those of a node's metrics that advice is based on."""


class Remark(NamedTuple):
    """One sentence about a pipeline."""

    is_problem: bool
    text: str


def remarks(graph: Graph) -> list[Remark]:
    """Return fields and options without effect, and nodes that cannot be sent to a worker.

    Only a node that is placed in a worker and cannot be sent is a problem.
    """
    ignored = [f"{field} has no effect" for field in graph.ignored]
    notes = [*ignored, *_idle_options(graph)]
    with without_collector():
        return [*(Remark(is_problem=False, text=text) for text in notes), *_unsendable(graph.entries)]


def advice(graph: Graph, text: str) -> list[str]:
    """Return what measured times say about the placement of the nodes in a session of asyncio.

    Args:
        graph: The checked pipeline.
        text: Its metrics as JSON, alone or in the last line.

    Raises:
        TargetError: If these are not metrics of this pipeline.
    """
    from remotemedia._loop.advice import CALL_HOP_US, advise

    metrics = _metrics_of(text)
    if metrics is None:
        raise TargetError(
            "this file contains no metrics; write them with json.dump(metrics, file) or run --metrics=json"
        )
    measured = [node["node_id"] for node in metrics["node_metrics"]]
    if sorted(measured) != sorted(entry.id for entry in graph.entries):
        raise TargetError("these metrics are of a pipeline with other nodes")
    return advise(graph, metrics, is_run=False, hop_us=CALL_HOP_US)


def _metrics_of(text: str) -> dict[str, Any] | None:
    import json

    metrics: dict[str, Any]
    # Nodes may have printed to the same file.
    for part in (text, *text.strip().splitlines()[-1:]):
        try:
            metrics = json.loads(part)
        except ValueError:
            continue
        nodes = metrics.get("node_metrics") if isinstance(metrics, dict) else None
        if isinstance(nodes, list) and all(isinstance(node, dict) and node.keys() >= _KEYS for node in nodes):
            return metrics
    return None


def unsendable(graph: Graph) -> list[str]:
    """Return why nodes that are placed in a worker cannot be sent there; empty if all can."""
    placed = [entry for entry in graph.entries if entry.options.get("placement") == "process"]
    return [remark.text for remark in _unsendable(placed) if remark.is_problem]


def _idle_options(graph: Graph) -> list[str]:
    found = []
    for entry in graph.entries:
        options = entry.options
        if not options:
            continue
        if "snapshot_every" in options and not callable(getattr(entry.node, "snapshot", None)):
            found.append(
                f"node '{entry.id}': snapshot_every has no effect without snapshot() and restore(state)"
            )
        if "restart_window" in options and options.get("max_restarts") == 0:
            found.append(f"node '{entry.id}': restart_window has no effect with max_restarts=0")
        if "retry_delay" in options and not options.get("retries"):
            found.append(f"node '{entry.id}': retry_delay has no effect without retries")
    return found


def _unsendable(entries: list[Entry]) -> list[Remark]:
    from remotemedia.exceptions import SerializationError

    if not entries:
        return []
    try:
        from remotemedia.core.node_serialization import are_sendable, check_sendable
    except ImportError as error:
        return [Remark(is_problem=False, text=f"cannot check whether nodes can be sent to a worker: {error}")]
    found = []
    # Factories are left out, because their nodes do not exist yet.
    made = [entry for entry in entries if hasattr(entry.node, "process")]
    for start in range(0, len(made), _AT_ONCE):
        some = made[start : start + _AT_ONCE]
        if len(some) > 1 and are_sendable([entry.node for entry in some]):
            continue
        for entry in some:
            try:
                check_sendable(entry.node)
            except SerializationError as error:
                found.append(_unsendable_remark(entry, error))
    return found


def _unsendable_remark(entry: Entry, error: SerializationError) -> Remark:
    if entry.options.get("placement") != "process":
        what = f"attribute '{error.attribute}'" if error.attribute else "the object"
        text = f"node '{entry.id}' cannot be sent to a worker: {what} is not serializable"
        return Remark(is_problem=False, text=text)
    if _may_release(entry.node):
        text = f"node '{entry.id}' can be sent to a worker only if its cleanup() releases this: {error}"
        return Remark(is_problem=False, text=text)
    return Remark(is_problem=True, text=str(error))


def _may_release(node: object) -> bool:
    """Whether a node defines `cleanup`, which is called before the node is sent."""
    from remotemedia.core.node import Node

    cleanup = getattr(type(node), "cleanup", None)
    return cleanup is not None and cleanup is not Node.cleanup
