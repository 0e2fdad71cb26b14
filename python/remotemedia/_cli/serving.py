"""What `serve` needs from Python: a session, and its errors in a form for clients."""

from __future__ import annotations

from remotemedia._graph.factories import with_nodes
from remotemedia._graph.graph import is_factory
from remotemedia._graph.options import session_settings
from remotemedia.exceptions import NodeError, PipelineError, SessionClosedError
from remotemedia.sessions import Session, open_session

TYPE_CHECKING = False  # That of `typing` costs its import.
if TYPE_CHECKING:
    from collections.abc import Callable

    from remotemedia._core import Opener
    from remotemedia._graph.graph import Graph

_FLAGS = ("insecure", "session_per_connection")
"""Options without a value."""


def open_service(
    graph: Graph,
    observes_calls: bool,  # noqa: FBT001 - Called from Rust.
    new_opener: Callable[[], Opener] | None = None,
) -> Session:
    """Initialize the nodes of a pipeline on threads of their own, for items from any thread.

    Args:
        graph: The checked pipeline.
        observes_calls: Whether each step of a node at the item of a call is reported to the service.
        new_opener: Makes the opener, which may have an event loop for coroutines. By default, the session has
            its own.

    Raises:
        PipelineError: If the pipeline makes its own items.
        NodeError: If a node fails.
    """
    from remotemedia._core import Opener

    if graph.source is not None:
        raise PipelineError(
            f"Pipeline '{graph.name}' starts with a source, and takes no items; "
            "use 'run', which needs no input"
        )
    settings, _ = session_settings({"enable_metrics": True})
    settings |= {"has_own_thread": True, "observes_calls": observes_calls}
    opener = Opener() if new_opener is None else new_opener()
    return open_session(Session, with_nodes(graph), settings, opener)  # type: ignore[no-any-return]


def refusal(text: str) -> PipelineError:
    """Return the error for options that are refused, with their names in Python."""
    import re

    def name_of(option: re.Match[str]) -> str:
        name = option[1].replace("-", "_")
        return f"{name}=True" if name in _FLAGS else name

    written = re.sub(r"--([a-z]+(?:-[a-z]+)*)(?: <?[A-Z_]+>?)?", name_of, text)
    return PipelineError(written if text.startswith("--") else written[:1].upper() + written[1:])


def has_own_nodes(graph: Graph) -> bool:
    """Return whether each session makes nodes of its own, from a class or a function."""
    return any(is_factory(entry.node) for entry in graph.entries)


def describe(error: BaseException) -> tuple[str, str, str, str | None, str | None]:
    """Return for an error of a call: whose fault it is, its class, its text, the node, and the traceback.

    An error of user code is described by the exception that the node has raised, and the traceback is the
    part of it that lies in user code.
    """
    if isinstance(error, SessionClosedError):
        return "closed", type(error).__name__, "the service is closing", None, None
    from remotemedia._cli.error_report import explain

    users = explain(error).users_traceback or None
    if type(error) is NodeError and error.__cause__ is not None:
        cause = error.__cause__
        return "node", type(cause).__name__, str(cause), error.node_id, users
    node_id = error.node_id if isinstance(error, NodeError) else None
    return "node", type(error).__name__, str(error), node_id, users
