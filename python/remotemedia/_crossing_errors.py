"""Exceptions for another process: each with its cause, its context and its traceback as text.

Not every exception pickles, and of those that do not all unpickle. A worker tries both before it sends one;
what fails is sent as a description, so that nothing a user raises can end a worker or leave somebody waiting.
"""

from __future__ import annotations

import pickle
import traceback
from typing import TYPE_CHECKING, NamedTuple

from remotemedia._chaining import (
    add_note,
    cause_of,
    context_of,
    is_context_hidden,
    set_args,
    set_cause,
    set_context,
    set_is_context_hidden,
    traceback_of,
)
from remotemedia._crossing import dumps
from remotemedia._failures import Located

if TYPE_CHECKING:
    from types import FrameType

__all__ = ["UnsentError", "located_error", "pack_error", "unpack_error"]

_MOST_ERRORS = 50
"""Of one chain. A node that raises in a circle of retries makes long ones."""

_MOST_TEXT = 20_000
"""Characters of one text or traceback."""


class UnsentError(RuntimeError):
    """Stands for an exception that cannot be sent from its worker.

    Attributes:
        type_name: The name of its class.
        text: What it said.
        reason: Why it could not be sent.
    """

    def __init__(self, type_name: str, text: str, reason: str) -> None:
        """Describe the exception."""
        super().__init__(type_name, text, reason)
        self.type_name = type_name
        self.text = text
        self.reason = reason

    def __str__(self) -> str:
        """Say what it stands for."""
        said = f"{self.type_name}: {self.text}" if self.text else self.type_name
        return f"{said} (described here, because the exception itself cannot be sent: {self.reason})"


class _Packed(NamedTuple):
    """One exception of a chain. Others of the chain are named by their number."""

    pickled: bytes | None
    type_name: str
    text: str
    reason: str
    trace: str
    cause: int | None
    context: int | None
    is_context_hidden: bool


def pack_error(error: BaseException) -> bytes:
    """Write an exception down, with all that it is chained to."""
    chain = _chain_of(error)
    numbers = {id(one): number for number, one in enumerate(chain)}
    packed = [tuple(_pack_one(one, numbers)) for one in chain]
    return pickle.dumps(packed, protocol=5)


def unpack_error(packed: bytes, node_id: str) -> BaseException:
    """The exception that `pack_error` wrote down in the worker of a node."""
    records = [_Packed(*fields) for fields in pickle.loads(packed)]  # noqa: S301 - From our own worker.
    errors = [_unpack_one(record) for record in records]
    for error, record in zip(errors, records, strict=True):
        set_cause(error, None if record.cause is None else errors[record.cause])
        set_context(error, None if record.context is None else errors[record.context])
        set_is_context_hidden(error, record.is_context_hidden)
        if record.trace:
            add_note(error, f"In the worker of node '{node_id}':\n{record.trace}")
    return errors[0]


def located_error(packed: bytes, node_id: str, phase: str) -> Located:
    """The same, with the node that it came out of."""
    if not packed:
        # The worker could not even describe it.
        error: BaseException = UnsentError("exception", "", "its worker had no memory left to describe it")
    else:
        error = unpack_error(packed, node_id)
    return Located(node_id, phase, error)


def _chain_of(error: BaseException) -> list[BaseException]:
    chain = [error]
    seen = {id(error)}
    for one in chain:
        for other in (cause_of(one), context_of(one)):
            if other is not None and id(other) not in seen and len(chain) < _MOST_ERRORS:
                seen.add(id(other))
                chain.append(other)
    return chain


def _pack_one(error: BaseException, numbers: dict[int, int]) -> _Packed:
    pickled, reason = None, ""
    for attempt in (_as_it_is, _by_its_parts):
        try:
            pickled = attempt(error)
            break
        except BaseException as problem:  # noqa: BLE001 - Even an exit, in the code of the user's exception.
            reason = reason or _text_of(problem)
    return _Packed(
        pickled=pickled,
        type_name=type(error).__qualname__,
        text=_shortened(_own_text(error)),
        reason=reason,
        trace=_shortened(_trace_of(error)),
        cause=numbers.get(id(cause_of(error))),
        context=numbers.get(id(context_of(error))),
        is_context_hidden=is_context_hidden(error),
    )


def _as_it_is(error: BaseException) -> bytes:
    return _tried(dumps(error, is_for_parent=True), error)


def _by_its_parts(error: BaseException) -> bytes:
    """Without `__init__`, which in many classes takes other arguments than those in `args`."""
    return _tried(dumps((type(error), error.args, error.__dict__), is_for_parent=True), error)


def _tried(pickled: bytes, error: BaseException) -> bytes:
    kind = type(_loaded(pickled))
    if kind is not type(error):
        raise TypeError(f"it comes back as {kind.__qualname__}")
    return pickled


def _loaded(pickled: bytes) -> BaseException:
    loaded = pickle.loads(pickled)  # noqa: S301 - From our own worker.
    if not isinstance(loaded, tuple):
        return loaded  # type: ignore[no-any-return]
    kind, arguments, attributes = loaded
    error: BaseException = kind.__new__(kind, *arguments)
    set_args(error, arguments)
    error.__dict__.update(attributes)
    return error


def _unpack_one(record: _Packed) -> BaseException:
    reason = record.reason
    if record.pickled is not None:
        try:
            return _loaded(record.pickled)
        except BaseException as problem:  # noqa: BLE001 - As in the worker; there it went well.
            reason = _text_of(problem)
    return UnsentError(record.type_name, record.text, reason)


def _own_text(error: BaseException) -> str:
    try:
        return str(error)
    except BaseException:  # noqa: BLE001 - The user's `__str__` may do anything.
        return ""


def _text_of(error: BaseException) -> str:
    text = _own_text(error)
    return f"{type(error).__qualname__}: {text}" if text else type(error).__qualname__


def _trace_of(error: BaseException) -> str:
    try:
        frames = traceback.walk_tb(traceback_of(error))
        users = ((frame, line) for frame, line in frames if not _is_ours(frame))
        return "".join(traceback.StackSummary.extract(users).format()).rstrip()
    except BaseException:  # noqa: BLE001 - It reads the user's files.
        return ""


def _is_ours(frame: FrameType) -> bool:
    """Whether a frame is of what takes objects and coroutines to and fro, which is no news to the user."""
    return str(frame.f_globals.get("__name__")).startswith(("remotemedia._", "cloudpickle."))


def _shortened(text: str) -> str:
    half = _MOST_TEXT // 2
    return text if len(text) <= _MOST_TEXT else f"{text[:half]}\n…\n{text[-half:]}"
