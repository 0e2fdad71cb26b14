"""Calls nodes under their failure policies: guards stand for the nodes where items are passed to them."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from remotemedia._asyncio.retries import pause_secs
from remotemedia._core import is_lazy
from remotemedia._errors import CallTimeoutError
from remotemedia._exception_chain import set_cause
from remotemedia._graph.node_kinds import classify, return_kind
from remotemedia._loop.failed_items import END, Guard, LateResult, draw, resolved, rest

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator, Sequence

    from remotemedia._core import LoopMetrics
    from remotemedia._graph.policy import Policy

__all__ = ["guarded", "stop_timers"]


def guarded(
    called: Sequence[Any],
    policies: Sequence[Policy],
    on_thread: Sequence[bool],
    metrics: LoopMetrics | None = None,
) -> list[Any]:
    """Return what the items of each node are passed to, with guards for those that have a policy.

    Called on the event loop, after the nodes have been initialized.

    Args:
        called: The nodes, or what takes their items.
        policies: Their policies.
        on_thread: Whether each is called on a thread.
        metrics: Collects the metrics of the stage.
    """
    found: list[Any] = []
    for index, (node, policy) in enumerate(zip(called, policies, strict=True)):
        if not policy:
            found.append(node)
        elif on_thread[index]:
            found.append(DefGuard(node, policy, metrics, index))
        else:
            guard = AsyncGuard(node, policy, metrics, index)
            is_generator = classify(node) in {"generator", "async_generator"}
            found.append(GeneratorGuard(guard) if is_generator else guard)
    return found


def stop_timers(called: Sequence[Any]) -> None:
    """Stop the timers of guards that are not needed any more."""
    for guard in called:
        if type(guard) in {AsyncGuard, GeneratorGuard}:
            guard.stop_timer()


class DefGuard(Guard):
    """Calls a `def` node once for each item, on any thread."""

    def process(self, item: Any) -> Any:
        """Return what the node returns, or `None` for an item that is skipped.

        Raises:
            FailedItemError: If it fails.
        """
        try:
            result = self._call(item)
        except Exception as raised:  # noqa: BLE001 - Handled below, without another context.
            error = raised
        else:
            return self._followed(item, result) if is_lazy(result) else result
        try:
            return self.refuse(item, error)
        finally:
            del error

    def _followed(self, item: Any, result: Any) -> Any:
        kind = return_kind(result)
        if kind == "generator":
            return self._outputs(item, result)
        if kind == "coroutine":
            return LateResult(self, item, result)
        return result if kind == "plain" else rest(self, item, result)

    def _outputs(self, item: Any, generator: Generator[Any, None, None]) -> Generator[Any, None, None]:
        try:
            yield from generator
        except Exception as raised:  # noqa: BLE001 - As above.
            error = raised
        else:
            return
        try:
            self.refuse(item, error)
        finally:
            del error


class AsyncGuard(Guard):
    """Calls a node on the event loop, again after failures, for as long as its policy allows.

    One call is inside at a time, so one timer serves all calls: it is set again when it expires, not by each
    call.
    """

    def __init__(self, node: Any, policy: Policy, metrics: LoopMetrics | None = None, index: int = 0) -> None:
        """Guard a node on the current event loop."""
        super().__init__(node, policy, metrics, index)
        self._timeout = policy.timeout
        self._loop = asyncio.get_running_loop()
        self._plain: type | None = None
        self._task: asyncio.Task[Any] | None = None
        self._cancelling = 0
        self._is_late = False
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None

    async def process(self, item: Any) -> Any:  # noqa: C901 - A function more costs time for each item.
        """Return what the node makes of an item, or `None` if it is skipped.

        Raises:
            FailedItemError: If it fails for good.
        """
        attempt = 0
        while True:
            task: Any = asyncio.current_task(self._loop)
            self._cancelling = task.cancelling()
            if self._timeout is not None:
                self._task = task
                self._due = self._loop.time() + self._timeout
                if self._timer is None:
                    self._set_timer()
            try:
                result = self._call(item)
                if type(result) is CoroutineType:
                    result = await result
                # Most results are of one type, which is checked once.
                if type(result) is not self._plain:
                    result = await self._settled(item, result)
            except BaseException as raised:
                error = self._failure(task, raised)
                if error is None:
                    raise
            else:
                return result
            finally:
                self._task = None
                if self._is_late:
                    self._is_late = False
                    task.uncancel()
            try:
                if await self._is_skipped(
                    item, error, attempt, is_stopped=task.cancelling() > self._cancelling
                ):
                    return None
            finally:
                del error
            attempt += 1

    async def _is_skipped(self, item: Any, error: Exception, attempt: int, *, is_stopped: bool) -> bool:
        """Return whether an item is skipped after a failed attempt; otherwise wait for the next one.

        Args:
            item: The item.
            error: What the attempt raised.
            attempt: The number of attempts before.
            is_stopped: Whether the task was cancelled: what the node raises then is not tried again.

        Raises:
            FailedItemError: If there is no other attempt, and the item is not skipped.
            asyncio.CancelledError: If the task was cancelled before the node raised the error by itself.
        """
        try:
            if is_stopped:
                # Here a cancellation is raised that the node has not received.
                await asyncio.sleep(0)
            if is_stopped or attempt >= self.policy.retries:
                self.refuse(item, error, is_stopped=is_stopped)
                return True
        finally:
            del error
        await asyncio.sleep(pause_secs(attempt, self.policy.retry_delay))
        if self._metrics is not None:
            self._metrics.note_retry(self._index)
        return False

    async def _settled(self, item: Any, result: Any) -> Any:
        """Return a result that is not lazy, or an async generator whose first output has been made."""
        result = await resolved(result)
        if return_kind(result) == "plain":
            self._plain = type(result)
            return result
        # Each output has its own time.
        self._task = None
        first = await draw(result, self._timeout)
        return None if first is END else rest(self, item, result, (first,))

    def _failure(self, task: asyncio.Task[Any], raised: BaseException) -> Exception | None:
        """Return the failure for what was raised; `None` for a request to stop, which passes unchanged."""
        is_failure = isinstance(raised, Exception)
        if not self._is_late or self._timeout is None:
            return raised if is_failure else None  # type: ignore[return-value]
        # The timer has cancelled the task once.
        if not is_failure and not (
            isinstance(raised, asyncio.CancelledError) and task.cancelling() - 1 <= self._cancelling
        ):
            return None
        late = CallTimeoutError(self._timeout)
        set_cause(late, raised)
        return late

    def _set_timer(self) -> None:
        self._timer = self._loop.call_at(self._due, self._look, self._due)

    def _look(self, time: float) -> None:
        """Cancel the call inside if it was due at this time; otherwise look again when it is due."""
        self._timer = None
        if self._task is None:
            return
        if self._due > time:
            self._set_timer()
        else:
            self._is_late = True
            self._task.cancel()

    def stop_timer(self) -> None:
        """Stop the timer; no call is inside."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class GeneratorGuard:
    """Stands for a generator of any kind on the event loop, which is called again until it has an output.

    Attributes:
        flush: The method of the node, if it has one.
    """

    def __init__(self, guard: AsyncGuard) -> None:
        """Yield the outputs that a guard of the node returns."""
        self._guard = guard
        self.flush = guard.flush

    async def process(self, item: Any) -> AsyncGenerator[Any, None]:
        """Yield the outputs of the node; what follows the first one is not tried again.

        Raises:
            FailedItemError: If it fails for good.
        """
        result = await self._guard.process(item)
        if return_kind(result) == "plain":
            if result is not None:
                yield result
            return
        async with aclosing(result):
            async for output in result:
                yield output

    def stop_timer(self) -> None:
        """Stop the timer of the guard."""
        self._guard.stop_timer()
