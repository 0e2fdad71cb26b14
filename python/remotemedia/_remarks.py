"""What `check` tells of a pipeline besides its plan."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from remotemedia.core._manifest import MANIFEST_SUFFIXES

if TYPE_CHECKING:
    from remotemedia.core._graph import Graph


class Remark(NamedTuple):
    """One sentence about a pipeline."""

    is_problem: bool
    text: str


def remarks(target: str, graph: Graph) -> list[Remark]:
    """What in the manifest has no effect, and which nodes cannot be sent to a worker.

    Neither keeps the pipeline from running.
    """
    return [Remark(is_problem=False, text=text) for text in (*_ignored_fields(target), *_unsendable(graph))]


def _ignored_fields(target: str) -> list[str]:
    if not target.lower().endswith(MANIFEST_SUFFIXES):
        return []
    from remotemedia import _core

    with open(target, encoding="utf-8-sig") as file:
        manifest = _core.parse_manifest(file.read())
    return [f"{field} has no effect" for field in manifest["ignored"]]


def _unsendable(graph: Graph) -> list[str]:
    from remotemedia.exceptions import SerializationError

    try:
        from remotemedia.core.node_serialization import check_sendable
    except ImportError as error:
        return [f"whether nodes can be sent to a worker is not known: {error}"]
    found = []
    for entry in graph.entries:
        try:
            check_sendable(entry.node)
        except SerializationError as error:
            what = f"attribute '{error.attribute}' is not serializable"
            found.append(f"node '{entry.id}' cannot be sent to a worker: {what}")
    return found
