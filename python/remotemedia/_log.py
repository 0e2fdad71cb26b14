"""Warnings and errors of the engine for the logger `remotemedia`."""

from __future__ import annotations

import logging
import sys
import threading
import traceback
from typing import TYPE_CHECKING, Any

from remotemedia._exception_chain import traceback_of
from remotemedia._threads import forget

if TYPE_CHECKING:
    from types import FrameType

__all__ = [
    "abandoned",
    "abandoned_node_text",
    "abandoned_text",
    "cleanup_abandoned",
    "dropped",
    "log_ignored_error",
    "report_abandoned",
    "run_abandoned",
    "stack_of",
    "stack_of_coroutine",
    "stalled",
    "stalled_at",
]

_logger = logging.getLogger("remotemedia")


def stalled(node_id: str, item_index: int | None, seconds: float, thread_id: int | None) -> None:
    """Log a stalled node without stopping it; `thread_id` is `None` for a node in a worker."""
    if thread_id is None:
        text = "node '%s' has been busy with %s for %.1f s in its worker, which writes its stack to stderr"
        _logger.warning(text, node_id, _task(item_index), seconds)
        forget(threading.get_ident())
        return
    stalled_at(_called_node(node_id, thread_id), item_index, seconds, stack_of(thread_id))
    forget(threading.get_ident())


def stalled_at(node_id: str, item_index: int | None, seconds: float, stack: str) -> None:
    """Log a node that has stalled on an event loop, without stopping it."""
    _logger.warning(
        "node '%s' has been busy with %s for %.1f s; its stack:\n%s",
        node_id,
        _task(item_index),
        seconds,
        stack,
    )


def dropped(node_id: str, count: int) -> None:
    """Log items that were dropped because a queue was full."""
    _logger.warning("%d items were dropped because the queue of node '%s' was full", count, node_id)
    forget(threading.get_ident())


def log_ignored_error(error: BaseException) -> None:
    """Log an error that belongs to no input."""
    # As a tuple, because logging evaluates the truth of an exception.
    _logger.error("error in abandoned work", exc_info=(type(error), error, traceback_of(error)))


def abandoned(waited: float, thread_id: int) -> None:
    """Log work that did not stop after the task that waited for it was cancelled."""
    text = "work of a cancelled task did not stop within %g s and was abandoned; its stack:\n%s"
    _logger.error(text, round(waited, 2), stack_of(thread_id))


def run_abandoned(name: str, waited: float, thread_id: int) -> None:
    """Log a cancelled run one of whose nodes did not return."""
    text = (
        "pipeline '%s' was cancelled, but a node did not return within %g s and was abandoned; its stack:\n%s"
    )
    _logger.error(text, name, round(waited, 2), stack_of(thread_id))


def cleanup_abandoned(name: str, waited: float) -> None:
    """Log a run on an event loop whose nodes were not cleaned up in time."""
    _logger.error("pipeline '%s' was cancelled, but its nodes were not cleaned up within %g s", name, waited)


def abandoned_node_text(
    node_id: str, item_index: int | None, phase: str, timeout: float, thread_id: int
) -> str:
    """Return the text for a node that did not return when its session closed."""
    node_id = _called_node(node_id, thread_id) if phase == "process" else node_id
    return abandoned_text(node_id, item_index, phase, timeout, stack_of(thread_id))


def abandoned_text(node_id: str, item_index: int | None, phase: str, timeout: float, stack: str) -> str:
    """Return the same text for a stack."""
    task = "cleanup()" if phase == "cleanup" else _task(item_index)
    return (
        f"Node '{node_id}' did not finish {task} within {timeout:g} s and was abandoned; its stack:\n{stack}"
    )


def report_abandoned(
    node_id: str, item_index: int | None, phase: str, timeout: float, thread_id: int
) -> None:
    """Log a node that did not return, if the run raises another error."""
    _logger.error("%s", abandoned_node_text(node_id, item_index, phase, timeout, thread_id))


def _called_node(node_id: str, thread_id: int) -> str:
    """Return the node that a thread is in: of those in a kernel, the engine only knows the first."""
    from remotemedia._compiled.failures import node_at

    frame = _frame_of(thread_id)
    if (found := node_at(frame, node_id)) is not None:
        return found
    # Without calls to an event loop, its module has not been imported.
    crossings = sys.modules.get("remotemedia._compiled.crossings")
    return (crossings is not None and crossings.awaited_node(frame, node_id)) or node_id


def _frame_of(thread_id: int) -> FrameType | None:
    return sys._current_frames().get(thread_id)  # noqa: SLF001 - The documented way to read the stack of another thread.


def _task(item_index: int | None) -> str:
    return "a call without an item" if item_index is None else f"item {item_index}"


def stack_of(thread_id: int) -> str:
    """Return the Python stack of a thread, formatted like a traceback."""
    frame = _frame_of(thread_id)
    return "".join(traceback.format_stack(frame)).rstrip() if frame is not None else "  (no Python code)"


def stack_of_coroutine(coroutine: Any) -> str:
    """Return the Python stack of a suspended coroutine, formatted like a traceback."""
    lines: list[str] = []
    while coroutine is not None:
        frames = (getattr(coroutine, f"{kind}_frame", None) for kind in ("cr", "ag", "gi"))
        frame = next((frame for frame in frames if frame is not None), None)
        if frame is None:
            break
        if not frame.f_code.co_filename.startswith("<remotemedia"):
            lines += traceback.format_list(traceback.extract_stack(frame, limit=1))
        names = ("cr_await", "ag_await", "gi_yieldfrom")
        inner = (getattr(coroutine, name, None) for name in names)
        coroutine = next((found for found in inner if found is not None), None)
    return "".join(lines).rstrip() or "  (no Python code)"
