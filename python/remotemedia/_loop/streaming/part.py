"""A part of a chain in a run: the nodes between two streaming nodes, or before or behind them."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from remotemedia._compiled.failures import NO_NODE, find, original_error
from remotemedia._compiled.forms import PULL, PULL_ALL, STREAM
from remotemedia._compiled.kernels import LazyResultError, build_part
from remotemedia._compiled.pushed import END
from remotemedia._errors import throw
from remotemedia._loop.streaming.machine import Machine
from remotemedia._loop.turns import SharedTurns, Turns

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from types import AsyncGeneratorType, CoroutineType

    from remotemedia._compiled.failures import Found
    from remotemedia._compiled.kernels import Kernel
    from remotemedia._loop.streaming.run_stage import StreamingStage

__all__ = ["Part"]


class Part(SharedTurns):
    """The nodes between two streaming nodes, or before the first, or behind the last.

    Kernels call its methods: those of `SharedTurns`, and `catch` and `rest`.

    Attributes:
        before: The part before it; a streaming node is between them.
        is_ended: Whether the last output has been passed on.
        machine: What its kernel cannot do.
    """

    def __init__(self, stage: StreamingStage, before: Part | None, start: int, end: int) -> None:
        """Arrange the nodes from `start` to `end`."""
        if before is None:
            super().__init__(stage)
        else:
            # Only the first part enters the nodes, all of them.
            Turns.__init__(self)
            self._stage, self._call, self.is_shared = stage, None, False
        self.stage = stage
        self.before = before
        self.start = start
        self.is_ended = False
        self.machine = Machine(stage, end)
        self._nodes = stage.nodes[start:end]
        self._kernel: Kernel
        self._generator: AsyncGeneratorType[Any, None] | None = None
        self._coroutine: CoroutineType[Any, Any, Any] | None = None
        self._stream: AsyncGeneratorType[Any, None] | None = None
        self._rest: AsyncGenerator[Any, None] | None = None
        self._caught: tuple[Found, BaseException] | None = None
        self._index = 0
        self._is_resting = False
        self._is_closing = False

    async def begin(self, items: Any) -> None:
        """Compute the first output, which is yielded again, because the node behind is called with it."""
        self._kernel = build_part(PULL if hasattr(items, "__anext__") else PULL_ALL, self._nodes)
        self._generator = self._kernel.function(items, self, True)  # noqa: FBT003
        await anext(self._generator, None)

    async def call_node(self) -> Any:
        """Call the streaming node before this part; return its outputs."""
        assert self.before is not None  # noqa: S101 - For mypy.
        try:
            self._stream = self.stage.nodes[self.start - 1].process(self.before.outputs())
        except BaseException as error:  # noqa: BLE001 - Raised by the run.
            self.stage.note(self._failure_of(NO_NODE, error))
            await self.close_all()
        return self._stream

    async def take_all(self, outputs: list[Any]) -> None:
        """Take the outputs of the streaming node before the last part, and flush the nodes."""
        self._kernel = build_part(STREAM, self._nodes)
        while not self.is_ended:
            self._coroutine = self._kernel.function(self._stream, outputs, self)
            try:
                await self._coroutine
            except BaseException as error:  # noqa: BLE001 - Raised by `rest`.
                self.catch(original_error(error))
            async for output in self.rest(0):
                outputs.append(output)  # noqa: PERF401 - Those before an error count.

    async def enter(self) -> None:
        """Enter the nodes."""
        if self.stage.failed is not None:
            raise asyncio.CancelledError
        await super().enter()

    def catch(self, error: BaseException) -> None:
        """Keep what the kernel has raised until `rest`."""
        self._caught = find(error, self._kernel), error

    def rest(self, position: int) -> AsyncGenerator[Any, None]:
        """Return the outputs that the kernel cannot make: after an unusual result, and at the end of input.

        Raises:
            asyncio.CancelledError: If the run has failed.
        """
        self._rest = self._outputs(position)
        return self._rest

    async def _outputs(self, position: int) -> AsyncGenerator[Any, None]:
        self._is_resting, self._index = True, position
        machine = self.machine
        try:
            if self.stage.failed is not None or self._caught is not None:
                output = await self._go_on()
                while output is not END:
                    yield output
                    output = await machine.next()
            else:
                await self._end_input(position)
                # A source may have last outputs, too.
                for node in range(self.start if self.before else 0, machine.end):
                    output = await machine.flush(node)
                    while output is not END:
                        yield output
                        output = await machine.next()
                self.is_ended = True
        except BaseException as error:  # noqa: BLE001 - Raised by the run.
            if self._is_closing:
                self.is_ended = True
                return
            if not self.stage.is_stop(error):
                self.stage.note(error)
        else:
            self._is_resting = self.is_ended
            if self.is_shared and not self.is_ended:
                self.leave()
            return
        await self.close_all()
        raise asyncio.CancelledError

    async def _go_on(self) -> Any:
        """Continue after what the kernel has raised, and return the next output."""
        caught, self._caught = self._caught, None
        if caught is None:
            # A node behind the failed one has returned.
            raise asyncio.CancelledError
        found, error = caught
        del caught
        machine = self.machine
        machine.opened = [(self.start + node, "process", opened) for node, opened in reversed(found.opened)]
        try:
            if self._is_closing or self.stage.is_stop(error):
                raise asyncio.CancelledError
            if not isinstance(error, LazyResultError) or found.node == NO_NODE:
                throw(self._failure_of(found.node, error))
            result = error.args[0]
            return await machine.next(await machine.take(self.start + found.node, lambda: result))
        finally:
            # Its traceback may refer to this frame.
            del error

    def _failure_of(self, node: int, error: BaseException) -> BaseException:
        """Return the error for what a node of the kernel raised, or its input."""
        stage = self.stage
        if node == NO_NODE and self.before is None:
            return error
        node += self.start
        phase = "process" if node >= self.start else self._phase()
        if stage.failed is not None:
            phase = "cleanup"
        return stage.failure(node, phase, stage.item_index(), error)

    def _phase(self) -> str:
        """Return the phase of the streaming node before this part."""
        return "flush" if self.before is not None and self.before.has_ended() else "process"

    def has_ended(self) -> bool:
        """Whether its async generator has ended."""
        return self._generator is not None and self._generator.ag_frame is None

    async def _end_input(self, position: int) -> None:
        if self.before is None:
            self._index = max(0, position - 1)
            if self._call is None:
                await self.enter()
            return
        # A streaming node may have returned before the end of its input.
        async for _ in self.before.outputs():
            pass

    async def close_all(self) -> None:
        """Close what is open in this part and those before it, the innermost first."""
        part: Part | None = self
        if isinstance(self.stage.failed, GeneratorExit):
            # The run is closed, because its loop has stopped. That does not reach into async generators.
            for one in self.stage.parts:
                one.close_awaited()
        failures = await self.machine.close()
        while part is not None:
            failures += await part.close_node()
            part = part.before
            failures += [] if part is None else await part.close()
        for failure in failures:
            self.stage.note(failure)

    async def close_node(self) -> list[BaseException]:
        """Close the streaming node before this part."""
        try:
            if self._stream is not None and not self._stream.ag_running:
                await self._stream.aclose()
        except BaseException as error:  # noqa: BLE001 - Reported with the other failures.
            return [self.stage.failure(self.start - 1, self._phase(), None, error)]
        return []

    async def close(self) -> list[BaseException]:
        """Close its async generator and what is open in it."""
        self._is_closing = True
        if self._generator is not None and not self._generator.ag_running:
            await self._generator.aclose()
        if self._rest is not None:
            await self._rest.aclose()
        return await self.machine.close()

    def close_awaited(self) -> None:
        """Close the coroutines that async generators wait for."""
        for generator in (self._stream, self._generator):
            close = None if generator is None else getattr(generator.ag_await, "close", None)
            if close is not None:
                # Their failures have no caller.
                with suppress(BaseException):
                    close()

    def outputs(self) -> AsyncGenerator[Any, None]:
        """Return the outputs that nothing has requested yet."""
        assert self._generator is not None  # noqa: S101 - It has begun.
        return self._generator

    def item_index(self) -> int:
        """Return the index of the item that passes through the nodes; for the first part."""
        frame = None if self._generator is None else self._generator.ag_frame
        if self._is_resting or frame is None:
            return self._index
        index: int = frame.f_locals.get("position", 0)
        return index

    def index_at_work(self) -> int | None:
        """Return the index of the node that is called or awaited now; `None` if one of a part before is."""
        if self._is_resting:
            return self.stage.node
        line = self._line()
        if line is not None and (node := self._kernel.source.node_of_line[line]) != NO_NODE:
            return self.start + node
        if self.before is None or self.before.is_requested():
            return None
        return self.start - 1

    def is_at_input(self) -> bool:
        """Whether its kernel waits for its next item."""
        line = self._line()
        is_at_input = line is not None and self._kernel.source.node_of_line[line] == NO_NODE
        return is_at_input and self.is_requested() and not self._is_resting

    def is_requested(self) -> bool:
        """Whether the node behind waits for it."""
        return self._generator is not None and self._generator.ag_running

    def _line(self) -> int | None:
        """Return the line of its kernel that runs or waits."""
        frame = None
        if self._coroutine is not None:
            frame = self._coroutine.cr_frame
        elif self._generator is not None:
            frame = self._generator.ag_frame
        return None if frame is None else frame.f_lineno
