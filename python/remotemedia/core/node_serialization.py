"""Converts nodes to bytes for another process, and back.

A node is cleaned up and pickled; the other process unpickles and initializes it.

Errors contain the path of the part that cannot be sent: `client.lock`, `handlers[2]`, `cache['x']`.
"""

from __future__ import annotations

import io
import pickle
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from remotemedia._errors import node_error
from remotemedia._graph.constructor_args import arguments_to_keep
from remotemedia._graph.graph import name_of
from remotemedia._graph.node_kinds import return_kind
from remotemedia._workers.diagnosis import NOWHERE, Diagnosis
from remotemedia._workers.pickling import dump_into, dumps, is_reduced_by_default
from remotemedia.exceptions import SerializationError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    BufferCallback = Callable[[Any], object]

__all__ = [
    "MAX_SERIALIZED_SIZE_BYTES",
    "SerializationError",
    "are_sendable",
    "check_sendable",
    "deserialize_node_from_ipc",
    "pack_nodes",
    "serialize_node_for_ipc",
    "validate_node_serializable",
]

MAX_SERIALIZED_SIZE_BYTES = 100 * 1024 * 1024
"""Larger nodes are rejected; load large data in `initialize()` instead."""


def serialize_node_for_ipc(node: object) -> bytes:
    """Clean up a node and convert it to bytes. The object can be used again after its next `initialize()`.

    Raises:
        SerializationError: If a part of it cannot be sent, or it is larger than
            `MAX_SERIALIZED_SIZE_BYTES`.
        NodeError: If its `cleanup()` raises.
    """
    _run_phase(node, "cleanup")
    with io.BytesIO() as file:
        diagnosis = dump_into(file, node)
        if diagnosis is not None:
            raise _blame(node, diagnosis) from diagnosis.error
        data = file.getvalue()
    if len(data) > MAX_SERIALIZED_SIZE_BYTES:
        size, limit = (round(count / 1024**2, 1) for count in (len(data), MAX_SERIALIZED_SIZE_BYTES))
        raise SerializationError(
            f"Cannot serialize Node '{name_of(node)}': its size is {size} MiB, and the limit is {limit} MiB."
            "\nSuggestion: Load large data in initialize() and release it in cleanup().",
            node_name=name_of(node),
            reason=f"its size is {size} MiB",
            suggestion="Load large data in initialize() and release it in cleanup().",
        )
    return data


def deserialize_node_from_ipc(data: bytes) -> Any:
    """Restore and initialize a node from `serialize_node_for_ipc`. Use it only for bytes that you created.

    Raises:
        SerializationError: If the bytes are not a node.
        NodeError: If its `initialize()` raises.
    """
    try:
        node = pickle.loads(data)  # noqa: S301 - As documented.
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise SerializationError(f"Cannot deserialize a node: {reason}", reason=reason) from error
    _run_phase(node, "initialize")
    return node


def pack_nodes(
    nodes: Sequence[tuple[str, object]], make_buffer_callback: Callable[[], BufferCallback]
) -> tuple[bytes, BufferCallback]:
    """Pickle the nodes of a worker in one list, so that shared objects stay shared.

    Initialized nodes are cleaned up first. Other nodes are cleaned up only if something cannot be sent,
    because their `cleanup()` may release it.

    Args:
        nodes: The nodes, each with its id.
        make_buffer_callback: Creates the callback for large buffers, which are not in the pickle.

    Returns:
        The pickle, and the callback with its buffers.

    Raises:
        SerializationError: If something in one of them cannot be sent.
        NodeError: If a `cleanup()` raises.
    """
    objects = [node for _, node in nodes]
    others = [entry for entry in nodes if getattr(entry[1], "is_initialized", False) is not True]
    for node_id, node in nodes:
        if getattr(node, "is_initialized", False) is True:
            _run_phase(node, "cleanup", node_id)
    buffers = make_buffer_callback()
    with suppress(Exception):  # The cause is determined below.
        return dumps(objects, buffers), buffers
    for node_id, node in others:
        _run_phase(node, "cleanup", node_id)
    buffers = make_buffer_callback()
    with io.BytesIO() as file:
        diagnosis = dump_into(file, objects, buffers)
        if diagnosis is None:
            return file.getvalue(), buffers
    # The path starts with the index in the list.
    index, _, path = diagnosis.path.removeprefix("[").partition("]")
    node = nodes[int(index or 0)][1]
    raise _blame(node, diagnosis._replace(path=path.removeprefix("."))) from diagnosis.error


def validate_node_serializable(node: object) -> bool:
    """Return whether a node can be sent as it is, without the `cleanup()` that sending calls first."""
    try:
        check_sendable(node)
    except SerializationError:
        return False
    return True


def check_sendable(node: object) -> None:
    """Reject a node that cannot be sent in its current state.

    Raises:
        SerializationError: The error contains the path of the part that cannot be sent.
    """
    diagnosis = dump_into(NOWHERE, node, buffer_callback=lambda _: None)
    if diagnosis is not None:
        raise _blame(node, diagnosis) from diagnosis.error


def are_sendable(nodes: list[object]) -> bool:
    """Whether all of these nodes can be sent in their current state; faster than one check for each."""
    return dump_into(NOWHERE, _differing_parts(nodes), buffer_callback=lambda _: None) is None


def _differing_parts(nodes: list[object]) -> list[object]:
    """Return objects that can be pickled if and only if all of the nodes can.

    Of each class, one node is enough, and the attributes and recorded arguments of the others: the calls that
    reduce a node take longer than pickling what it consists of.
    """
    parts: list[object] = []
    reduced: dict[type, bool] = {}
    for node in nodes:
        kind = type(node)
        if reduced.get(kind):
            parts.append(object.__getstate__(node))
            arguments = arguments_to_keep(node)
            if arguments is not None:
                parts.append(arguments)
            continue
        if kind not in reduced:
            reduced[kind] = is_reduced_by_default(kind)
        parts.append(node)
    return parts


def _run_phase(node: object, phase: str, node_id: str | None = None) -> None:
    method = getattr(node, phase, None)
    if not callable(method):
        return
    try:
        result = method()
        if return_kind(result) == "coroutine":
            _run_beside(result)
    except Exception as error:
        raise node_error(node_id or name_of(node), None, phase, error) from error


def _run_beside(coroutine: Any) -> None:
    """Run a coroutine to its end, even if an event loop is already running."""
    import asyncio
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, coroutine).result()


def _blame(node: object, diagnosis: Diagnosis) -> SerializationError:
    name = name_of(node)
    release = f" and release '{diagnosis.path}' there" if diagnosis.path else ""
    suggestion = f"Call node.cleanup() before serialization{release}; initialize() can create it again."
    if diagnosis.is_of_code:
        # `cleanup()` of the object cannot release it.
        suggestion = (
            "Create it in initialize(), or move the code that uses it to a module that the worker can import:"
            " imported code is sent by name."
        )
    reason = diagnosis.reason
    if diagnosis.path:
        return SerializationError(
            node_name=name, attribute=diagnosis.path, reason=reason, suggestion=suggestion
        )
    message = f"Cannot serialize Node '{name}': the object is not serializable."
    message += f"\nSuggestion: {suggestion}\nReason: {reason}"
    return SerializationError(message, node_name=name, reason=reason, suggestion=suggestion)
