"""The reference executor: the semantics of a run, in plain Python on the caller's event loop.

Pending work is on a stack, so each item and each output passes through all nodes before the next one starts.
Where branches meet, a gate collects their items until all other work of the input is done. The end of input
is one more input, which flushes the nodes in plan order.

Only options that change results are implemented: `on_error`, `dead_letter`, `retries` and `timeout`. Only the
engine runs nodes elsewhere or several at once, so each item is a separate `batch`.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from remotemedia._errors import combine, throw
from remotemedia._graph.node_kinds import return_kind
from remotemedia._graph.output_shape import shape
from remotemedia._graph.plan_order import plan_order
from remotemedia._reference.lifecycle import Lifecycle, finish
from remotemedia._reference.metrics import report
from remotemedia._reference.places import Place
from remotemedia.exceptions import NodeError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from remotemedia._graph.graph import Graph

    # An item, its next node, and the node that it comes from.
    Sent = tuple[Place, Place | None, Any]

__all__ = ["run", "stream"]


async def run(
    graph: Graph,
    feed: Any,
    enable_metrics: bool,  # noqa: FBT001 - As in the engine.
) -> tuple[list[Any], dict[str, Any] | None]:
    """Run a graph once; see `remotemedia._session.run.run`, which returns the same."""
    started = time.perf_counter()
    machine = Machine(graph)
    outputs = [output async for output in _outputs_of(machine, feed)]
    counts = (machine.items_in, len(outputs))
    return outputs, report(graph.name, machine.places, counts, started) if enable_metrics else None


def stream(graph: Graph, feed: Any) -> AsyncGenerator[Any, None]:
    """Run a graph once, and yield the outputs of each item before the next one is read."""
    return _outputs_of(Machine(graph), feed)


async def _outputs_of(machine: Machine, feed: Any) -> AsyncGenerator[Any, None]:
    failure: BaseException | None = None
    try:
        await machine.lifecycle.initialize()
        async with aclosing(machine.take_all(feed)) as taken:
            async for outputs in taken:
                for output in outputs:
                    yield output
        for output in await machine.flush():
            yield output
    except BaseException as error:  # noqa: BLE001 - Raised again below, after everything is cleaned up.
        failure = error
    failure = combine(failure, await machine.abandon() + await machine.lifecycle.clean_up())
    try:
        if failure is not None:
            throw(failure)
    finally:
        # Its traceback refers to this frame, which would keep it and the items until a garbage collection.
        del failure


@dataclass(eq=False)
class Stream:
    """Outputs of a node that are still being produced."""

    place: Place
    phase: str
    draw: Callable[[], Any]
    close: Callable[[], Any]
    secs: float = 0.0
    limit: float | None = None
    """The timeout of each output."""
    item: list[Any] = field(default_factory=list)
    """Their input, if the failure policy of the node applies to them."""


class Machine:
    """The nodes of one run, and the pending work."""

    def __init__(self, graph: Graph) -> None:
        """Arrange the nodes in plan order."""
        self.places = [Place(graph.entries[position]) for position in plan_order(graph.entries)]
        by_id = {place.entry.id: place for place in self.places}
        for place in self.places:
            upstreams = [by_id[upstream] for upstream in dict.fromkeys(place.entry.after)]
            for upstream in upstreams:
                upstream.downstreams.append(place)
            if len(upstreams) > 1 or (upstreams and place.entry.join):
                place.arrived = {upstream: [] for upstream in upstreams}
        self.roots = [place for place in self.places if not place.entry.after]
        self.leaving: dict[Place, list[Any]] = {place: [] for place in self.places if not place.downstreams}
        self.lifecycle = Lifecycle(self.places)
        self.stack: list[Stream | Sent] = []
        self.source: Stream | None = None
        self.visited: set[Place] = set()
        self.items_in = 0
        self.item_index = 0

    async def take_all(self, feed: Any) -> AsyncGenerator[list[Any], None]:
        """Process all items of the input, or of the source; yield the outputs of each."""
        if feed is None:
            async with aclosing(self._take_source(self.roots[0])) as taken:
                async for outputs in taken:
                    yield outputs
        elif hasattr(feed, "__aiter__"):
            async for item in feed:
                yield await self._take(item)
        else:
            for item in feed:
                # Lets other tasks run, and cancellations arrive.
                await asyncio.sleep(0)
                yield await self._take(item)

    async def flush(self) -> list[Any]:
        """Return the last outputs of each node."""
        self.visited.clear()
        for place in self.places:
            await self._open(place, is_flush=True)
            if place.adapter is not None:
                await place.adapter.end()
                self.stack.append(Stream(place, "flush", place.adapter.next_output, place.adapter.close))
            elif callable(getattr(place.node, "flush", None)):
                stream = await self._call(place, "flush", place.node.flush)
                self.stack += [] if stream is None else [stream]
            await self._work_off()
        return self._let_out()

    async def abandon(self) -> list[BaseException]:
        """Close the open generators; return what they raised."""
        failures: list[BaseException] = []
        for work in [*reversed(self.stack), self.source]:
            if isinstance(work, Stream):
                try:
                    await finish(work.close())
                except BaseException as error:  # noqa: BLE001 - Reported with the other failures.
                    failures.append(work.place.failure(work.phase, None, error))
        return failures

    async def _take_source(self, place: Place) -> AsyncGenerator[list[Any], None]:
        result = await self._ask(place, "process", place.node.process)
        self.source = _stream_of(place, "process", result)
        if self.source is None and result is not None:
            yield await self._take(result, source=place)
        while self.source is not None:
            self.item_index = self.items_in
            self.source.secs = 0.0
            has_item, item = await self._ask(place, "process", self.source.draw, stream=self.source)
            if not has_item:
                # Flushed outputs belong to the last item, as after any other input.
                self.source, self.item_index = None, max(0, self.items_in - 1)
                return
            place.recorder.call_secs.append(self.source.secs)
            await asyncio.sleep(0)
            yield await self._take(item, source=place)

    async def _take(self, item: Any, source: Place | None = None) -> list[Any]:
        """Process one input completely, and return its outputs."""
        self.item_index = self.items_in
        self.items_in += 1
        self.visited.clear()
        if source is None:
            self._push(self.roots, None, item)
        else:
            self.visited.add(source)
            self._send(source, item)
        await self._work_off()
        for place in self.places:
            await self._open(place, is_flush=False)
        return self._let_out()

    async def _work_off(self) -> None:
        while self.stack:
            work = self.stack.pop()
            if isinstance(work, Stream):
                await self._continue(work)
                continue
            place, branch, item = work
            if branch is not None and place.arrived is not None:
                place.arrived[branch].append(item)
            else:
                await self._enter(place, item)

    async def _enter(self, place: Place, item: Any) -> None:
        """Pass an item to a node, again if it fails and may be retried."""
        self.visited.add(place)
        place.recorder.items_in += 1
        for attempt in range(place.policy.retries + 1):
            try:
                stream = await self._begin(place, item)
                # A generator fails while it is read; a failure before its first output can be retried.
                has_output, output = (False, None) if stream is None else await self._draw(stream)
                break
            except NodeError as error:
                failure = error
            if attempt < place.policy.retries:
                await place.pause(attempt)
                place.recorder.retried()
        else:
            try:
                await place.handle_failure(item, failure)
            finally:
                del failure
            return
        if stream is not None and has_output:
            stream.item = [item]
            self.stack.append(stream)
            self._send(place, output)

    async def _begin(self, place: Place, item: Any) -> Stream | None:
        if place.adapter is None:
            return await self._call(place, "process", place.process, item)
        await place.adapter.push(item)
        return Stream(place, "process", place.adapter.next_output, place.adapter.close)

    async def _call(self, place: Place, phase: str, method: Callable[..., Any], *args: Any) -> Stream | None:
        """Call a node, and send a plain result on; return the stream of another one."""
        limit = place.policy.timeout if args else None
        result = await self._ask(place, phase, method, *args, limit=limit)
        stream = _stream_of(place, phase, result)
        if stream is not None:
            stream.secs, stream.limit = place.recorder.call_secs.pop(), limit
        elif result is not None:
            self._send(place, result)
        elif phase == "flush":
            place.recorder.call_secs.pop()
        return stream

    async def _continue(self, stream: Stream) -> None:
        """Read one more output; a policy that handles a failure keeps the outputs before it."""
        try:
            has_output, output = await self._draw(stream)
        except NodeError as error:
            if not stream.item:
                raise
            failure = error
        else:
            if has_output:
                self.stack.append(stream)
                self._send(stream.place, output)
            return
        try:
            await stream.place.handle_failure(stream.item[0], failure)
        finally:
            del failure

    async def _draw(self, stream: Stream) -> tuple[bool, Any]:
        """Read one more output of a generator."""
        has_output, output = await self._ask(
            stream.place, stream.phase, stream.draw, limit=stream.limit, stream=stream
        )
        if not has_output:
            stream.place.recorder.call_secs.append(stream.secs)
        return has_output, output

    async def _ask(
        self,
        place: Place,
        phase: str,
        method: Callable[..., Any],
        *args: Any,
        limit: float | None = None,
        stream: Stream | None = None,
    ) -> Any:
        """Return the result of a call; its time is that of the stream, if it belongs to one."""
        started = time.perf_counter()
        try:
            return await finish(method(*args), limit)
        except BaseException as error:  # noqa: BLE001 - Raised below, without another context.
            failure = place.failure(phase, self.item_index if phase == "process" else None, error)
        finally:
            secs = time.perf_counter() - started
            if stream is None:
                place.recorder.call_secs.append(secs)
            else:
                stream.secs += secs
        place.recorder.failed(failure)
        try:
            raise failure
        finally:
            del failure

    async def _open(self, place: Place, *, is_flush: bool) -> None:
        """Pass the collected items of branches to the node where they meet."""
        if place.arrived is None:
            return
        arrived, place.arrived = place.arrived, {upstream: [] for upstream in place.arrived}
        if not place.entry.join:
            items = [item for branch in arrived.values() for item in branch]
            self.stack += [(place, None, item) for item in reversed(items)]
        elif any(arrived.values()) or (not is_flush and self.visited & arrived.keys()):
            joined = {upstream.entry.id: shape(outputs) for upstream, outputs in arrived.items()}
            self.stack.append((place, None, joined))
        await self._work_off()

    def _let_out(self) -> list[Any]:
        found = [output for outputs in self.leaving.values() for output in outputs]
        for outputs in self.leaving.values():
            outputs.clear()
        return found

    def _send(self, place: Place, output: Any) -> None:
        place.recorder.items_out += 1
        if place.downstreams:
            self._push(place.downstreams, place, output)
        else:
            self.leaving[place].append(output)

    def _push(self, targets: list[Place], branch: Place | None, item: Any) -> None:
        self.stack += [(target, branch, item) for target in reversed(targets)]


def _stream_of(place: Place, phase: str, result: Any) -> Stream | None:
    """Return the stream of a result that is a generator, else `None`."""
    kind = return_kind(result)
    if kind == "generator":

        def draw() -> tuple[bool, Any]:
            for output in result:
                return True, output
            return False, None

        return Stream(place, phase, draw, result.close)
    if kind == "async_generator":

        async def draw_async() -> tuple[bool, Any]:
            try:
                return True, await anext(result)
            except StopAsyncIteration:
                return False, None

        return Stream(place, phase, draw_async, result.aclose)
    return None
