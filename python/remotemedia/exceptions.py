"""Every error that RemoteMedia raises on purpose.

All of them derive from `RemoteMediaError`, and most also from the built-in error that a caller would expect.
They can be pickled and copied, with their attributes. An exception of user code is never replaced: it is the
`__cause__` of a `NodeError`.
"""

from __future__ import annotations

TYPE_CHECKING = False  # That of `typing` costs its import.
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
    """A pipeline, its input or an option is invalid. No method of a node has been called."""


class ManifestError(PipelineError):
    """A manifest is invalid, or names something that does not exist.

    Attributes:
        path: The path inside the manifest, such as `nodes[1].node_type`.
        line: The line of the text, starting at 1, or `None` if it is not known.
    """

    def __init__(self, message: str = "", *, path: str | None = None, line: int | None = None) -> None:
        """Create an error with the location of the mistake."""
        super().__init__(message)
        self.path = path
        self.line = line


class NodeError(RemoteMediaError, RuntimeError):
    """The code of a node raised an exception, which is the `__cause__`.

    Attributes:
        node_id: The id of the node in its pipeline.
        item_index: The index of the input item, starting at 0; `None` outside of `process`.
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
        """Create an error with the node, the item and the phase."""
        super().__init__(message)
        self.node_id = node_id
        self.item_index = item_index
        self.phase = phase


class NodeTimeoutError(NodeError, TimeoutError):
    """A node exceeded its time limit, or did not return when its session closed."""

    def __new__(cls, *args: Any, **_fields: Any) -> NodeTimeoutError:  # noqa: PYI034 - Self is the exact type here
        """Create the object with the layout of `TimeoutError`."""
        return TimeoutError.__new__(cls, *args)


class SessionInterruptedError(RemoteMediaError):
    """The session was interrupted while the item was in progress, and dropped it."""


class SessionClosedError(RemoteMediaError):
    """The session is closed, or was closed while the item was in progress."""


class WorkerError(NodeError):
    """The worker process of a node died, so that its item or its session failed.

    Attributes:
        signal: The name of the signal that ended the worker, such as `SIGSEGV`, else `None`.
        exit_code: Its exit code if it exited by itself, else `None`.
        stderr: The last lines that it wrote to standard error. After a crash in an extension, they contain
            the Python stack.
    """

    signal: str | None = None
    exit_code: int | None = None
    stderr: str = ""


class SerializationError(RemoteMediaError, TypeError):
    """A node cannot be converted to bytes or to a manifest.

    Attributes:
        node_name: The name of the node.
        attribute: The path of the part that cannot be sent: `client.lock`, `handlers[2]`, `cache['x']`.
        reason: Why it cannot be sent.
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
        """Create an error; without a `message`, its text is built from the other arguments."""
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
    # With a cause that can be pickled but not unpickled, this error could not be unpickled, either.
    import pickle

    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - Pickled here.
    except Exception:  # noqa: BLE001 - The cause is dropped.
        return False
    return True
