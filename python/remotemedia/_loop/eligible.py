"""Which pipelines run on the caller's event loop."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

from remotemedia._compiled.kernels import LARGEST_GRAPH
from remotemedia._graph.node_kinds import classify

if TYPE_CHECKING:
    from remotemedia._graph.graph import Entry, Graph

__all__ = ["runs_on_loop"]


def runs_on_loop(graph: Graph) -> bool:
    """Whether all nodes run on the caller's event loop, and can be compiled into one coroutine.

    These are coroutines and async generators, and nodes with `placement="inline"`, without other options. A
    source may be one of them.
    """
    if len(graph.entries) > LARGEST_GRAPH or _is_logged():
        return False
    before: list[str] = []
    for entry in graph.entries:
        if entry.after != before or entry.join or not _is_on_loop(entry):
            return False
        before = [entry.id]
    return True


def _is_on_loop(entry: Entry) -> bool:
    options = entry.options
    if len(options) > ("placement" in options) or isinstance(entry.node, type):
        return False
    placement = options.get("placement")
    if placement not in {None, "inline"} or not callable(getattr(entry.node, "process", None)):
        return False
    kind = classify(entry.node)
    if kind in {"coroutine", "async_generator"}:
        return True
    return kind != "streaming" and (placement == "inline" or _is_built_in(entry.node))


def _is_built_in(node: object) -> bool:
    from remotemedia.nodes import _builtin

    return type(node) in _builtin.INLINE


def _is_logged() -> bool:
    """Whether single steps are logged."""
    return "logging" in sys.modules and logging.getLogger("remotemedia").isEnabledFor(logging.DEBUG)
