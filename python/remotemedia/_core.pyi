"""The engine of RemoteMedia, in Rust. It is internal to the package."""

import asyncio
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Self, final

from typing_extensions import disjoint_base

from remotemedia._graph.graph import Graph
from remotemedia._serving import Host

__all__ = [
    "CLOSE_TIMEOUT_SECS",
    "DEFAULT_QUEUE_SIZE",
    "LONGEST_RETRY_DELAY_SECS",
    "LONGEST_SECS",
    "STACK_SIGNAL",
    "Call",
    "Callers",
    "ChunkItems",
    "DirectMap",
    "LoopCall",
    "LoopMetrics",
    "LoopStage",
    "ManifestOrder",
    "Opener",
    "OutputStream",
    "ParsedManifest",
    "SessionCore",
    "StreamFeed",
    "Ticket",
    "Waiting",
    "__version__",
    "be_fork",
    "check_stages",
    "did_you_mean",
    "draw",
    "is_at_work",
    "is_lazy",
    "main",
    "option_problem",
    "parse_manifest",
    "run",
    "serve",
    "serve_worker",
    "start",
]

__version__: str

CLOSE_TIMEOUT_SECS: float
"""How long a session or a run may take to close before nodes that have not returned are abandoned."""

DEFAULT_QUEUE_SIZE: int
"""How many items may wait before a stage, unless an option says otherwise."""

LONGEST_RETRY_DELAY_SECS: float
"""The longest pause before a retry."""

LONGEST_SECS: float
"""The longest time that an option accepts."""

STACK_SIGNAL: int
"""On this signal, a worker writes the Python stacks of its threads to its standard error stream."""

@final
class Call:
    """A run on a separate thread."""

    @property
    def thread_id(self) -> int:
        """The identity of the thread, as in `threading.get_ident()`; 0 before it has started."""

    def cancel(self) -> None:
        """Request the run to stop. It cleans up its nodes and still reports a result."""

    def join(self) -> None:
        """Wait for the end of the thread, which has already reported the result."""

    def ends_within(self, seconds: float) -> bool:
        """Wait at most this long for the end of the thread; return whether it has ended."""

@final
class Opener:
    """Opens a session; may be used from any thread."""

    def __new__(cls, event_loop: asyncio.AbstractEventLoop | None = None) -> Self:
        """Use this running loop for coroutines; without it, the session has its own loop."""

    def cancel(self) -> None:
        """Cancel the coroutine that initializes a node, and those of later nodes."""

@disjoint_base
class SessionCore:
    """An open pipeline, the base of both kinds of sessions. Any thread may use it."""

    def __new__(
        cls,
        graph: Graph,
        settings: dict[str, Any],
        opener: Opener,
        on_output: Callable[[], object] | None = None,
    ) -> Self:
        """Initialize the nodes of a graph.

        Args:
            graph: A checked graph.
            settings: All session settings, such as `enable_metrics`, `queue_size` and `stall_warning`.
            opener: Has the event loop for coroutines, and can cancel the opening.
            on_output: Called when the stream of `put` has changed since it was last read; on the event loop,
                if the opener has one. It must not wait.

        Raises `NodeError` if a node fails to initialize. Earlier nodes have been cleaned up.
        """

    def call(self, item: Any) -> Any:
        """Process one item and return its outputs: `None`, the only output, or a list of several.

        Raises:
            NodeError: If a node fails on the item.
            SessionInterruptedError: If the session was interrupted during the call.
            SessionClosedError: If the session is closed.
        """

    def check_takes_items(self) -> None:
        """Reject items for a pipeline with a source.

        Raises `PipelineError` if the pipeline starts with a source.
        """

    def check_outside(self, word: str) -> None:
        """Reject a call that would wait for the node that makes it.

        Raises `PipelineError` if a node of the session waits for the current code.
        """

    def begin_wait(self, word: str) -> Waiting | None:
        """Start a wait; keep the returned object until it ends.

        Raises:
            PipelineError: As `check_outside`, or if it would wait for itself through other pipelines.
        """

    @property
    def is_direct(self) -> bool:
        """Whether calls run on the calling thread, without a queue."""

    @property
    def has_ended(self) -> bool:
        """Whether it accepts no more items: it is closed, or a call that cannot be stopped timed out."""

    @property
    def capacity(self) -> int:
        """The maximum number of inputs in progress."""

    def start_call(self, item: Any, done: Callable[[Any, BaseException | None], object]) -> Ticket:
        """Start to process an item; `done(result, error)` is called at its end, on the event loop."""

    def check_ticket(self, ticket: Ticket) -> None:
        """Check again whether the call of a node can end.

        Raises `PipelineError` if it waits for itself through other pipelines.
        """

    def abandon(self, ticket: Ticket) -> bool:
        """Drop a call; return whether a node still processes it, so that this must be called again."""

    def start_source(self) -> None:
        """Start the source on a separate thread; its outputs are in the main stream."""

    def drop_all(
        self, stop: threading.Event | None = None, is_silent: Callable[[int], object] | None = None
    ) -> int:
        """Drop all items that are queued or in progress, and return the number of their inputs.

        Waits for running `process` calls; Ctrl-C or `stop` ends the wait. `is_silent` is called with the
        number on the event loop, if the opener has one, before clients are notified of dropped items.

        Raises `PipelineError` if a node of the session waits for the current code.
        """

    def wait_until_drained(
        self, stop: threading.Event | None = None, *, make_room: Callable[[], object]
    ) -> None:
        """Wait until all items have been processed; Ctrl-C ends the wait.

        `make_room` is called regularly, for outputs without a reader.
        """

    def metrics(self) -> dict[str, Any] | None:
        """Return the current metrics; `None` if the session was opened without `enable_metrics`."""

    def cancel_calls(self) -> None:
        """Interrupt the calls of workers with `KeyboardInterrupt` when the session closes."""

    def leave_to_parent(self) -> None:
        """Mark the session as closed in a fork of the process that has opened it."""

    def shut_down(self, timeout: float) -> list[tuple[str, int | None, str, int]]:
        """Stop and clean up within `timeout` seconds.

        Returns:
            `(node id, item index, phase, thread)` of each call that did not return and was abandoned.

        Raises `NodeError` if a node failed to clean up.
        """

@final
class StreamFeed:
    """The items of a stream on their way into a session, many at once where they are there or wait.

    No more than `limit` items and outputs of the stream are in the session.
    """

    def __new__(cls, stream: OutputStream, items: Iterable[Any], limit: int) -> Self: ...
    def feed(self) -> int:
        """Read items and put them in.

        Returns:
            0 if more can be put in; 1 at the end of the items; 2 if the session has closed; 3 if an output is
            ready, or there is no room before the next one.
        """

@final
class OutputStream:
    """The outputs of the items of one stream, in order."""

    @staticmethod
    def open(
        core: SessionCore,
        capacity: int,
        on_output: Callable[[], object] | None = None,
        *,
        counts_own_items: bool = False,
    ) -> OutputStream:
        """Open a stream with separate outputs, of which `capacity` may wait; `on_output` as for the session.

        With `counts_own_items`, errors contain the index of the item in this stream, not in the session.
        """

    @staticmethod
    def main(core: SessionCore) -> OutputStream:
        """Return the stream of `put` and iteration."""

    def put(self, item: Any) -> bool | asyncio.Future[bool]:
        """Put an item in without waiting; only for sessions of an event loop.

        Returns:
            `True`, or `False` if the session has closed; a future of that value while there is no room.
        """

    def put_and_wait(self, item: Any, is_taken: Callable[[], bool] | None) -> bool:
        """Put an item in, and wait for room; return `False` if the session has closed.

        With `is_taken`, for nodes that run on the calling threads, this thread processes the item. `is_taken`
        returns whether another thread reads outputs, so that this one may wait for room. Without it, a thread
        of the session runs the nodes from now on.
        """

    def end(self, is_taken: Callable[[], bool] | None = None) -> None:
        """End the input: the nodes are flushed; `is_taken` is as for `put_and_wait`."""

    @property
    def is_ready(self) -> bool:
        """Whether `next` returns a result without waiting."""

    @property
    def load(self) -> int:
        """The number of inputs in progress and of waiting outputs."""

    @property
    def taken_by(self) -> int:
        """The thread that called `next` last, or 0."""

    def ready(self, timeout: float) -> Iterator[Any] | None:
        """Return all outputs that are ready, waiting at most this long for the first one; `None` at the end.

        Those that an interruption or a close drops before they are taken are not returned.

        Raises `NodeError` if an item failed; earlier outputs have been returned.
        Raises `SessionClosedError` if the session has closed.
        """

    def next(self, timeout: float) -> tuple[int, Any]:
        """Wait at most this long for an output.

        Returns:
            `(0, None)` if there is none yet, `(1, output)`, or `(2, None)` at the end.

        Raises `NodeError` if an item failed; earlier outputs have been returned.
        Raises `SessionClosedError` if the session has closed.
        """

    def set_overflow(self, overflow: str) -> None:
        """Set what happens to outputs for which there is no room: "wait", "keep", or "drop" all."""

    def raise_failure(self) -> None:
        """Raise the first failure that has not been raised yet."""

    def abandon(self) -> bool:
        """Close the stream and drop its items; return whether a node still processes one."""

@final
class DirectMap:
    """A stream on the calling thread, which reads an item when an output is requested."""

    def __new__(cls, core: SessionCore, items: Iterable[Any]) -> Self:
        """Process items on the thread that requests outputs; only for direct sessions."""

    def __iter__(self) -> Self:
        """Return itself."""

    def close(self) -> None:
        """Close the stream: items and outputs in it are dropped."""

    def __next__(self) -> Any:
        """Return the next output.

        Raises `NodeError` if a node fails, and `StopIteration` after the outputs of `flush`.
        """

@final
class Ticket:
    """A call in progress, for `SessionCore.abandon`."""

    @property
    def is_of_node(self) -> bool:
        """Whether a node made the call, so that it might wait for itself."""

@final
class Callers:
    """The calls of nodes that wait for the code in a context."""

    def __new__(cls) -> Self:
        """Start without calls."""

    def install(self) -> None:
        """Set the context variable of the current task to this object."""

    def capture(self) -> None:
        """Store the calls that wait for the current code."""

    def clear(self) -> None:
        """Remove all calls."""

@final
class ChunkItems:
    """The items of a chunk, an iterator that ends early when the chunk has taken its time."""

    def is_due(self) -> bool:
        """Whether its time is over."""

    def renew(self) -> None:
        """Give it as much time again."""

    def __iter__(self) -> Self: ...
    def __next__(self) -> Any: ...

@final
class Waiting:
    """A wait of nodes, which lasts as long as this object."""

    def check_lock(self) -> None:
        """Check again whether a wait for a lock can end; raise `PipelineError` if it would never end."""

@final
class LoopStage:
    """The locks and users of the nodes of a run or session on an event loop. It keeps no object alive."""

    def __new__(
        cls,
        pipeline: str,
        nodes: list[tuple[str, Any]],
        sources: int,
        find_node: Callable[[], Callable[[], str] | None],
        neighbour: LoopStage | None = None,
    ) -> Self:
        """Claim nodes.

        Args:
            pipeline: The name of the pipeline.
            nodes: Pairs of an id and an object, in plan order.
            sources: How many of them produce the items; they are locked separately.
            find_node: A weak reference to a function that returns the id of the node at work.
            neighbour: Another stage of the same session.
        """

    def join(self, node: int) -> bool:
        """Join the other users of a node that they have initialized; return whether there are any."""

    def enroll(self, node: int, is_ready: bool) -> bool:
        """Become a user of a node, inside its lock; return whether to initialize it, and call `set_ready`."""

    def set_ready(self, node: int) -> None:
        """Mark a node as initialized."""

    def leave(self, node: int) -> bool:
        """Leave the users of a node; return `False` if this is the last one, which must call `leave_last`."""

    def leave_last(self, node: int) -> bool:
        """Leave the users of a node, inside its lock; return whether to clean it up."""

    def try_lock(self, node: int | None = None) -> bool:
        """Take the lock of a node, or those of all nodes; return `False` if others are inside."""

    def unlock(self, node: int | None = None) -> None:
        """Release what `try_lock` took."""

    def wait_for_lock(self, wake: Callable[[], object], node: int | None = None) -> Waiting | None:
        """Call `wake`, on any thread, when a lock is released; return `None` if all are free.

        Raises `PipelineError` if the wait would never end.
        """

    def listen(self, become_shared: Callable[[], object]) -> bool:
        """Call this, on any thread, when another session claims a node; return whether one has already."""

    def begin_wait(self, word: str) -> Waiting | None:
        """Begin to wait for the session, by its method `word`; return `None` if no node waits.

        Raises `PipelineError` if the wait would never end.
        """

    def check_wait(self, waiting: Waiting, word: str) -> None:
        """Check again whether the wait can end; raise `PipelineError` if it never would."""

    def take_turn(self) -> bool:
        """Return whether the other tasks of the loop should get a turn now; it then counts as given."""

    def try_enter(self, inputs: int, *, is_fresh: bool = False) -> LoopCall | None:
        """Enter the nodes; return `None` if others are inside, or a turn is due and not `is_fresh`."""

    def enter(self, inputs: int, node: int | None = None) -> LoopCall:
        """Enter the nodes, or one of them, whose locks the caller holds."""

    def count_inputs(self, count: int) -> None:
        """Count inputs of a call after its beginning."""

    @property
    def inputs(self) -> int:
        """The number of inputs so far."""

@final
class LoopCall:
    """A call of nodes that the current task is in."""

    @property
    def first(self) -> int:
        """The index of its first input."""

    def leave(self) -> None:
        """End the call, and release the locks. A second call does nothing."""

    def detach(self) -> None:
        """Go on in the current task without the call, which does not end yet."""

@final
class LoopMetrics:
    """Collects, on any thread, the metrics of nodes that an event loop calls, by their numbers in a stage."""

    def __new__(cls, pipeline: str, nodes: list[tuple[str, str, str]], sources: int) -> Self:
        """Start the clock. A node is an id, the name of a class, and a placement; sources come first."""

    def of_stage(self, first: int, count: int) -> LoopMetrics:
        """Return what collects the metrics of a stage, some nodes from `first` on, for the same report."""

    def note_initialize(self, node: int, nanos: int) -> None:
        """Note that a node was initialized."""

    def note_item(self, node: int) -> None:
        """Note that a node receives an item."""

    def note_call(self, node: int, nanos: int) -> None:
        """Note that a call of a node has ended."""

    def note_failure(self, node: int, is_interrupt: bool) -> None:
        """Note that a call of a node raised, or was stopped by an interruption."""

    def note_retry(self, node: int) -> None:
        """Note that a call of a node that raised is made once more."""

    def note_handled(self, node: int, is_dead_lettered: bool) -> None:
        """Note that a node failed on an item for good, which was then skipped or dead-lettered."""

    def note_output(self, node: int) -> None:
        """Note that a node made an output."""

    def note_received(self, node: int) -> None:
        """Note that a node of a chain receives an item, which came in if it is the first one."""

    def note_returned(self, node: int, nanos: int, has_output: bool) -> None:
        """Note that a node of a chain has received an item and returned; an output of the last one leaves."""

    def count_in(self) -> None:
        """Count an item that came in."""

    def count_out(self) -> None:
        """Count an output that left the stage, if it is the last one."""

    def count_interrupted(self, items: int) -> None:
        """Count items that an interruption dropped."""

    def note_queue(self, len: int) -> None:  # noqa: A002 - The name in Rust.
        """Note how many items wait to enter the stage."""

    def note_wait(self, nanos: int) -> None:
        """Note how long items have waited to enter the stage, in all."""

    def report(self) -> dict[str, Any]:
        """Return the metrics of all nodes so far."""

@final
class ManifestOrder:
    """The dependencies of the nodes of a checked manifest."""

@final
class ParsedManifest:
    """A checked manifest, whose nodes are read one by one."""

    @property
    def name(self) -> str:
        """The name of the pipeline."""

    @property
    def ignored(self) -> list[str]:
        """The paths of fields that have no effect."""

    @property
    def order(self) -> ManifestOrder:
        """The dependencies of the nodes."""

    def __len__(self) -> int:
        """Return the number of nodes."""

    def node(self, index: int) -> tuple[str, str, dict[str, Any], dict[str, Any], bool]:
        """Return id, type, arguments, options and join of a node."""

    def upstreams(self, index: int) -> list[int]:
        """Return the positions of the upstream nodes of a node."""

    def line_of(self, index: int, field: str) -> int:
        """Return the line of `node_type` or `params` of a node."""

def start(
    graph: Graph,
    feed: Any,
    event_loop: asyncio.AbstractEventLoop,
    deliver: Callable[[Any, dict[str, Any] | None], None],
    enable_metrics: bool,
) -> Call:
    """Run a graph on a separate thread, and deliver the outcome on an event loop.

    `deliver(outcome, metrics)` receives the list of outputs, or the exception that ended the run.
    """

def run(graph: Graph, feed: Any, enable_metrics: bool) -> tuple[list[Any], dict[str, Any] | None]:
    """Run a graph on this thread; its coroutines run on a separate event loop."""

def parse_manifest(text: str) -> ParsedManifest:
    """Parse and check a manifest, JSON or YAML.

    Raises `ManifestError` if it is invalid; the text contains line and path.
    """

def check_stages(graph: Graph) -> None:
    """Reject a graph whose nodes cannot be divided into stages.

    Raises `PipelineError` if nodes are in the same group and cannot share a stage.
    """

def draw(graph: Graph, format: str) -> str:  # noqa: A002 - the word of the command line
    """Draw a graph as `text`, `mermaid`, `dot` or `svg`."""

def option_problem(written: dict[str, Any], are_of_session: bool) -> str | None:
    """Return what is wrong with the options of a node or of `Pipeline.open`: the end of an error text."""

def did_you_mean(name: str, candidates: Iterable[str]) -> str:
    """Return the end of an error text: `; did you mean 'x'?`, or nothing."""

def is_lazy(value: object) -> bool:
    """Whether a result is a generator, a coroutine or another object that has yet to run."""

def main(arguments: list[str]) -> int:
    """Run the command line and return its exit code."""

def is_at_work() -> bool:
    """Whether this is a worker whose nodes are processing items, so that the call can be interrupted."""

def be_fork() -> None:
    """Mark this process as a fork of a worker: it exits when the node returns."""

def serve(graph: Graph, words: list[str], host: Host) -> None:
    """Serve a graph on the network, on this thread, until the host says to stop.

    Args:
        graph: A checked graph.
        words: The options, as on the command line, such as `--port=0`.
        host: The program around the service.

    Raises:
        PipelineError: If an option is invalid, or the address cannot be used.
        NodeError: If a node fails to initialize or to clean up.
    """

def serve_worker() -> None:
    """Run a worker on the socket that is the standard input, until the parent ends it or exits.

    Raises `OSError` if the connection to the parent is lost.
    """
