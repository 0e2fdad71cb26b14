"""What a failing node becomes: the one place where both executors build their errors."""

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
    """A coroutine of a node was cancelled because it took longer than it may."""

    def __init__(self, timeout: float) -> None:
        """Say how long it might have taken."""
        super().__init__(f"longer than {timeout:g} s")
        self.timeout = timeout

    def __reduce__(self) -> tuple[Any, ...]:
        """Rebuild from the seconds."""
        return CallTimeoutError, (self.timeout,)


class WorkerLostError(Exception):
    """The worker in which a node ran is gone. Becomes a `WorkerError`, once it is known on which item."""

    def __init__(
        self,
        cause: str,
        *,
        signal: str | None = None,
        exit_code: int | None = None,
        is_late: bool = False,
        stderr: str = "",
    ) -> None:
        """Say what became of it, as in `its worker was ended by SIGKILL`."""
        super().__init__(cause)
        self.is_late = is_late
        self.signal = signal
        self.exit_code = exit_code
        self.stderr = stderr


class Located(Exception):  # noqa: N818 - It stands for another error.
    """An error that came from a worker, with the node that it came out of.

    Attributes:
        node_id: The id of the node.
        phase: The part of its life.
        error: What it raised, or how its worker was lost.
        is_final: Whether the worker is not started again.
    """

    def __init__(self, node_id: str, phase: str, error: BaseException, is_final: bool = False) -> None:  # noqa: FBT001, FBT002
        """Take the fields as they are."""
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
    """The error for a call that took longer than it may; one that cannot be stopped goes on."""
    on_item = "" if item_index is None else f" on item {item_index}"
    message = f"Node '{node_id}' took longer than {timeout:g} s in {phase}(){on_item}"
    if not is_stopped:
        message += "; the call cannot be stopped, so the session was closed without waiting for it"
    return NodeTimeoutError(message, node_id=node_id, item_index=item_index, phase=phase)


def node_error(node_id: str, item_index: int | None, phase: str, original: BaseException) -> NodeError:
    """The error for what a node raised, with `original` as its cause."""
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
    """What becomes of an item whose worker was lost.

    Args:
        node_id: The node that was at work.
        phase: The part of its life.
        loss: What became of the worker, one of `not_started`, `exit_code`, `signal_number`, `is_unknown` and
            `timeout`, or nothing of these if it was late; and `stderr`, the last that it wrote there,
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
    """What became of a worker, as in `was ended by SIGKILL`."""
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
    """What the node raised."""
    return failure if failure.__cause__ is None else failure.__cause__


def is_interrupt(error: BaseException) -> bool:
    """Whether an exception is an order to stop (Ctrl-C, exit, cancellation), which passes as itself."""
    return not isinstance(error, Exception)


def combine(first: BaseException | None, cleanups: Sequence[BaseException]) -> BaseException | None:
    """The one error to raise when a run failed, and cleaning up failed too.

    As in nested `try … finally`, a later failure takes over and has the earlier one as its `__context__`.
    Only an order to stop stays on top, and has the failures of cleaning up in its context.

    Args:
        first: What ended the run, if anything did.
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
    """Raise an error that keeps its context, also where the caller of the run is in an `except` block.

    Python would put what the caller is handling in its place; here it goes to the end of the chain.
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
        # The traceback of the error has this frame, which must not have the error.
        del error, context, handled


def _append_context(error: BaseException, earlier: BaseException) -> None:
    """Hang `earlier` at the end of the chain of `error`, or before what both have in common."""
    reachable = _reachable_from(earlier)
    if id(error) in reachable:
        # One exception that is raised twice: a circle otherwise.
        return
    while (context := context_of(error)) is not None and id(context) not in reachable:
        error = context
    set_context(error, earlier)


def _cut_context(error: BaseException, handled: BaseException) -> None:
    """Forget that `error` came while `handled` was handled: the chain goes the other way round."""
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
    except Exception:  # noqa: BLE001 - A __str__ of the user may fail, too.
        return kind
    return f"{kind}: {text}" if text else kind
