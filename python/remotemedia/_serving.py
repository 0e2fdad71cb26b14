"""`serve`, `serving` and `serve_forever`: a pipeline on the network, from a program."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Literal, Self, TypedDict, Unpack

from remotemedia import _shutdown
from remotemedia._core import Opener
from remotemedia._core import serve as serve_here
from remotemedia._graph.graph import resolve
from remotemedia._suggest import did_you_mean
from remotemedia._threads import start
from remotemedia.exceptions import PipelineError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from remotemedia._graph.graph import Graph
    from remotemedia.runtime import PipelineLike

__all__ = ["Host", "ServeOptions", "Server", "serve", "serve_forever", "serving"]

_logger = logging.getLogger("remotemedia")


class ServeOptions(TypedDict, total=False):
    """The options of `serve`, those of the command line.

    Attributes:
        host: Listen on this address or name; by default 127.0.0.1, for programs of this machine.
        port: Listen on this port; by default 8000, and 0 for any that is free.
        grace: When the service stops, let requests in progress end for this time, in seconds.
        session_per_connection: Give each WebSocket nodes of its own. This is the default where a node is a
            class or a function that returns it.
        warm: Keep nodes for so many WebSockets initialized in advance, if each has nodes of its own.
        max_in_flight: Refuse calls while as many are in progress, with status 503.
        max_sessions: Refuse WebSockets while as many are open, with status 503.
        max_body: Refuse bodies and messages of more bytes, with status 413.
        request_timeout: Give a call up after this time, in seconds, with status 504.
        token_file: Require the token in this file, as `Authorization: Bearer TOKEN`.
        insecure: Let other machines use the pipeline without a token.
        cors_origin: Let pages of these origins use the pipeline; `*` stands for all, and needs a token.
        tls_cert: Serve HTTPS with the certificate in this file, and those of its issuers after it, as PEM.
        tls_key: The private key of the certificate, as PEM.
        log_format: Write a line to standard error for each request, not only for errors: `text` or `json`.
        otlp: Send a span for each request and node to the OpenTelemetry collector at this URL.
    """

    host: str
    port: int
    grace: float
    session_per_connection: bool
    warm: int
    max_in_flight: int
    max_sessions: int
    max_body: int
    request_timeout: float
    token_file: str | os.PathLike[str] | None
    insecure: bool
    cors_origin: str | Sequence[str]
    tls_cert: str | os.PathLike[str] | None
    tls_key: str | os.PathLike[str] | None
    log_format: Literal["text", "json"] | None
    otlp: str | None


async def serve(pipeline: PipelineLike, **options: Unpack[ServeOptions]) -> None:
    """Serve a pipeline on HTTP and WebSocket beside the event loop, until the task is cancelled.

    Async nodes run on this event loop, and other nodes beside it. A cancellation begins the graceful stop: no
    more connections are accepted, requests in progress may end within the grace period, and the nodes are
    cleaned up. A second cancellation ends this at once. Use `serving` to do something while it serves.

    Args:
        pipeline: A `Pipeline`, a list of nodes, a manifest (dict or text), or a list mixing nodes and
            manifest entries.
        options: See `ServeOptions`.

    Raises:
        PipelineError: If an option or the pipeline is invalid, or the address cannot be used.
        NodeError: If a node fails to initialize or to clean up.
    """
    async with serving(pipeline, **options) as server:
        await server.wait()


def serving(pipeline: PipelineLike, **options: Unpack[ServeOptions]) -> Server:
    """Return a service for a `with` or `async with` block, which serves as long as the block runs.

    ```python
    async with remotemedia.serving(pipeline, port=0) as server:
        print(server.url)
    ```

    In the block, the nodes are initialized and connections are accepted. At its end, the service stops as
    described for `serve`. With `async with`, async nodes run on the event loop; with `with`, on one of the
    service.

    Args:
        pipeline: As for `serve`.
        options: See `ServeOptions`.

    Raises:
        PipelineError: If an option or the pipeline is invalid. The block raises what `serve` does.
    """
    return Server(resolve(pipeline), words_of(options))


def serve_forever(pipeline: PipelineLike, **options: Unpack[ServeOptions]) -> None:
    """Serve a pipeline on this thread, until SIGINT (Ctrl-C) or SIGTERM, as the command line does.

    The signal begins the graceful stop, after which this returns. A second one ends it at once: then
    `KeyboardInterrupt` or `SystemExit` is raised. The address is written to standard error.

    Args:
        pipeline: As for `serve`.
        options: See `ServeOptions`.

    Raises:
        PipelineError: As `serve` does, and if this is not the main thread, which receives signals, or it runs
            an event loop.
        NodeError: If a node fails to initialize or to clean up.
    """
    if threading.current_thread() is not threading.main_thread():
        raise PipelineError("serve_forever() needs the main thread, which receives signals; use serving()")
    if asyncio._get_running_loop() is not None:  # noqa: SLF001 - The public function raises instead.
        raise PipelineError("serve_forever() would block the event loop; use await serve(pipeline)")
    from remotemedia._cli.signals import terminating

    graph, words = resolve(pipeline), words_of(options)
    with terminating():
        serve_here(graph, words, Host())


def words_of(options: ServeOptions) -> list[str]:
    """Return options as words of the command line, whose parser checks them.

    Raises:
        PipelineError: If a name is not known.
    """
    words = []
    names = ServeOptions.__annotations__
    for name, value in options.items():
        if name not in names:
            raise PipelineError(f"serve() has no option '{name}'{did_you_mean(name, names)}")
        word = f"--{name.replace('_', '-')}"
        if value is True:
            words.append(word)
        elif value is not None and value is not False:
            values = value if isinstance(value, (list, tuple)) else [value]
            words += [f"{word}={os.fspath(one) if hasattr(one, '__fspath__') else one}" for one in values]
    return words


class Host:
    """What the service asks of the program around it, from its own thread."""

    def new_opener(self) -> Opener:
        """Return what opens a session, with the event loop of its coroutines."""
        return Opener()

    def check_stop(self) -> None:
        """Raise `KeyboardInterrupt` if the service is to stop, and again if it is to end at once."""

    def ready(self, url: str) -> None:
        """Learn that connections are accepted."""

    def shows(self, is_warning: bool, text: str) -> bool:  # noqa: ARG002, FBT001
        """Return whether this shows what people should know; otherwise it is written to standard error.

        A program whose main thread serves leaves it to that. Its signal handlers raise in `check_stop`.
        """
        return False


class _Beside(Host):
    """A block beside which the service runs on its own thread."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._obeyed = 0

    def new_opener(self) -> Opener:
        """Return what opens a session, with the event loop of the block."""
        return self._server._new_opener()  # noqa: SLF001 - Ours.

    def check_stop(self) -> None:
        """Raise `KeyboardInterrupt` once for each order."""
        if self._obeyed < self._server._orders:  # noqa: SLF001
            self._obeyed += 1
            raise KeyboardInterrupt

    def ready(self, url: str) -> None:
        """Let the block begin."""
        self._server._begin(url)  # noqa: SLF001

    def shows(self, is_warning: bool, text: str) -> bool:  # noqa: FBT001
        """Log it."""
        _logger.log(logging.WARNING if is_warning else logging.INFO, "%s", text)
        return True


class Server:
    """A service on a thread of its own; `serving` returns it.

    Attributes:
        url: Where it is, such as `http://127.0.0.1:8000`; empty before it is ready.
    """

    url = ""

    def __init__(self, graph: Graph, words: list[str]) -> None:
        """Store what is to be served; nothing is opened yet."""
        self._graph = graph
        self._words = words
        self._orders = 0
        self._opener: Opener | None = None
        self._error: BaseException | None = None
        self._is_started = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ready, self._ended = threading.Event(), threading.Event()
        self._changed = asyncio.Event()

    def __repr__(self) -> str:
        """Show pipeline and address."""
        state = "closed" if self._ended.is_set() else self.url or "not started"
        return f"<Server of pipeline '{self._graph.name}': {state}>"

    def stop(self) -> None:
        """Begin the graceful stop, from any thread; does not wait for its end."""
        self._order(1)

    def __enter__(self) -> Self:
        """Start to serve."""
        self._start(None)
        try:
            self._ready.wait()
        except BaseException:
            self._finish()
            raise
        self._raise_error()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop, and wait until the nodes are cleaned up."""
        self._finish()
        self._raise_error()

    async def __aenter__(self) -> Self:
        """Start to serve, beside the event loop."""
        self._start(asyncio.get_running_loop())
        try:
            await self._wait_for(self._ready)
        except asyncio.CancelledError:
            await self._finish_async()
            raise
        self._raise_error()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop, and wait until the nodes are cleaned up."""
        await self._finish_async()
        self._raise_error()

    async def wait(self) -> None:
        """Wait until the service has stopped, in an `async with` block."""
        await self._wait_for(self._ended)

    def _start(self, loop: asyncio.AbstractEventLoop | None) -> None:
        if self._is_started:
            raise PipelineError("This service has been started already; call serving() again for another one")
        _shutdown.check_not_ending(f"the service of pipeline '{self._graph.name}'")
        self._is_started, self._loop = True, loop
        # The end of the program stops it.
        thread = threading.Thread(target=self._run, name="remotemedia-serve", daemon=True)
        start(thread, f"the service of pipeline '{self._graph.name}'")

    def _new_opener(self) -> Opener:
        opener = Opener(self._loop)
        if not self._ready.is_set():
            self._opener = opener
            if self._orders:
                opener.cancel()
        return opener

    def _begin(self, url: str) -> None:
        self.url = url
        self._opener = None
        self._note_change(self._ready)

    def _run(self) -> None:
        try:
            with _shutdown.under_way(f"the service of pipeline '{self._graph.name}'", self.stop):
                serve_here(self._graph, self._words, _Beside(self))
        except BaseException as error:  # noqa: BLE001 - Raised in the block.
            is_ordered = self._orders and not isinstance(error, Exception)
            self._error = None if is_ordered else error
        self._note_change(self._ready, self._ended)

    def _order(self, number: int) -> None:
        self._orders = max(self._orders, number)
        if self._opener is not None:
            self._opener.cancel()

    def _note_change(self, *events: threading.Event) -> None:
        for event in events:
            event.set()
        if self._loop is not None:
            with suppress(RuntimeError):  # The loop has ended, and nobody waits.
                self._loop.call_soon_threadsafe(self._changed.set)

    async def _wait_for(self, event: threading.Event) -> None:
        while not event.is_set():
            self._changed.clear()
            if not event.is_set():
                await self._changed.wait()

    def _finish(self) -> None:
        """Stop and wait; Ctrl-C ends the wait for requests and nodes."""
        self._order(1)
        try:
            self._ended.wait()
        except BaseException:
            self._order(2)
            self._ended.wait()
            raise

    async def _finish_async(self) -> None:
        """Stop and wait; a cancellation ends the wait for requests and nodes."""
        self._order(1)
        cancelled = None
        while not self._ended.is_set():
            try:
                await self._wait_for(self._ended)
            except asyncio.CancelledError as error:
                cancelled = error
                self._order(2)
        if cancelled is not None:
            raise cancelled

    def _raise_error(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise error
