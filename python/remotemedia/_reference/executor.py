"""The reference executor: the semantics of a run, in plain Python on the caller's event loop.

Pending work is on a stack, so each item and each output passes through all nodes before the next one starts.
Where branches meet, a gate collects their items until all other work of the input is done. The end of input
is one more input, which flushes the nodes in plan order.

Only options that change results are implemented: `on_error`, `dead_letter`, `retries` and `timeout`. Only the
engine runs nodes elsewhere or several at once, so each item is a separate `batch`.
"""

from __future__ import annotations

import asyncio
import functools
import time
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from remotemedia._errors import combine, is_interrupt, node_error, throw
from remotemedia._graph.graph import plan_order
from remotemedia._graph.node_kinds import answer_kind, classify, is_source
from remotemedia._graph.output_shape import shape
from remotemedia._reference.lifecycle import Lifecycle, finish
from remotemedia._reference.metrics import Recorder, report
from remotemedia._reference.policies import Policy, made
from remotemedia.exceptions import NodeError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable

    from remotemedia._asyncio.streaming import StreamingNode
    from remotemedia._graph.graph import Entry, Graph

    Draw = Callable[[], Any]

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
    metrics = (
        report(graph.name, machine.entries, machine.recorders, counts, started) if enable_metrics else None
    )
    return outputs, metrics


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


class Stream:
    """Outputs that are still being produced; `item` is their input, for a node with a failure policy."""

    def __init__(self, node: int, phase: str, draw: Draw, close: Callable[[], Any] | None) -> None:
        self.node = node
        self.phase = phase
        self.draw = draw
        self.close = close
        self.secs = 0.0
        self.item: list[Any] = []
        # Whether the timeout of the node applies to each output.
        self.has_limit = False


class _Gate:
    """The outputs of branches that meet, for the current input."""

    def __init__(self, upstreams: Iterable[int], *, join: bool) -> None:
        self.join = join
        self.arrived: dict[int, list[Any]] = {upstream: [] for upstream in upstreams}


class Machine:
    """The nodes of one run, and the pending work."""

    def __init__(self, graph: Graph) -> None:
        """Arrange the nodes in plan order."""
        self.entries = [made(graph.entries[position]) for position in plan_order(graph.entries)]
        place = {entry.id: index for index, entry in enumerate(self.entries)}
        self.roots = [index for index, entry in enumerate(self.entries) if not entry.after]
        self.downstreams: list[list[int]] = [[] for _ in self.entries]
        self.gates: dict[int, _Gate] = {}
        for index, entry in enumerate(self.entries):
            upstreams = [place[upstream] for upstream in dict.fromkeys(entry.after)]
            for upstream in upstreams:
                self.downstreams[upstream].append(index)
            if len(upstreams) > 1 or (upstreams and entry.join):
                self.gates[index] = _Gate(upstreams, join=entry.join)
        self.exit = _Gate((index for index, found in enumerate(self.downstreams) if not found), join=False)
        self.adapters = [_adapter(entry.node) for entry in self.entries]
        self.lifecycle = Lifecycle(self.entries, close=self._close, tell=self._note)
        self.policies = [Policy.of(entry) for entry in self.entries]
        self.recorders = [Recorder() for _ in self.entries]
        # Streams to read, and items with their next node and their branch.
        self.stack: list[Stream | tuple[int, int | None, Any]] = []
        self.source: Stream | None = None
        self.visited: set[int] = set()
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
                yield await self._take(self.roots, item)
        else:
            for item in feed:
                # Lets other tasks run, and cancellations arrive.
                await asyncio.sleep(0)
                yield await self._take(self.roots, item)

    async def flush(self) -> list[Any]:
        """Return the last outputs of each node."""
        self.visited.clear()
        for index, entry in enumerate(self.entries):
            await self._open(index, is_flush=True)
            await self._flush_node(index, entry)
            await self._work_off()
        return self._let_out()

    async def _flush_node(self, index: int, entry: Entry) -> None:
        adapter = self.adapters[index]
        if adapter is not None:
            await adapter.end()
            self.stack.append(Stream(index, "flush", adapter.next_output, None))
        elif callable(getattr(entry.node, "flush", None)):
            self._push_stream(await self._follow(index, "flush", entry.node.flush))  # type: ignore[attr-defined]

    async def abandon(self) -> list[BaseException]:
        """Close the open generators; return what they raised."""
        failures: list[BaseException] = []
        for work in [*reversed(self.stack), self.source]:
            if isinstance(work, Stream) and work.close is not None:
                try:
                    await finish(work.close())
                except BaseException as error:  # noqa: BLE001 - Reported with the other failures.
                    failures.append(self._failure(work.node, work.phase, None, error))
        return failures

    async def _take_source(self, index: int) -> AsyncGenerator[list[Any], None]:
        started = time.perf_counter()
        answer = await self._ask(index, "process", self.entries[index].node.process)  # type: ignore[attr-defined]
        self.source = _stream_of(index, "process", answer)
        targets = self.downstreams[index]
        if self.source is None and answer is not None:
            self._note(index, "process", time.perf_counter() - started)
            yield await self._take(targets, answer, source=index)
        while self.source is not None:
            started = time.perf_counter()
            self.item_index = self.items_in
            has_item, item = await self._ask(index, "process", self.source.draw)
            if not has_item:
                # Flushed outputs belong to the last item, as after any other input.
                self.source, self.item_index = None, max(0, self.items_in - 1)
                return
            self._note(index, "process", time.perf_counter() - started)
            await asyncio.sleep(0)
            yield await self._take(targets, item, source=index)

    async def _take(self, targets: list[int], item: Any, source: int | None = None) -> list[Any]:
        """Process one input completely, and return its outputs."""
        self.item_index = self.items_in
        self.items_in += 1
        self.visited.clear()
        if source is None:
            self._push(targets, None, item)
        else:
            self.visited.add(source)
            self._send(source, item)
        await self._work_off()
        for index in self.gates:
            await self._open(index, is_flush=False)
        return self._let_out()

    async def _work_off(self) -> None:
        while self.stack:
            work = self.stack.pop()
            if isinstance(work, Stream):
                has_output, output = await self._draw_on(work)
                if has_output:
                    self.stack.append(work)
                    self._send(work.node, output)
                continue
            index, branch, item = work
            if branch is not None and index in self.gates:
                self.gates[index].arrived[branch].append(item)
            else:
                await self._enter(index, item)

    async def _enter(self, index: int, item: Any) -> None:
        self.visited.add(index)
        self.recorders[index].items_in += 1
        policy = self.policies[index]
        if policy.is_default:
            self._push_stream(await self._begin(index, item))
            return
        for attempt in range(policy.retries + 1):
            try:
                stream = await self._begin(index, item)
                # A generator fails while it is read; a failure before its first output can be retried.
                first = (False, None) if stream is None else await self._draw(stream)
                break
            except NodeError as error:
                failure = error
            if attempt < policy.retries:
                await policy.pause(attempt)
                self.recorders[index].retried()
        else:
            try:
                await self._give_up(index, item, failure)
            finally:
                del failure
            return
        has_output, output = first
        if stream is not None and has_output:
            stream.item = [item]
            self.stack.append(stream)
            self._send(index, output)

    async def _begin(self, index: int, item: Any) -> Stream | None:
        """Pass an item to a node; send a plain result on, and return a generator."""
        adapter = self.adapters[index]
        if adapter is not None:
            await adapter.push(item)
            return Stream(index, "process", adapter.next_output, None)
        process = self.entries[index].node.process  # type: ignore[attr-defined]
        if self.entries[index].options.get("batch") is not None:
            process = functools.partial(_take_batch_of_one, process)
        stream = await self._follow(index, "process", process, item)
        if stream is not None:
            stream.has_limit = True
        return stream

    async def _give_up(self, index: int, item: Any, failure: NodeError) -> None:
        """Apply the policy for an item that failed after all retries."""
        try:
            await self.policies[index].give_up(self.entries[index].id, item, failure)
        except NodeError:
            del failure
            raise
        except BaseException as error:  # noqa: BLE001 - The dead-letter handler failed instead.
            refusal = self._failure(index, "process", self.item_index, error)
        else:
            self.recorders[index].gave_up(is_dead_lettered=self.policies[index].dead_letter is not None)
            return
        try:
            raise refusal
        finally:
            del failure, refusal

    def _push_stream(self, stream: Stream | None) -> None:
        if stream is not None:
            self.stack.append(stream)

    async def _open(self, index: int, *, is_flush: bool) -> None:
        """Pass the collected items of a gate to its node."""
        gate = self.gates.get(index)
        if gate is None:
            return
        arrived = gate.arrived
        gate.arrived = {upstream: [] for upstream in arrived}
        if not gate.join:
            items = [item for branch in arrived.values() for item in branch]
            self.stack += [(index, None, item) for item in reversed(items)]
        elif any(arrived.values()) or (not is_flush and self.visited & arrived.keys()):
            joined = {self.entries[upstream].id: shape(outputs) for upstream, outputs in arrived.items()}
            self.stack.append((index, None, joined))
        await self._work_off()

    def _let_out(self) -> list[Any]:
        found = [output for outputs in self.exit.arrived.values() for output in outputs]
        for outputs in self.exit.arrived.values():
            outputs.clear()
        return found

    def _send(self, index: int, output: Any) -> None:
        self.recorders[index].items_out += 1
        if self.downstreams[index]:
            self._push(self.downstreams[index], index, output)
        else:
            self.exit.arrived[index].append(output)

    def _push(self, targets: list[int], branch: int | None, item: Any) -> None:
        self.stack += [(target, branch, item) for target in reversed(targets)]

    async def _follow(self, index: int, phase: str, method: Callable[..., Any], *args: Any) -> Stream | None:
        """Call a node and send its result on, unless that is a generator."""
        started = time.perf_counter()
        try:
            answer = await self._ask(index, phase, method, *args)
        except BaseException:
            self._note(index, phase, time.perf_counter() - started)
            raise
        stream = _stream_of(index, phase, answer)
        secs = time.perf_counter() - started
        if stream is not None:
            stream.secs = secs
            return stream
        if answer is not None or phase == "process":
            self._note(index, phase, secs)
        if answer is not None:
            self._send(index, answer)
        return None

    async def _draw_on(self, stream: Stream) -> tuple[bool, Any]:
        """Read one more output; with a failure policy, outputs before a failure are kept."""
        try:
            return await self._draw(stream)
        except NodeError as error:
            if not stream.item:
                raise
            failure = error
        try:
            await self._give_up(stream.node, stream.item[0], failure)
        finally:
            del failure
        return False, None

    async def _draw(self, stream: Stream) -> tuple[bool, Any]:
        """Read one more output of a generator."""
        started = time.perf_counter()
        has_output, output = await self._ask(
            stream.node, stream.phase, stream.draw, has_limit=stream.has_limit
        )
        stream.secs += time.perf_counter() - started
        if not has_output:
            self._note(stream.node, stream.phase, stream.secs)
        return has_output, output

    async def _ask(
        self, index: int, phase: str, method: Callable[..., Any], *args: Any, has_limit: bool = False
    ) -> Any:
        limit = self.policies[index].timeout if phase == "process" and (args or has_limit) else None
        try:
            return await finish(method(*args), limit)
        except BaseException as error:  # noqa: BLE001 - Raised below, without another context.
            failure = self._failure(index, phase, self.item_index if phase == "process" else None, error)
        self.recorders[index].failed(failure)
        try:
            raise failure
        finally:
            del failure

    def _failure(self, index: int, phase: str, item_index: int | None, error: BaseException) -> BaseException:
        return error if is_interrupt(error) else node_error(self.entries[index].id, item_index, phase, error)

    async def _close(self, index: int) -> None:
        adapter = self.adapters[index]
        if adapter is not None:
            await adapter.close()

    def _note(self, index: int, phase: str, secs: float) -> None:
        if phase == "initialize":
            self.recorders[index].initialize_secs = secs
        elif phase != "cleanup":
            self.recorders[index].call_secs.append(secs)


def _adapter(node: object) -> StreamingNode | None:
    if classify(node) != "streaming" or is_source(node):
        return None
    from remotemedia._asyncio.streaming import StreamingNode

    return StreamingNode(node.process)  # type: ignore[attr-defined]


def _stream_of(index: int, phase: str, answer: Any) -> Stream | None:
    """Return the stream of a result that is a generator, else `None`."""
    kind = answer_kind(answer)
    if kind == "generator":

        def draw() -> tuple[bool, Any]:
            for output in answer:
                return True, output
            return False, None

        return Stream(index, phase, draw, answer.close)
    if kind == "async_generator":

        async def draw_async() -> tuple[bool, Any]:
            try:
                return True, await anext(answer)
            except StopAsyncIteration:
                return False, None

        return Stream(index, phase, draw_async, answer.aclose)
    return None


def _take_batch_of_one(process: Callable[[list[Any]], Any], item: Any) -> Any:
    answer = process([item])
    if answer_kind(answer) != "coroutine":
        return _only(answer)

    async def finish_batch() -> Any:
        return _only(await answer)

    return finish_batch()


def _only(answer: Any) -> Any:
    """Return the result for the item of a batch.

    Raises:
        TypeError: If the result is not a list.
        ValueError: If the list does not have one element.
    """
    if not isinstance(answer, (list, tuple)):
        kind = type(answer).__name__
        raise TypeError(
            f"process() received a batch of 1 items and returned {kind}; return a list of the same length"
        )
    if len(answer) != 1:
        raise ValueError(f"process() received a batch of 1 items and returned {len(answer)}")
    return answer[0]
