"""What passes through the stages of a session."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from remotemedia._loop.sessions.streams.queues import Failed
from remotemedia._loop.stages.beside import Entry, discard

if TYPE_CHECKING:
    import asyncio
    import contextvars
    from collections.abc import Sequence

    from remotemedia._core import LoopCall
    from remotemedia._loop.stages.threads import Job

__all__ = ["Chunk", "failed", "is_item", "outputs_of", "through"]


class Chunk:
    """Items on their way through the stages.

    While the thread of the first stage works on them, the chunk stands for the task that goes on with them.

    Attributes:
        entries: What has become of them.
        count: Their number.
        generation: That of the stream, which changes when items are dropped.
        took: The time in the slowest stage.
        context: That of the task.
        call: The call in the first stage that was begun without a task, until it is left.
        job: What the thread does there.
        task: The task.
        is_alone: Whether no other items may join them.
        is_waiting: Whether they have not entered the first stage.
        is_cancelled: Whether the items are not needed, so that no task begins.
        is_in_order: Whether they have entered the last stage, which they may leave before earlier chunks.
        outputs: Those that wait for earlier chunks.
        position: The first stage that they pass.
        parent: The chunk from which a node has made them, one after the other.
        parts: The number of chunks that were made from this one and are not through.
        is_over: Whether nothing is left of it, except for its parts.
        has_failed: Whether one of its parts has failed.
    """

    # Most chunks need few of these: they are set where they are needed.
    took = 0.0
    call: LoopCall | None = None
    job: Job | None = None
    task: asyncio.Task[None] | None = None
    is_alone = is_cancelled = is_in_order = False
    is_waiting = True
    outputs: Sequence[Any] = ()
    position = parts = 0
    parent: Chunk | None = None
    is_over = has_failed = False

    def __init__(self, items: list[Any], generation: int, context: contextvars.Context) -> None:
        """Begin with items."""
        # Most chunks of live streams have one item, which needs no function.
        self.entries = [Entry(0, items[0])] if len(items) == 1 else [Entry(0, item) for item in items]
        self.count = len(items)
        self.generation = generation
        self.context = context

    def add(self, items: list[Any]) -> None:
        """Add more items."""
        self.entries += [Entry(0, item) for item in items]
        self.count += len(items)

    def cancel(self) -> None:
        """Drop the items: what has not begun does not begin."""
        if self.task is not None:
            self.task.cancel()
        elif self.job is not None and not self.is_cancelled:
            self.is_cancelled = True
            begun = [*self.entries]
            self.entries.clear()
            self.job.when_done(functools.partial(discard, begun))
            self.job.when_done(self.job.discard)

    def get_coro(self) -> Any:
        """Return the coroutine of the task, if it exists."""
        return None if self.task is None else self.task.get_coro()


def through(entries: list[Entry]) -> list[Entry]:
    """Return what has left a stage as entries for the next one: one for each value, one for each failure."""
    for entry in entries:
        if len(entry.values) != 1 or entry.failure is not None:
            break
        entry.is_through = False
    else:
        return entries
    found: list[Entry] = []
    last: int | None = None
    for entry in entries:
        # What an item has produced after an error is not needed.
        if entry.index == last:
            continue
        found.extend(Entry(entry.index, value) for value in entry.values)
        if entry.failure is not None:
            found.append(failed(entry.failure, entry.index))
            last = entry.index
    return found


def is_item(entry: Entry) -> bool:
    """Whether it is an item for the next node, and not a failure."""
    return entry.failure is None and bool(entry.values) and not entry.is_through


def outputs_of(entries: list[Entry]) -> list[Any]:
    """Return what has left the last stage: outputs, and `Failed` for items that failed."""
    outputs: list[Any] = []
    for entry in entries:
        outputs.append(entry.values[0] if entry.failure is None else Failed(entry.failure))  # noqa: PERF401 - As above.
    return outputs


def failed(failure: BaseException, index: int = 0) -> Entry:
    """Return what stands for an item that failed."""
    entry = Entry(index, None)
    entry.values = []
    entry.failure = failure
    entry.is_through = True
    return entry
