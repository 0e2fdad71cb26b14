"""The engine of RemoteMedia, in Rust. The package calls it; its users call the package."""

import asyncio
import threading
from collections.abc import Callable, Iterable
from typing import Any, Self, final

from typing_extensions import disjoint_base

from remotemedia._graph.graph import Graph

__all__ = [
    "STACK_SIGNAL",
    "Call",
    "Callers",
    "DirectMap",
    "ManifestOrder",
    "Opener",
    "OutputStream",
    "ParsedManifest",
    "SessionCore",
    "Ticket",
    "Waiting",
    "__version__",
    "be_fork",
    "did_you_mean",
    "draw",
    "is_at_work",
    "is_lazy",
    "main",
    "parse_manifest",
    "run",
    "serve_worker",
    "start",
]

__version__: str

STACK_SIGNAL: int
"""At this signal a worker writes the Python stacks of its threads to its standard error stream."""

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

    def ends_within(self, seconds: float) -> bool:
        """Wait for the end of the thread for so long at the most; whether it has ended."""

@final
class Opener:
    """The opening of a session, from any thread."""

    def __new__(cls, event_loop: asyncio.AbstractEventLoop | None = None) -> Self:
        """Open on the running loop that coroutines are to run on; without one the session has its own."""

    def cancel(self) -> None:
        """Cancel the coroutine that initializes a node, and those of nodes after it."""

@disjoint_base
class SessionCore:
    """An open pipeline: what `remotemedia.sessions` builds its two types on. Any thread may use it."""

    def __new__(
        cls,
        graph: Graph,
        settings: dict[str, Any],
        opener: Opener,
        on_news: Callable[[], object] | None = None,
    ) -> Self:
        """Initialize the nodes of a graph.

        Args:
            graph: A checked graph.
            settings: `enable_metrics`, `queue_size` and `stall_warning`, all three.
            opener: Says where coroutines run, and can end the opening.
            on_news: Called when the stream of `put` has something new since it was last looked at; on the
                event loop, if the opener has one. It must not wait.

        Raises:
            NodeError: If a node fails to initialize. Those before it have been cleaned up.
        """

    def call(self, item: Any) -> Any:
        """Process one item and return its outputs: `None`, the only output, or a list of several.

        Raises:
            NodeError: If a node fails on the item.
            SessionInterruptedError: If the session was interrupted during the call.
            SessionClosedError: If the session is closed.
        """

    def check_takes_items(self) -> None:
        """Refuse items for a pipeline that makes its own.

        Raises:
            PipelineError: If the pipeline starts with a source.
        """

    def check_outside(self, word: str) -> None:
        """Refuse what would wait for ever for the node that asks for it.

        Raises:
            PipelineError: If a node of the session waits for the code that runs now.
        """

    def begin_wait(self, word: str) -> Waiting | None:
        """The same for a wait that goes on: keep what this answers for as long.

        Raises:
            PipelineError: As `check_outside`, or if it would wait for itself by way of other pipelines.
        """

    @property
    def is_direct(self) -> bool:
        """Whether calls run on the caller's own thread, without a queue."""

    @property
    def has_ended(self) -> bool:
        """Whether it takes no more items: it is closed, or a call that cannot be stopped has ended it."""

    @property
    def capacity(self) -> int:
        """How many inputs can be under way at once."""

    def start_call(self, item: Any, done: Callable[[Any, BaseException | None], object]) -> Ticket:
        """Begin with an item; `done(answer, error)` is called at its end, on the event loop."""

    def check_ticket(self, ticket: Ticket) -> None:
        """Look again whether the call of a node can end.

        Raises:
            PipelineError: If it waits for itself, by way of other pipelines.
        """

    def abandon(self, ticket: Ticket) -> bool:
        """Nobody waits for this call any more. Whether a node is still at it, and has to be told again."""

    def start_source(self) -> None:
        """Let the source run, on a thread of its own, into the stream of iteration."""

    def drop_all(
        self, stop: threading.Event | None = None, is_silent: Callable[[int], object] | None = None
    ) -> int:
        """Drop what is queued and under way, and return how many inputs that were.

        Waits for the `process` calls that are running; Ctrl-C ends the wait, and so does `stop`.
        `is_silent` is called with the number on the event loop, if the opener has one, before others are told
        that their items were dropped.

        Raises:
            PipelineError: If a node of the session waits for the code that runs now.
        """

    def wait_until_drained(
        self, stop: threading.Event | None = None, *, make_room: Callable[[], object]
    ) -> None:
        """Wait until all that went in has come out; Ctrl-C ends the wait.

        `make_room` is called now and then, for outputs that nobody takes.
        """

    def metrics(self) -> dict[str, Any] | None:
        """The figures so far; `None` if the session was opened without `enable_metrics`."""

    def break_off(self) -> None:
        """What workers are at when the session closes is broken off, by `KeyboardInterrupt` in them."""

    def leave_to_parent(self) -> None:
        """In a fork of the process that has opened it: it is closed here, and stays the other one's."""

    def shut_down(self, timeout: float) -> list[tuple[str, int | None, str, int]]:
        """Stop and clean up within `timeout` seconds.

        Returns:
            `(node id, item index, phase, thread)` of each call that did not come back and was left behind.

        Raises:
            NodeError: If a node failed to clean up.
        """

@final
class OutputStream:
    """The outputs of the items that one stream puts in, in order."""

    @staticmethod
    def open(
        core: SessionCore,
        capacity: int,
        on_news: Callable[[], object] | None = None,
        *,
        counts_own_items: bool = False,
    ) -> OutputStream:
        """A stream with outputs of its own, of which `capacity` may wait; `on_news` as for the session.

        With `counts_own_items` an error has the index of its item in this stream, not that in the session.
        """

    @staticmethod
    def main(core: SessionCore) -> OutputStream:
        """The stream of `put` and iteration."""

    def put(self, item: Any) -> bool | asyncio.Future[bool]:
        """Put an item in without waiting; for sessions of an event loop alone.

        Returns:
            Whether it is in, where that is known at once. Otherwise what tells it as soon as there is room:
            `False` says that the session has closed.
        """

    def offer(self, item: Any) -> bool:
        """Put an item in without waiting for room: `is_held_up` tells whether it waits.

        `False` if the session has closed.
        """

    @property
    def is_held_up(self) -> bool:
        """Whether the item put in last waits for room."""

    def put_and_wait(self, item: Any, is_taken: Callable[[], bool] | None) -> bool:
        """Put an item in and wait until it is; `False` if the session has closed.

        With `is_taken`, where nodes run on the threads that call, it is taken through them here. `is_taken`
        tells whether another thread takes outputs, and is to be waited for where they find no room. Without
        it a thread of the session runs the nodes from now on.
        """

    def end(self, is_taken: Callable[[], bool] | None = None) -> None:
        """No more items come: the nodes are flushed, with `is_taken` as by `put_and_wait`."""

    @property
    def has_news(self) -> bool:
        """Whether `next` has something to say without waiting."""

    @property
    def load(self) -> int:
        """How many inputs are under way, and outputs not taken."""

    @property
    def taken_by(self) -> int:
        """The thread that has asked for an output last, 0 if none has."""

    def next(self, timeout: float) -> tuple[int, Any]:
        """What there is within so many seconds.

        Returns:
            `(0, None)` for nothing, `(1, output)`, or `(2, None)` at the end.

        Raises:
            NodeError: If an item failed. The outputs before it were given.
            SessionClosedError: If the session has closed.
        """

    def set_overflow(self, overflow: str) -> None:
        """Choose what happens to outputs for which there is no room: "wait", "keep", or "drop" all."""

    def raise_failure(self) -> None:
        """Raise the first failure that nobody has heard of."""

    def abandon(self) -> bool:
        """Take no more, and drop what is under way. Whether a node is still at it, as for a call."""

@final
class DirectMap:
    """A stream on the caller's own thread: an item is read when an output is asked for."""

    def __new__(cls, core: SessionCore, items: Iterable[Any]) -> Self:
        """Take items through on the thread that asks for outputs; for direct sessions alone."""

    def __iter__(self) -> Self:
        """This iterator itself."""

    def close(self) -> None:
        """Take no more; items that were read and outputs that were not taken are dropped."""

    def __next__(self) -> Any:
        """The next output.

        Raises:
            NodeError: If a node fails.
            StopIteration: After the outputs of `flush`.
        """

@final
class Ticket:
    """Names a call that is under way, for `SessionCore.abandon`."""

    @property
    def is_of_node(self) -> bool:
        """Whether a node waits for it, so that it might wait for itself."""

@final
class Callers:
    """The calls of nodes that wait for what is done in a context."""

    def __new__(cls) -> Self:
        """Nobody waits yet."""

    def settle(self) -> None:
        """Be in the context of this task from now on."""

    def follow(self) -> None:
        """Hold those that wait for the code that runs now."""

    def clear(self) -> None:
        """Nobody waits any more."""

@final
class Waiting:
    """Calls of nodes wait for as long as this lives."""

@final
class ManifestOrder:
    """How the nodes of a checked manifest depend on each other."""

@final
class ParsedManifest:
    """A checked manifest. Its nodes are asked for one by one."""

    @property
    def name(self) -> str:
        """The name of the pipeline."""

    @property
    def ignored(self) -> list[str]:
        """The paths of fields that have no effect."""

    @property
    def order(self) -> ManifestOrder:
        """How the nodes depend on each other."""

    def __len__(self) -> int:
        """The number of nodes."""

    def node(self, index: int) -> tuple[str, str, dict[str, Any], dict[str, Any], bool]:
        """Id, type, arguments, options and join."""

    def upstreams(self, index: int) -> list[int]:
        """The positions of the nodes that a node comes after."""

    def line_of(self, index: int, field: str) -> int:
        """The line of `node_type` or `params` of a node."""

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

def parse_manifest(text: str) -> ParsedManifest:
    """Parse and check a manifest, JSON or YAML.

    Raises:
        ManifestError: With the line and path of the place.
    """

def draw(graph: Graph, format: str) -> str:  # noqa: A002 - the word of the command line
    """Draw a graph as `text`, `mermaid`, `dot` or `svg`."""

def did_you_mean(name: str, candidates: Iterable[str]) -> str:
    """The end of an error text: `; did you mean 'x'?`, or nothing."""

def is_lazy(answer: object) -> bool:
    """Whether an answer of a node is a generator, a coroutine or another one that has yet to run."""

def main(arguments: list[str]) -> int:
    """Run the command line and return its exit code."""

def is_at_work() -> bool:
    """Whether this is a worker whose nodes work on items: the call under way can be broken off then."""

def be_fork() -> None:
    """Tell a process that it is a fork of a worker: it leaves where a node comes back."""

def serve_worker() -> None:
    """Be a worker, on the socket that is the standard input, until the parent says so or is gone.

    Raises:
        OSError: If there is no parent at the other end.
    """
