"""What `serve` needs from Python: a session, and its errors in a form for clients."""

from __future__ import annotations

from remotemedia._graph.options import session_settings
from remotemedia.exceptions import NodeError, PipelineError, SessionClosedError
from remotemedia.sessions import Session, open_session

TYPE_CHECKING = False  # That of `typing` costs its import.
if TYPE_CHECKING:
    from remotemedia._graph.graph import Graph


def open_service(graph: Graph) -> Session:
    """Initialize the nodes of a pipeline on threads of their own, for items from any thread.

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
    return open_session(Session, graph, settings | {"has_own_thread": True}, Opener())  # type: ignore[no-any-return]


def describe(error: BaseException) -> tuple[str, str, str, str | None]:
    """Return for an error of a call: whose fault it is, its class, its text and the node.

    An error of user code is described by the exception that the node has raised.
    """
    if isinstance(error, SessionClosedError):
        return "closed", type(error).__name__, "the service is closing", None
    if type(error) is NodeError and error.__cause__ is not None:
        cause = error.__cause__
        return "node", type(cause).__name__, str(cause), error.node_id
    node_id = error.node_id if isinstance(error, NodeError) else None
    return "node", type(error).__name__, str(error), node_id
