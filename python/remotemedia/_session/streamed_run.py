"""Runs that give their outputs as they come."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from remotemedia._graph.graph import Entry, Graph, plan_order
from remotemedia._graph.item_streams import items_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

__all__ = ["process"]

# Outputs that may wait for a slow consumer before the pipeline stops for it.
_WAITING_OUTPUTS = 64


async def process(graph: Graph, stream: Any, *, use_rust: bool) -> AsyncGenerator[Any, None]:
    """Run a graph on a stream, and give each output as soon as it is there.

    The run stops when the iteration does, and its nodes are cleaned up.
    """
    from remotemedia.runtime import check_takes_input, run_graph

    check_takes_input(graph, stream)
    if use_rust and graph.block is not None and graph.block.takes_runs():
        async with aclosing(graph.block.run(items_of(stream))) as outputs:
            async for output in outputs:
                yield output
        return
    exit_node = _Exit()
    whole = _with_exit(graph, exit_node)
    run = asyncio.create_task(run_graph(whole, stream, enable_metrics=False, use_rust=use_rust))
    run.add_done_callback(lambda _: exit_node.news.set())
    try:
        while not run.done() or exit_node.waiting:
            exit_node.news.clear()
            while exit_node.waiting:
                output = exit_node.waiting.popleft()
                exit_node.room.set()
                yield output
            if not run.done():
                await exit_node.news.wait()
        run.result()
    finally:
        await _stop(run)
        # The error in it has a traceback, and that this frame.
        del run


class _Exit:
    """The last node of a run: hands the outputs to the one who asked for them."""

    def __init__(self) -> None:
        self.waiting: deque[Any] = deque()
        self.news = asyncio.Event()
        self.room = asyncio.Event()

    async def process(self, output: Any) -> None:
        while len(self.waiting) >= _WAITING_OUTPUTS:
            self.room.clear()
            await self.room.wait()
        self.waiting.append(output)
        self.news.set()


def _with_exit(graph: Graph, exit_node: _Exit) -> Graph:
    """The graph with one more node, which gets all that would leave it."""
    entries = graph.entries
    has_downstream = {upstream for entry in entries for upstream in entry.after}
    last = [
        entries[position].id for position in plan_order(entries) if entries[position].id not in has_downstream
    ]
    exit_id = "outputs"
    while any(entry.id == exit_id for entry in entries):
        exit_id += "_"
    return Graph(graph.name, [*entries, Entry(exit_id, exit_node, "Outputs", last)], graph.source)


async def _stop(run: asyncio.Task[Any]) -> None:
    if run.done():
        return
    run.cancel()
    await asyncio.wait([run])
    if not run.cancelled():
        # Cancelled as asked, unless cleaning up failed.
        run.result()
