"""Runs that yield their outputs as soon as they are ready."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from remotemedia._availability import get_rust_runtime
from remotemedia._graph.factories import with_nodes
from remotemedia._graph.item_streams import items_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from remotemedia._graph.graph import Graph
    from remotemedia.core.pipeline import Pipeline

__all__ = ["process"]


async def process(
    pipeline: Pipeline, graph: Graph, stream: Any, *, use_rust: bool
) -> AsyncGenerator[Any, None]:
    """Run a graph on a stream, and yield each output as soon as it is ready.

    The run stops at the end of the iteration, and its nodes are cleaned up.
    """
    from remotemedia.runtime import check_takes_input

    check_takes_input(graph, stream)
    items = items_of(stream)
    if not use_rust:
        from remotemedia._reference import executor

        outputs = executor.stream(with_nodes(graph), items)
    elif graph.block is not None and graph.block.takes_runs():
        outputs = graph.block.run(items)
    else:
        outputs = _in_a_block(pipeline, graph, items)
    async with aclosing(outputs):
        async for output in outputs:
            yield output


async def _in_a_block(pipeline: Pipeline, graph: Graph, items: Any) -> AsyncGenerator[Any, None]:
    try:
        from remotemedia._session.managed import Managed
    except ImportError:
        get_rust_runtime()
        raise
    block = Managed(pipeline, graph, [])
    async with block, aclosing(block.run(items)) as outputs:
        async for output in outputs:
            yield output
