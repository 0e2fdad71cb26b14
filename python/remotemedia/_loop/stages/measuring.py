"""Measures nodes where compiled code calls them: objects that stand for the nodes there."""

from __future__ import annotations

from time import perf_counter_ns
from types import CodeType, CoroutineType
from typing import TYPE_CHECKING, Any

from remotemedia._compiled.kernels import LazyResultError
from remotemedia._core import is_lazy
from remotemedia._errors import is_interrupt
from remotemedia._loop.failed_items import FailedItemError, resolved

if TYPE_CHECKING:
    from collections.abc import Sequence

    from remotemedia._core import LoopMetrics

__all__ = ["MEASURED_CALL", "measured", "note_failure"]


def measured(called: Sequence[Any], on_thread: Sequence[bool], metrics: LoopMetrics) -> list[Any]:
    """Return what the items of each node of a chain are passed to.

    Args:
        called: The nodes, or their guards.
        on_thread: Whether each is called on a thread.
        metrics: Collects the metrics of the stage.
    """
    return [
        _OnThread(node, metrics, index) if is_beside else _OnLoop(node, metrics, index)
        for index, (node, is_beside) in enumerate(zip(called, on_thread, strict=True))
    ]


def note_failure(metrics: LoopMetrics, node: int, error: BaseException) -> None:
    """Count what a call of a node raised, unless it counts when a function has received the item."""
    if not (type(error) is FailedItemError and error.dead_letter is not None):
        metrics.note_failure(node, is_interrupt(error))


class _Measured:
    """A node of a chain. A lazy result is measured where it is followed."""

    def __init__(self, node: Any, metrics: LoopMetrics, index: int) -> None:
        self._call = node.process
        self._metrics = metrics
        self._index = index

    def _fail(self, error: BaseException, took: int) -> None:
        self._metrics.note_received(self._index)
        self._metrics.note_call(self._index, took)
        note_failure(self._metrics, self._index, error)

    def _returned(self, result: Any, took: int) -> Any:
        """Note what the node has returned, and pass it on. A lazy result leaves the kernel."""
        if is_lazy(result):
            self._metrics.note_received(self._index)
            raise LazyResultError(result, took)
        self._metrics.note_returned(self._index, took, result is not None)
        return result


class _OnThread(_Measured):
    """A `def` node on any thread."""

    def process(self, item: Any) -> Any:
        """Return what the node returns.

        Raises:
            LazyResultError: If that is a coroutine or generator.
        """
        began = perf_counter_ns()
        try:
            result = self._call(item)
        except BaseException as error:
            self._fail(error, perf_counter_ns() - began)
            raise
        return self._returned(result, perf_counter_ns() - began)


class _OnLoop(_Measured):
    """A node of any kind on the event loop. The time of a coroutine contains its waits."""

    async def process(self, item: Any) -> Any:
        """Return the result of the node.

        Raises:
            LazyResultError: If that is a generator.
        """
        began = perf_counter_ns()
        try:
            result = self._call(item)
            if type(result) is CoroutineType:
                result = await result
            if is_lazy(result):
                result = await resolved(result)
        except BaseException as error:
            self._fail(error, perf_counter_ns() - began)
            raise
        return self._returned(result, perf_counter_ns() - began)


MEASURED_CALL: CodeType = _OnLoop.process.__code__
"""A coroutine that calls nodes."""
