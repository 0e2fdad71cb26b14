"""Node objects as bytes for another process: `cleanup()`, cloudpickle; there, unpickle, `initialize()`.

What cannot be sent is named by its path inside the node: `client.lock`, `handlers[2]`, `cache['x']`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cloudpickle

from remotemedia._failures import node_error
from remotemedia._kinds import answer_kind
from remotemedia.core._graph import name_of
from remotemedia.exceptions import SerializationError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "MAX_SERIALIZED_SIZE_BYTES",
    "SerializationError",
    "check_sendable",
    "deserialize_node_from_ipc",
    "serialize_node_for_ipc",
    "validate_node_serializable",
]

MAX_SERIALIZED_SIZE_BYTES = 100 * 1024 * 1024
"""Larger nodes are refused: what is that large is better loaded in `initialize()`."""

_PROTOCOL = 5
_MAX_DEPTH = 50


def serialize_node_for_ipc(node: object) -> bytes:
    """Clean a node up and turn it into bytes. The object itself stays usable after its next `initialize()`.

    Raises:
        SerializationError: If something in it cannot be sent, or it is larger than
            `MAX_SERIALIZED_SIZE_BYTES`.
        NodeError: If its `cleanup()` raises.
    """
    _run_phase(node, "cleanup")
    try:
        data: bytes = cloudpickle.dumps(node, protocol=_PROTOCOL)
    except Exception as error:
        raise _blame(node, error) from error
    if len(data) > MAX_SERIALIZED_SIZE_BYTES:
        size, limit = (round(count / 1024**2, 1) for count in (len(data), MAX_SERIALIZED_SIZE_BYTES))
        raise SerializationError(
            f"Cannot serialize Node '{name_of(node)}': it takes {size} MiB, the limit is {limit} MiB."
            "\nSuggestion: Load large data in initialize() and release it in cleanup().",
            node_name=name_of(node),
            reason=f"it takes {size} MiB",
            suggestion="Load large data in initialize() and release it in cleanup().",
        )
    return data


def deserialize_node_from_ipc(data: bytes) -> Any:
    """The node that `serialize_node_for_ipc` made into bytes, initialized. Only for bytes of your own.

    Raises:
        SerializationError: If the bytes are no node.
        NodeError: If its `initialize()` raises.
    """
    try:
        node = cloudpickle.loads(data)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise SerializationError(f"Cannot deserialize a node: {reason}", reason=reason) from error
    _run_phase(node, "initialize")
    return node


def validate_node_serializable(node: object) -> bool:
    """Whether a node can be sent as it stands now, without the `cleanup()` that sending calls first."""
    try:
        check_sendable(node)
    except SerializationError:
        return False
    return True


def check_sendable(node: object) -> None:
    """Refuse a node that cannot be sent as it stands now.

    Raises:
        SerializationError: With the path of what is in the way.
    """
    error = _pickling_error(node)
    if error is not None:
        raise _blame(node, error) from error


def _run_phase(node: object, phase: str) -> None:
    method = getattr(node, phase, None)
    if not callable(method):
        return
    try:
        answer = method()
        if answer_kind(answer) == "coroutine":
            _run_beside(answer)
    except Exception as error:
        raise node_error(name_of(node), None, phase, error) from error


def _run_beside(coroutine: Any) -> None:
    """Run a coroutine to its end, also where an event loop is running already."""
    import asyncio
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, coroutine).result()


def _blame(node: object, error: BaseException) -> SerializationError:
    path, error = _find_culprit(node, "", error, set())
    name = name_of(node)
    release = f" and release '{path}' there" if path else ""
    suggestion = f"Call node.cleanup() before serialization{release}; initialize() can make it again."
    reason = f"{type(error).__name__}: {error}"
    if path:
        return SerializationError(node_name=name, attribute=path, reason=reason, suggestion=suggestion)
    message = f"Cannot serialize Node '{name}': the object is not serializable."
    message += f"\nSuggestion: {suggestion}\nReason: {reason}"
    return SerializationError(message, node_name=name, reason=reason, suggestion=suggestion)


def _find_culprit(
    value: object, path: str, error: BaseException, seen: set[int]
) -> tuple[str, BaseException]:
    """The innermost part of `value` that does not pickle, and its error."""
    seen.add(id(value))
    if len(seen) <= _MAX_DEPTH:
        for place, part in _parts(value, path):
            if id(part) not in seen:
                part_error = _pickling_error(part)
                if part_error is not None:
                    return _find_culprit(part, place, part_error, seen)
    return path, error


def _parts(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield f"{path}[{key!r}]", item
    elif isinstance(value, (list, tuple, set, frozenset)):
        for index, item in enumerate(value):
            yield f"{path}[{index}]", item
    elif not isinstance(value, type):
        for name, item in _state_of(value):
            yield f"{path}.{name}" if path else name, item


def _state_of(value: Any) -> list[tuple[str, Any]]:
    """The attributes that pickle would send."""
    try:
        reduced = value.__reduce_ex__(_PROTOCOL)
    except Exception:  # noqa: BLE001 - Then the object itself is what does not pickle.
        return []
    state = reduced[2] if isinstance(reduced, tuple) and len(reduced) > 2 else None  # noqa: PLR2004 - The state.
    dicts = state if isinstance(state, tuple) else (state,)
    return [(str(name), item) for part in dicts if isinstance(part, dict) for name, item in part.items()]


def _pickling_error(value: object) -> BaseException | None:
    try:
        # Large buffers are only looked at, not copied.
        cloudpickle.Pickler(_Nowhere(), protocol=_PROTOCOL, buffer_callback=lambda _: None).dump(value)
    except Exception as error:  # noqa: BLE001 - Whatever it is, the value cannot be sent.
        return error
    return None


class _Nowhere:
    """A file that keeps nothing."""

    def write(self, data: bytes) -> int:
        return len(data)
