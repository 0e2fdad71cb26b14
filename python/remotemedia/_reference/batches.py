"""The reference executor for pipelines with batches: node after node, as far as the inputs that came reach.

An input waits in a batch for those after it, so several are under way at once. Each is an epoch; every node
takes the epochs in order, once all nodes before it have given theirs. An epoch that fails goes on without
items, so that its error is told when those before it are out.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from remotemedia._errors import original_of
from remotemedia._graph.node_kinds import answer_kind
from remotemedia._graph.output_shape import shape
from remotemedia._reference.executor import Machine
from remotemedia.exceptions import NodeError

if TYPE_CHECKING:
    from remotemedia._graph.graph import Graph

    # An epoch, the items of it that come along, and whether the node before was given one.
    Arrival = tuple["Epoch", list[Any], bool]

__all__ = ["BatchMachine"]


class Epoch:
    """One input under way; without an index the end of input."""

    def __init__(self, index: int | None) -> None:
        """Begin with an input."""
        self.index = index
        self.error: NodeError | None = None

    def raise_error(self) -> None:
        """Raise what it failed with, if it did."""
        error, self.error = self.error, None
        try:
            if error is not None:
                raise error
        finally:
            # Its traceback has this frame, and those below that have this epoch.
            del error


class _Part:
    """The items of one epoch at a node that takes batches."""

    def __init__(self, epoch: Epoch, count: int) -> None:
        self.epoch = epoch
        self.count = count
        self.missing = count
        self.outputs: list[Any] = []


class _Batches:
    """What waits at a node that takes batches."""

    def __init__(self, option: Any) -> None:
        self.size: int = option["size"] if isinstance(option, dict) else getattr(option, "size", option)
        self.parts: deque[_Part] = deque()
        self.items: list[tuple[_Part, Any]] = []


class BatchMachine(Machine):
    """The nodes of one run, some of which take batches."""

    def __init__(self, graph: Graph) -> None:
        """Arrange the nodes in plan order."""
        super().__init__(graph)
        place = {entry.id: index for index, entry in enumerate(self.entries)}
        self.arrivals: list[dict[int | None, deque[Arrival]]] = [
            {place[upstream]: deque() for upstream in entry.after} or {None: deque()}
            for entry in self.entries
        ]
        self.leaving: dict[int, deque[Arrival]] = {index: deque() for index in self.exit.arrived}
        self.batches = {
            index: _Batches(entry.options["batch"])
            for index, entry in enumerate(self.entries)
            if entry.options.get("batch") is not None
        }
        self.given: list[Any] = []

    async def flush(self) -> None:
        """The end of input is the last epoch."""
        epoch = Epoch(None)
        for index in self.roots:
            self.arrivals[index][None].append((epoch, [], False))
        await self._advance()

    async def _take(self, targets: list[int], item: Any, source: int | None = None) -> None:
        epoch = Epoch(self.items_in)
        self.items_in += 1
        if source is None:
            for index in targets:
                self.arrivals[index][None].append((epoch, [item], True))
        else:
            self.recorders[source].items_out += 1
            self._emit(source, epoch, [item], was_given=True)
        await self._advance()

    async def _advance(self) -> None:
        """Let each node take the epochs that have come to it whole, and the exit the outputs."""
        for index, arrivals in enumerate(self.arrivals):
            while all(arrivals.values()):
                arrived = {upstream: waiting.popleft() for upstream, waiting in arrivals.items()}
                epoch = next(iter(arrived.values()))[0]
                await self._pass_through(index, epoch, self._items_of(index, epoch, arrived))
        while all(self.leaving.values()):
            leaving = [waiting.popleft() for waiting in self.leaving.values()]
            leaving[0][0].raise_error()
            for _, outputs, _ in leaving:
                self.outputs += outputs

    def _items_of(self, index: int, epoch: Epoch, arrived: dict[int | None, Arrival]) -> list[Any]:
        """What a node is given of an epoch."""
        if epoch.error is not None:
            return []
        if not self.entries[index].join or None in arrived:
            return [item for _, items, _ in arrived.values() for item in items]
        has_items = any(items for _, items, _ in arrived.values())
        was_given = any(was_given for _, _, was_given in arrived.values())
        if not has_items and (epoch.index is None or not was_given):
            return []
        ids = [self.entries[upstream].id for upstream in arrived if upstream is not None]
        return [dict(zip(ids, (shape(items) for _, items, _ in arrived.values()), strict=True))]

    async def _pass_through(self, index: int, epoch: Epoch, items: list[Any]) -> None:
        if index in self.batches:
            await self._gather(index, epoch, items)
            return
        self.given = []
        for item in items:
            await self._within(epoch, self._work(index, item))
        if epoch.index is None:
            await self._within(epoch, self._flush_and_work(index))
        self._emit(index, epoch, self.given, was_given=bool(items))

    async def _gather(self, index: int, epoch: Epoch, items: list[Any]) -> None:
        """Let items wait until they make a batch."""
        batches = self.batches[index]
        part = _Part(epoch, len(items))
        batches.parts.append(part)
        batches.items += [(part, item) for item in items]
        while len(batches.items) >= batches.size or (epoch.index is None and batches.items):
            batch, batches.items = batches.items[: batches.size], batches.items[batches.size :]
            await self._take_batch(index, batch)
        if epoch.index is None:
            self.given = []
            await self._within(epoch, self._flush_and_work(index))
            part.outputs += self.given
        while batches.parts and not batches.parts[0].missing:
            part = batches.parts.popleft()
            self._emit(index, part.epoch, part.outputs, was_given=part.count > 0)

    async def _take_batch(self, index: int, batch: list[tuple[_Part, Any]]) -> None:
        for part, _ in batch:
            part.missing -= 1
        batch = [(part, item) for part, item in batch if part.epoch.error is None]
        if not batch:
            return
        self.recorders[index].items_in += len(batch)
        self.item_index = batch[0][0].epoch.index or 0
        policy = self.policies[index]
        for attempt in range(policy.retries + 1):
            try:
                answers = await self._ask(
                    index, "process", self._ask_batch, index, [item for _, item in batch]
                )
            except NodeError as error:
                failure = error
                if attempt < policy.retries:
                    await policy.pause(attempt)
                    self.recorders[index].retried()
            else:
                for (part, _), answer in zip(batch, answers, strict=True):
                    part.outputs += [] if answer is None else [answer]
                    self.recorders[index].items_out += answer is not None
                return
        # Every item of it failed.
        self.recorders[index].errors += len(batch) - 1
        for part, item in batch:
            self.item_index = part.epoch.index or 0
            own = self._failure(index, "process", self.item_index, original_of(failure))
            await self._within(part.epoch, self._give_up(index, item, own))  # type: ignore[arg-type]
        # Their tracebacks have this frame.
        del failure, own

    def _ask_batch(self, index: int, items: list[Any]) -> Any:
        count = len(items)
        answer = self.entries[index].node.process(items)  # type: ignore[attr-defined]
        if answer_kind(answer) != "coroutine":
            return _checked(answer, count)

        async def finish_batch() -> Any:
            return _checked(await answer, count)

        return finish_batch()

    async def _within(self, epoch: Epoch, work: Any) -> None:
        """Do something for an epoch, unless it has failed."""
        if epoch.error is not None:
            work.close()
            return
        if epoch.index is not None:
            self.item_index = epoch.index
        try:
            await work
        except NodeError as error:
            epoch.error = error
            self.given = []
            source, self.source = self.source, None
            await self.abandon()
            self.stack.clear()
            self.source = source

    async def _work(self, index: int, item: Any) -> None:
        await self._enter(index, item)
        await self._work_off()

    async def _flush_and_work(self, index: int) -> None:
        await self._flush_node(index, self.entries[index])
        await self._work_off()

    def _send(self, index: int, output: Any) -> None:
        self.recorders[index].items_out += 1
        self.given.append(output)

    def _emit(self, index: int, epoch: Epoch, outputs: list[Any], *, was_given: bool) -> None:
        arrival = (epoch, outputs if epoch.error is None else [], was_given)
        for downstream in self.downstreams[index]:
            self.arrivals[downstream][index].append(arrival)
        if index in self.leaving:
            self.leaving[index].append(arrival)


def _checked(answer: Any, count: int) -> list[Any]:
    if not isinstance(answer, (list, tuple)):
        kind = type(answer).__name__
        raise TypeError(
            f"process() received a batch of {count} items and returned {kind}; "
            "return a list of the same length"
        )
    if len(answer) != count:
        raise ValueError(f"process() received a batch of {count} items and returned {len(answer)}")
    return list(answer)
