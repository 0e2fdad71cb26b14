"""The engine of RemoteMedia, in Rust. The package calls it; its users call the package."""

import asyncio
from collections.abc import Callable
from typing import Any, final

from remotemedia.core._graph import Graph

__all__ = ["Call", "__version__", "draw", "main", "parse_manifest", "run", "start"]

__version__: str

@final
class Call:
    """A run on a thread of its own."""

    @property
    def thread_id(self) -> int:
        """The identity of the thread, as in `threading.get_ident()`; 0 before it has started."""

    def cancel(self) -> None:
        """Ask the run to stop. It cleans its nodes up and answers all the same."""

    def join(self) -> None:
        """Wait for the end of the thread, which has answered already."""

def start(
    graph: Graph,
    feed: Any,
    event_loop: asyncio.AbstractEventLoop,
    deliver: Callable[[Any, dict[str, Any] | None], None],
    enable_metrics: bool,
) -> Call:
    """Run a graph on a thread of its own and deliver the outcome on an event loop.

    `deliver(outcome, metrics)` gets the list of outputs, or the exception that ended the run.
    """

def run(graph: Graph, feed: Any, enable_metrics: bool) -> tuple[list[Any], dict[str, Any] | None]:
    """Run a graph on this thread; its coroutines run on an event loop of the run's own."""

def parse_manifest(text: str) -> dict[str, Any]:
    """Parse and check a manifest, JSON or YAML.

    Returns:
        `{"name", "nodes", "connections", "ignored"}`, where a node is
        `{"id", "node_type", "params", "options", "join", "node_type_line", "params_line"}`.

    Raises:
        ManifestError: With the line and path of the place.
    """

def draw(graph: Graph, format: str) -> str:  # noqa: A002 - the word of the command line
    """Draw a graph as `text`, `mermaid`, `dot` or `svg`."""

def main(arguments: list[str]) -> int:
    """Run the command line and return its exit code."""
