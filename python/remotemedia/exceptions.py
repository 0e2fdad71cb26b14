"""Every error that RemoteMedia raises on purpose.

All derive from `RemoteMediaError`, and each also from the built-in error that a caller would expect. All
survive pickling and copying with their attributes. What user code raises is never replaced: it is the
`__cause__` of a `NodeError`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

__all__ = [
    "ManifestError",
    "NodeError",
    "NodeTimeoutError",
    "PipelineError",
    "RemoteMediaError",
    "SerializationError",
    "SessionClosedError",
    "SessionInterruptedError",
    "WorkerError",
]


class RemoteMediaError(Exception):
    """Base of all errors of RemoteMedia."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Rebuild from type, arguments and attributes, without calling `__init__`."""
        state = dict(self.__dict__)
        if self.__cause__ is not None and _survives_pickling(self.__cause__):
            state["__cause__"] = self.__cause__
        return _rebuild, (type(self), self.args), state


class PipelineError(RemoteMediaError, ValueError):
    """A pipeline, its input or its options cannot run. No node has been touched."""


class ManifestError(PipelineError):
    """A text is no manifest, or names what does not exist.

    Attributes:
        path: The place inside the manifest, such as `nodes[1].node_type`.
        line: The line of the text, counted from 1, where it is known.
    """

    def __init__(self, message: str = "", *, path: str | None = None, line: int | None = None) -> None:
        """Say what is wrong, and where."""
        super().__init__(message)
        self.path = path
        self.line = line


class NodeError(RemoteMediaError, RuntimeError):
    """The code of a node raised. `__cause__` is what it raised.

    Attributes:
        node_id: The id of the node in its pipeline.
        item_index: Which input item it was about, counted from 0; `None` outside of items.
        phase: `initialize`, `process`, `flush` or `cleanup`.
    """

    def __init__(
        self,
        message: str = "",
        *,
        node_id: str = "",
        item_index: int | None = None,
        phase: str = "process",
    ) -> None:
        """Say which node failed, and where."""
        super().__init__(message)
        self.node_id = node_id
        self.item_index = item_index
        self.phase = phase


class NodeTimeoutError(NodeError, TimeoutError):
    """A node took longer than it may."""

    def __new__(cls, *args: Any, **_fields: Any) -> NodeTimeoutError:  # noqa: PYI034 - Self is the exact type here
        """Make the object as `TimeoutError` does, whose layout it has."""
        return TimeoutError.__new__(cls, *args)


class SessionInterruptedError(RemoteMediaError):
    """The session was interrupted while the item was under way, and dropped it."""


class SessionClosedError(RemoteMediaError):
    """The session is closed, or was closed while the item was under way."""


class WorkerError(NodeError):
    """The process in which a node ran has died, and its item or its session with it.

    Attributes:
        signal: The name of the signal that ended it, such as `SIGSEGV`, else `None`.
        exit_code: Its exit code, if it ended by itself, else `None`.
        stderr: The last lines that it wrote to its standard error stream. After a crash in an extension the
            Python stack is among them.
    """

    signal: str | None = None
    exit_code: int | None = None
    stderr: str = ""


class SerializationError(RemoteMediaError, TypeError):
    """A node cannot be turned into bytes or into a manifest.

    Attributes:
        node_name: The name of the node.
        attribute: What cannot be sent, as a dotted path: `client.lock`, `handlers[2]`, `cache['x']`.
        reason: Why it cannot.
        suggestion: What to do.
    """

    def __init__(
        self,
        message: str | None = None,
        *,
        node_name: str = "",
        attribute: str = "",
        reason: str = "",
        suggestion: str = "",
    ) -> None:
        """Say what cannot be sent; without a `message` it is made of the other arguments."""
        if message is None:
            message = f"Cannot serialize Node '{node_name}': attribute '{attribute}' is not serializable."
            message += f"\nSuggestion: {suggestion}" if suggestion else ""
            message += f"\nReason: {reason}" if reason else ""
        super().__init__(message)
        self.node_name = node_name
        self.attribute = attribute
        self.reason = reason
        self.suggestion = suggestion


def _rebuild(kind: type[RemoteMediaError], arguments: tuple[Any, ...]) -> RemoteMediaError:
    error = kind.__new__(kind, *arguments)
    error.args = arguments
    return error


def _survives_pickling(error: BaseException) -> bool:
    # An exception that pickles but does not unpickle would take this one down with it.
    import pickle

    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    except Exception:  # noqa: BLE001 - whatever it is, the cause stays behind
        return False
    return True
