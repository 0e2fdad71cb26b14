"""Creates the errors of failed nodes, for both executors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from remotemedia._exception_chain import cause_of, context_of, set_cause, set_context
from remotemedia.exceptions import NodeError, NodeTimeoutError, WorkerError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, NoReturn

__all__ = [
    "CallTimeoutError",
    "Located",
    "WorkerLostError",
    "combine",
    "describe_loss",
    "is_interrupt",
    "lost_error",
    "node_error",
    "original_of",
    "throw",
    "timeout_error",
]


_CAUSES = {"not_started", "exit_code", "signal_number", "is_unknown"}


class CallTimeoutError(TimeoutError):
    """A coroutine of a node was cancelled because it exceeded its timeout."""

    def __init__(self, timeout: float) -> None:
        """Store the timeout."""
        super().__init__(f"longer than {timeout:g} s")
        self.timeout = timeout

    def __reduce__(self) -> tuple[Any, ...]:
        """Rebuild from the timeout."""
        return CallTimeoutError, (self.timeout,)


class WorkerLostError(Exception):
    """The worker of a node has ended. Becomes a `WorkerError` once its item is known."""

    def __init__(
        self,
        cause: str,
        *,
        signal: str | None = None,
        exit_code: int | None = None,
        is_late: bool = False,
        stderr: str = "",
    ) -> None:
        """Store how it ended, such as `its worker was killed by SIGKILL`."""
        super().__init__(cause)
        self.is_late = is_late
        self.signal = signal
        self.exit_code = exit_code
        self.stderr = stderr


class Located(Exception):  # noqa: N818 - It stands for another error.
    """An error from a worker, with its node.

    Attributes:
        node_id: The id of the node.
        phase: The phase, such as `process`.
        error: What the node raised, or how its worker ended.
        is_final: Whether the worker will not be restarted.
    """

    def __init__(self, node_id: str, phase: str, error: BaseException, is_final: bool = False) -> None:  # noqa: FBT001, FBT002
        """Store the fields."""
        super().__init__(node_id, phase, error, is_final)
        self.node_id = node_id
        self.phase = phase
        self.error = error
        self.is_final = is_final


def timeout_error(
    node_id: str,
    item_index: int | None,
    timeout: float,
    is_stopped: bool,  # noqa: FBT001
    phase: str = "process",
) -> NodeTimeoutError:
    """Return the error for a call that exceeded its timeout; a call that cannot be stopped continues."""
    on_item = "" if item_index is None else f" on item {item_index}"
    message = f"Node '{node_id}' took longer than {timeout:g} s in {phase}(){on_item}"
    if not is_stopped:
        message += "; the call cannot be stopped, so the session was closed without waiting for it"
    return NodeTimeoutError(message, node_id=node_id, item_index=item_index, phase=phase)


def node_error(node_id: str, item_index: int | None, phase: str, original: BaseException) -> NodeError:
    """Return the error for an exception of a node, with `original` as its cause."""
    if isinstance(original, Located):
        return node_error(original.node_id, item_index, original.phase, original.error)
    if isinstance(original, WorkerLostError):
        return _worker_error(node_id, item_index, phase, original)
    if isinstance(original, CallTimeoutError):
        error: NodeError = timeout_error(node_id, item_index, original.timeout, is_stopped=True, phase=phase)
        set_cause(error, original)
        return error
    on_item = "" if item_index is None else f" on item {item_index}"
    message = f"Node '{node_id}' failed in {phase}(){on_item}: {_text_of(original)}"
    error = NodeError(message, node_id=node_id, item_index=item_index, phase=phase)
    set_cause(error, original)
    return error


def lost_error(node_id: str, phase: str, **loss: Any) -> Located:
    """Return the error for an item whose worker ended.

    Args:
        node_id: The node that was running.
        phase: Its phase, such as `process`.
        loss: How the worker ended: one of `not_started`, `exit_code`, `signal_number`, `is_unknown` and
            `timeout`, or none of them if it did not stop in time. Also `stderr` (the last lines),
            `restarts` and `is_final`.
    """
    is_final: bool = loss["is_final"]
    if "timeout" in loss:
        return Located(node_id, phase, CallTimeoutError(loss["timeout"]), is_final)
    cause = f"its worker {describe_loss(loss)}"
    is_late = not loss.keys() & _CAUSES
    if is_final and loss["restarts"] and not is_late:
        count = loss["restarts"]
        cause += f", after {count} restart{'s' if count > 1 else ''}"
    lost = WorkerLostError(
        cause,
        signal=_signal_name(loss["signal_number"]) if "signal_number" in loss else None,
        exit_code=loss.get("exit_code"),
        is_late=is_late,
        stderr=loss["stderr"],
    )
    return Located(node_id, phase, lost, is_final)


def describe_loss(loss: dict[str, Any]) -> str:
    """Return how a worker ended, such as `was killed by SIGKILL`."""
    if "timeout" in loss:
        return f"took longer than {loss['timeout']:g} s and was killed"
    if "not_started" in loss:
        return f"could not be started: {loss['not_started']}"
    if "signal_number" in loss:
        return f"was killed by {_signal_name(loss['signal_number'])}"
    if "exit_code" in loss:
        return f"exited with code {loss['exit_code']}"
    if "is_unknown" in loss:
        return (
            "ended; its exit status is unknown, because this program ignores SIGCHLD"
            " or waits for child processes that it did not start"
        )
    return "did not stop when its session closed, and was killed"


def _signal_name(number: int) -> str:
    import signal

    try:
        return signal.Signals(number).name
    except ValueError:  # A real-time signal has no name.
        return f"signal {number}"


def _worker_error(
    node_id: str, item_index: int | None, phase: str, lost: WorkerLostError
) -> WorkerError | NodeTimeoutError:
    on_item = "" if item_index is None else f" on item {item_index}"
    message = f"Node '{node_id}' failed in {phase}(){on_item}: {lost}"
    if lost.stderr:
        message += f"\nIts last lines on stderr:\n{lost.stderr}"
    if lost.is_late:
        return NodeTimeoutError(message, node_id=node_id, item_index=item_index, phase=phase)
    error = WorkerError(message, node_id=node_id, item_index=item_index, phase=phase)
    error.signal, error.exit_code, error.stderr = lost.signal, lost.exit_code, lost.stderr
    return error


def original_of(failure: NodeError) -> BaseException:
    """Return what the node raised."""
    return failure if failure.__cause__ is None else failure.__cause__


def is_interrupt(error: BaseException) -> bool:
    """Whether an exception is a request to stop (Ctrl-C, exit, cancellation), which is raised unchanged."""
    return not isinstance(error, Exception)


def combine(first: BaseException | None, cleanups: Sequence[BaseException]) -> BaseException | None:
    """Return the error to raise if a run failed and cleaning up failed, too.

    As in nested `try … finally`, a later failure is raised with the earlier one as its `__context__`. Only a
    request to stop is still raised itself, with the failures of cleaning up in its context.

    Args:
        first: The error that ended the run, if any.
        cleanups: What cleaning up raised, in the order in which it happened.
    """
    current = first
    for later in cleanups:
        if current is None:
            current = later
        elif is_interrupt(current):
            _cut_context(later, current)
            _append_context(current, later)
        else:
            _append_context(later, current)
            if (cause := cause_of(later)) is not None:
                _append_context(cause, current)
            current = later
    return current


def throw(error: BaseException) -> NoReturn:
    """Raise an error with its context, even if the caller of the run is in an `except` block.

    Python would replace the context with the exception that the caller handles; here that is appended.
    """
    context = context_of(error)
    try:
        raise error
    finally:
        handled = context_of(error)
        if context is not None and handled is not context:
            set_context(error, context)
            if handled is not None:
                _append_context(context, handled)
        # The traceback of the error refers to this frame, which must not refer to the error.
        del error, context, handled


def _append_context(error: BaseException, earlier: BaseException) -> None:
    """Append `earlier` to the chain of `error`, before what both chains share."""
    reachable = _reachable_from(earlier)
    if id(error) in reachable:
        # The same exception was raised twice; the chain would be a cycle.
        return
    while (context := context_of(error)) is not None and id(context) not in reachable:
        error = context
    set_context(error, earlier)


def _cut_context(error: BaseException, handled: BaseException) -> None:
    """Remove `handled` from the contexts of `error`: the chain has the opposite direction."""
    while (context := context_of(error)) is not None:
        if context is handled:
            set_context(error, None)
            return
        error = context


def _reachable_from(error: BaseException) -> set[int]:
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        if one is not None and id(one) not in seen:
            seen.add(id(one))
            waiting += [cause_of(one), context_of(one)]
    return seen


def _text_of(error: BaseException) -> str:
    kind = type(error).__name__
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - The user's __str__ may fail, too.
        return kind
    return f"{kind}: {text}" if text else kind
