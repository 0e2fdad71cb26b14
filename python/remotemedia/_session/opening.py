"""The result of `pipeline.open()`, which `with` opens."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, NoReturn

from remotemedia._core import Opener
from remotemedia._errors import throw
from remotemedia.exceptions import PipelineError
from remotemedia.sessions import CLOSE_TIMEOUT_SECS, HOW_TO_OPEN, Session, close_after, open_session

if TYPE_CHECKING:
    from types import TracebackType

    from remotemedia._graph.graph import Graph
    from remotemedia._session.async_session import AsyncSession

__all__ = ["Opening"]


class Opening:
    """A pipeline that is not open yet: `with` returns a `Session`, `async with` an `AsyncSession`."""

    def __init__(self, graph: Graph, settings: dict[str, Any]) -> None:
        """Store a checked graph and checked settings; nothing is opened yet."""
        self._graph = graph
        self._settings = settings
        self._session: Any = None
        self._is_entered = False

    def __repr__(self) -> str:
        """Show the pipeline, and how to open it."""
        state = "open" if self._is_entered else f"not open; use {HOW_TO_OPEN}"
        return f"<Opening of pipeline '{self._graph.name}': {state}>"

    def __getattr__(self, name: str) -> NoReturn:
        """Explain that methods of sessions need an open session."""
        if name.startswith("_"):
            raise AttributeError(name)
        text = f"'Opening' object has no attribute '{name}'"
        if hasattr(Session, name):
            text = (
                f"Pipeline '{self._graph.name}' is not open, and {name}() needs a session; use {HOW_TO_OPEN}"
            )
        raise AttributeError(text)

    def __iter__(self) -> NoReturn:
        """Explain that only a session is iterable."""
        raise TypeError(
            f"Pipeline '{self._graph.name}' is not open, and only its session is iterable; use {HOW_TO_OPEN}"
        )

    __aiter__ = __iter__

    def __enter__(self) -> Session:
        """Initialize the nodes."""
        self._begin()
        try:
            self._session = session = open_session(Session, self._graph, self._settings, Opener())
        except BaseException:
            self._is_entered = False
            raise
        return session  # type: ignore[no-any-return]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Finish all items, then close; after an exception, close immediately."""
        session: Session = self._end()
        if error is None:
            try:
                session.finish(threading.get_ident())
            except BaseException as failure:  # noqa: BLE001 - Raised again after closing.
                close_after(session, failure)
                throw(failure)
            session.close_now(CLOSE_TIMEOUT_SECS)
        else:
            close_after(session, error)

    async def __aenter__(self) -> AsyncSession:
        """Initialize the nodes, on the event loop or beside it: each where it runs."""
        from remotemedia._session.async_session import enter

        self._begin()
        try:
            self._session = session = await enter(self._graph, self._settings)
        except BaseException:
            self._is_entered = False
            raise
        return session

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Finish all items, then close; after an exception, close immediately."""
        session: AsyncSession = self._end()
        await session.leave(error)

    def _begin(self) -> None:
        if self._is_entered:
            raise PipelineError(
                f"This object has already opened pipeline '{self._graph.name}'; "
                "call pipeline.open() again for another session"
            )
        self._is_entered = True

    def _end(self) -> Any:
        session, self._session, self._is_entered = self._session, None, False
        return session
