"""Sends exceptions to another process, with cause, context and traceback as text.

Not every exception can be pickled, or unpickled. A worker checks both before it sends one, and otherwise
sends a description, so that no exception of a user can end a worker or make its parent wait for ever.
"""

from __future__ import annotations

import pickle
import traceback
from graphlib import TopologicalSorter
from typing import TYPE_CHECKING, Any, NamedTuple

from remotemedia._errors import Located
from remotemedia._exception_chain import (
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
from remotemedia._workers.pickling import dumps

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

__all__ = ["UnsentError", "located_error", "pack_error", "unpack_error"]

_MOST_LINKS = 50
"""The maximum length of a chain of causes and contexts; retry loops of nodes create long chains."""

_MOST_ERRORS = 1000
"""The maximum number of exceptions, including members of groups."""

_MOST_TEXT = 20_000
"""The maximum number of characters of one text or traceback."""


class UnsentError(RuntimeError):
    """Replaces an exception that cannot be sent from its worker.

    Attributes:
        type_name: The name of its class.
        text: Its text.
        reason: Why it could not be sent.
    """

    def __init__(self, type_name: str, text: str, reason: str) -> None:
        """Describe the exception."""
        super().__init__(type_name, text, reason)
        self.type_name = type_name
        self.text = text
        self.reason = reason

    def __str__(self) -> str:
        """Show the exception that it replaces."""
        said = f"{self.type_name}: {self.text}" if self.text else self.type_name
        return f"{said} (described here, because the exception itself cannot be sent: {self.reason})"


class _Packed(NamedTuple):
    """One exception of a chain, which refers to others by number."""

    pickled: bytes | None
    type_name: str
    text: str
    reason: str
    trace: str
    cause: int | None
    context: int | None
    is_context_hidden: bool
    members: tuple[int, ...] | None
    """The numbers of the members of a group."""
    missing: int
    """The number of omitted members."""


def pack_error(error: BaseException) -> bytes:
    """Pickle an exception with its chain, and with the members of groups."""
    chain = _chain_of(error)
    numbers = {id(one): number for number, one in enumerate(chain)}
    packed = [tuple(_pack_one(one, numbers)) for one in chain]
    return pickle.dumps(packed, protocol=5)


def unpack_error(packed: bytes, node_id: str) -> BaseException:
    """Return the exception that `pack_error` pickled in the worker of a node."""
    records = [_Packed(*fields) for fields in pickle.loads(packed)]  # noqa: S301 - From our own worker.
    errors: dict[int, BaseException] = {}
    # The members of a group must be created before it.
    members = {number: record.members or () for number, record in enumerate(records)}
    for number in TopologicalSorter(members).static_order():
        errors[number] = _unpack_one(records[number], errors)
    for number, record in enumerate(records):
        error = errors[number]
        set_cause(error, None if record.cause is None else errors[record.cause])
        set_context(error, None if record.context is None else errors[record.context])
        set_is_context_hidden(error, record.is_context_hidden)
        if record.trace:
            add_note(error, f"In the worker of node '{node_id}':\n{record.trace}")
    return errors[0]


def located_error(packed: bytes, node_id: str, phase: str) -> Located:
    """Return the exception together with its node."""
    if not packed:
        # The worker could not even describe it.
        error: BaseException = UnsentError(
            "exception", "", "its worker ran out of memory while describing it"
        )
    else:
        error = unpack_error(packed, node_id)
    return Located(node_id, phase, error)


def _chain_of(error: BaseException) -> list[BaseException]:
    chain = [error]
    depths = {id(error): 0}
    for one in chain:
        depth = depths[id(one)]
        links = (cause_of(one), context_of(one)) if depth < _MOST_LINKS else ()
        others = [(member, depth) for member in _members_of(one)] + [(link, depth + 1) for link in links]
        for other, its_depth in others:
            if other is not None and id(other) not in depths and len(chain) < _MOST_ERRORS:
                depths[id(other)] = its_depth
                chain.append(other)
    return chain


def _members_of(error: BaseException) -> tuple[BaseException, ...]:
    if not isinstance(error, BaseExceptionGroup):
        return ()
    # The user's class may have an attribute of that name.
    members: tuple[BaseException, ...] = BaseExceptionGroup.exceptions.__get__(error)
    return members


def _pack_one(error: BaseException, numbers: dict[int, int]) -> _Packed:
    pickled, reason = None, ""
    is_group = isinstance(error, BaseExceptionGroup)
    for attempt in (_as_group, _as_bare_group) if is_group else (_as_it_is, _by_its_parts):
        try:
            pickled = _tried(attempt(error), error)
            break
        except BaseException as problem:  # noqa: BLE001 - The user's class may even exit.
            reason = reason or _text_of(problem)
    members = _members_of(error)
    known = tuple(numbers[id(member)] for member in members if id(member) in numbers)
    return _Packed(
        pickled=pickled,
        type_name=type(error).__qualname__,
        text=_shortened(_own_text(error)),
        reason=reason,
        trace=_shortened(_trace_of(error)),
        cause=numbers.get(id(cause_of(error))),
        context=numbers.get(id(context_of(error))),
        is_context_hidden=is_context_hidden(error),
        members=known if is_group else None,
        missing=len(members) - len(known),
    )


def _as_group(error: BaseException) -> Any:
    """The parts of a group without its members, which are pickled separately."""
    members = _members_of(error)
    places = [place for place, value in enumerate(error.args) if _holds(value, members)]
    rest = [None if place in places else value for place, value in enumerate(error.args)]
    return (type(error), _message_of(error), rest, places, error.__dict__)


def _as_bare_group(error: BaseException) -> Any:
    """The parts of a group without its members and without attributes other than notes."""
    message = _message_of(error)
    notes = [note for note in getattr(error, "__notes__", ()) if type(note) is str]
    return (type(error), message, [message, None], [1], {"__notes__": notes})


def _holds(value: object, members: tuple[BaseException, ...]) -> bool:
    """Whether an argument of a group contains its members."""
    return isinstance(value, (list, tuple)) and [*map(id, value)] == [*map(id, members)]


def _message_of(error: BaseException) -> str:
    message: str = BaseExceptionGroup.message.__get__(error)
    return message


def _as_it_is(error: BaseException) -> Any:
    return error


def _by_its_parts(error: BaseException) -> Any:
    """The parts of an exception to be created without `__init__`, whose arguments may differ from `args`."""
    return (type(error), None, error.args, [], error.__dict__)


def _tried(form: Any, error: BaseException) -> bytes:
    pickled = dumps(form, is_for_parent=True)
    kind = type(_loaded(pickled, _members_of(error)))
    if kind is not type(error):
        raise TypeError(f"it unpickles as {kind.__qualname__}")
    return pickled


def _loaded(pickled: bytes, members: Sequence[BaseException]) -> BaseException:
    loaded = pickle.loads(pickled)  # noqa: S301 - From our own worker.
    if not isinstance(loaded, tuple):
        return loaded  # type: ignore[no-any-return]
    kind, message, arguments, places, attributes = loaded
    error: BaseException
    if message is None:
        error = kind.__new__(kind, *arguments)
    else:
        # Not with the constructor, which may take other arguments.
        error = BaseExceptionGroup.__new__(kind, message, members)
    set_args(error, tuple([*members] if place in places else value for place, value in enumerate(arguments)))
    error.__dict__.update(attributes)
    return error


def _unpack_one(record: _Packed, errors: dict[int, BaseException]) -> BaseException:
    reason = record.reason
    members = [errors[number] for number in record.members or ()]
    if record.missing:
        members.append(UnsentError(f"{record.missing} more exceptions", "", "there are too many to send"))
    if record.pickled is not None:
        try:
            return _loaded(record.pickled, members)
        except BaseException as problem:  # noqa: BLE001 - As in the worker, where it succeeded.
            reason = _text_of(problem)
    unsent = UnsentError(record.type_name, record.text, reason)
    return unsent if record.members is None else BaseExceptionGroup(str(unsent), members)


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
    """Whether a frame belongs to the machinery of workers, which is of no use to the user."""
    return str(frame.f_globals.get("__name__")).startswith(("remotemedia._", "cloudpickle."))


def _shortened(text: str) -> str:
    half = _MOST_TEXT // 2
    return text if len(text) <= _MOST_TEXT else f"{text[:half]}\n…\n{text[-half:]}"
