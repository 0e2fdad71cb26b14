"""Groups: neighbours that share a stage because their options say so.

`runtime::plan::groups` checks the same for pipelines that Rust programs and manifests describe.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from remotemedia.exceptions import PipelineError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from remotemedia._graph.graph import Entry

__all__ = ["check_groups"]

# Options with their defaults. The nodes of a stage have the same values of these …
_STAGE_OPTIONS = {
    "replicas": 1,
    "ordered": True,
    "queue_size": None,
    "when_full": "wait",
    "max_restarts": 3,
    "restart_window": 60,
    "initialize_timeout": 300,
    "snapshot_every": 100,
}
# … a node with one of these has a stage of its own …
_SINGLE_NODE_OPTIONS = {"concurrency": 1, "batch": None}
# … and these apply to one node, where its worker is supervised.
_SINGLE_WORKER_OPTIONS = {
    "on_error": "stop",
    "dead_letter": None,
    "retries": 0,
    "retry_delay": 0,
    "timeout": None,
}


def check_groups(entries: Sequence[Entry]) -> None:
    """Reject groups whose members cannot share a stage.

    Args:
        entries: The nodes, in plan order.

    Raises:
        PipelineError: The text names two nodes, what separates them, and what to change.
    """
    first_of: dict[str, Entry] = {}
    by_id = {entry.id: entry for entry in entries}
    downstreams = _downstreams(entries)
    for entry in entries:
        group = entry.options.get("group")
        if group is None:
            continue
        first = first_of.setdefault(group, entry)
        if first is entry:
            continue
        problem = _misplaced(entry, by_id) or _different(first, entry)
        problem = problem or _unfit_for_worker(first, entry, downstreams)
        if problem:
            nodes = f"Nodes '{first.id}' and '{entry.id}' are in group '{group}'"
            raise PipelineError(f"{nodes}, but {problem}")


def _downstreams(entries: Sequence[Entry]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {entry.id: [] for entry in entries}
    for entry in entries:
        for upstream in dict.fromkeys(entry.after):
            found[upstream].append(entry.id)
    return found


def _misplaced(entry: Entry, by_id: Mapping[str, Entry]) -> str | None:
    """Return why a node does not continue its group."""
    group = entry.options["group"]
    outside = [upstream for upstream in entry.after if by_id[upstream].options.get("group") != group]
    if len(outside) == len(entry.after):
        return (
            f"they are not neighbours: '{entry.id}' comes after no node of the group; "
            f"put the nodes between them into the group, or '{entry.id}' into another one"
        )
    if outside:
        return (
            f"'{entry.id}' also comes after '{outside[0]}', which is not in the group; "
            f"put '{outside[0]}' into the group, or '{entry.id}' into another one"
        )
    return None


def _different(first: Entry, second: Entry) -> str | None:
    """Return in which option of their stage two nodes differ."""
    places = [entry.options.get("placement", "inline") for entry in (first, second)]
    if places[0] != places[1]:
        return _differ("placement", places)
    for name in _SINGLE_NODE_OPTIONS:
        for entry in (first, second):
            if _is_set(entry, name, _SINGLE_NODE_OPTIONS):
                return f"{name} requires a stage of one node; remove {name} or the group from '{entry.id}'"
    for name, default in _STAGE_OPTIONS.items():
        values = [entry.options.get(name, default) for entry in (first, second)]
        if values[0] != values[1]:
            return _differ(name, ["not set" if value == default else value for value in values])
    return None


def _differ(name: str, values: Sequence[object]) -> str:
    return f"they have different values of {name} ({values[0]}, {values[1]}); give both the same value"


def _unfit_for_worker(first: Entry, second: Entry, downstreams: Mapping[str, list[str]]) -> str | None:
    """Return why two nodes cannot share a worker, if their placement asks for one."""
    if second.options.get("placement") != "process":
        return None
    for entry in (first, second):
        for name in _SINGLE_WORKER_OPTIONS:
            if _is_set(entry, name, _SINGLE_WORKER_OPTIONS):
                return f"{name} requires a worker of one node; remove {name} or the group from '{entry.id}'"
    chain = "the nodes of a worker must form a chain"
    if second.join or len(set(second.after)) > 1:
        return f"{chain}, and branches meet at '{second.id}'; put '{second.id}' into another group"
    upstream = second.after[0]
    others = [other for other in downstreams[upstream] if other != second.id]
    if others:
        return (
            f"{chain}, and '{others[0]}' comes after '{upstream}', too; put '{second.id}' into another group"
        )
    return None


def _is_set(entry: Entry, name: str, defaults: Mapping[str, Any]) -> bool:
    default = defaults[name]
    return bool(entry.options.get(name, default) != default)
