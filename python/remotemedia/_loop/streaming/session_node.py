"""A streaming node of a session, which runs in the tasks of its callers: no task or queue is before it.

A caller pushes an item and lets the node continue until it requests the next one. There the node stays
suspended, perhaps until another task pushes an item.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import types
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from remotemedia._compiled.pushed import END, SUSPENDED, Pushed
from remotemedia._loop.turns import cancellations

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine, Generator

__all__ = ["SessionNode"]

_NO_ITEM: Any = object()
_UNSET: Any = object()

# What the coroutine around a node yields, besides what the event loop has to wait for.
_REQUEST: Any = object()
_OUTPUT: Any = object()


class SessionNode(Pushed):
    """The runs of a streaming node, one after the other.

    A run ends with the input, or when an item is dropped; the next item begins another one. Each run has a
    context of its own, because its items come from several tasks.

    Attributes:
        stream: The async generator of the current run.
    """

    def __init__(self, node: Any) -> None:
        """Prepare a run, without calling the node."""
        self._node = node
        self._prepare()

    def _prepare(self) -> None:
        self._items = _Items()
        self._context: contextvars.Context | None = None
        self._coroutine: Coroutine[Any, Any, None] | None = None
        self._continue: Callable[[], Any] | None = None
        self._output: Any = None
        self._awaited: Any = None
        self._is_closing = False
        self.stream: AsyncGenerator[Any, None] | None = None

    @property
    def is_open(self) -> bool:
        """Whether a run has begun and not ended."""
        return self._coroutine is not None

    def process(self, item: Any) -> AsyncGenerator[Any, None]:
        """Push an item; return the outputs."""
        self.push(item)
        return self.outputs()

    def flush(self) -> AsyncGenerator[Any, None]:
        """End the input; return the outputs."""
        self._items.is_ended = True
        self._enter_context()
        return self.outputs()

    def push(self, item: Any) -> None:
        """Store the item that the node reads next. A node that has returned ignores it, until the end."""
        items = self._items
        if items.is_ended:
            self._prepare()
            items = self._items
        if self._context is None:
            self._begin()
        elif self._coroutine is None:
            return
        else:
            items.context = contextvars.copy_context()
        items.item = item

    def _begin(self) -> None:
        context = self._context = contextvars.copy_context()
        coroutine = self._coroutine = self._run()
        self._continue = functools.partial(context.run, coroutine.send, None)

    def _enter_context(self) -> None:
        """Set the variables of the caller, who pushes no item."""
        if self._context is None:
            self._begin()
        else:
            self._context.run(self._items.adopt, contextvars.copy_context())

    def step(self, work: Callable[[], Any] | None = None) -> Any:
        """Let the node continue, or do this, and return its next output, `SUSPENDED` or `END`."""
        work = work or self._continue
        if work is None:
            return END
        try:
            awaited = work()
        except StopIteration:
            self._coroutine = self._continue = None
            return END
        except BaseException:
            self._prepare()
            raise
        if awaited is _OUTPUT:
            output, self._output = self._output, None
            return output
        if awaited is _REQUEST:
            return END
        self._awaited = awaited
        return SUSPENDED

    @types.coroutine
    def resume(self) -> Generator[Any, Any, Any]:
        """Await what the node awaits; return its next output or `END`."""
        output = SUSPENDED
        raised: BaseException | None
        while output is SUSPENDED:
            awaited, self._awaited, raised = self._awaited, None, None
            try:
                yield awaited
            except GeneratorExit:
                self._close_at_once()
                raise
            except BaseException as error:  # noqa: BLE001 - Raised where the node waits.
                raised = error
            try:
                output = self.step() if raised is None else self._throw(raised)
            finally:
                del awaited, raised
        return output

    def _throw(self, error: BaseException) -> Any:
        try:
            if self._context is None or self._coroutine is None:
                raise error
            return self.step(functools.partial(self._context.run, self._coroutine.throw, error))
        finally:
            # Its traceback refers to this frame.
            del error

    def _close_at_once(self) -> None:
        """Close the node where the event loop no longer runs."""
        coroutine, context = self._coroutine, self._context
        self._prepare()
        if coroutine is not None and context is not None:
            # Closing does not reach into async generators.
            with suppress(BaseException):
                context.run(coroutine.throw, asyncio.CancelledError())
            coroutine.close()

    async def aclose(self) -> None:
        """Stop the node, and wait until it has ended; the next item begins another run.

        Raises:
            BaseException: What the node raised while it ended.
        """
        if self._coroutine is None:
            self._prepare()
            return
        self._enter_context()
        self._items.is_ended = self._is_closing = True
        before = cancellations()
        try:
            if self._throw(asyncio.CancelledError()) is SUSPENDED:
                await self.resume()
        except asyncio.CancelledError:
            if cancellations() != before:
                raise
        finally:
            self._prepare()

    @types.coroutine
    def _run(self) -> Generator[Any, None, None]:
        """Drive the node, as `async for` does; only a generator can yield between two outputs."""
        stream = self.stream = self._node.process(self._items)
        try:
            while not self._is_closing:
                self._output = yield from stream.__anext__()
                yield _OUTPUT
        except StopAsyncIteration:
            return
        except GeneratorExit:
            # The event loop has stopped.
            raise
        except BaseException:
            yield from stream.aclose()
            raise
        yield from stream.aclose()


class _Items:
    """The items of a run, an async iterator that receives one item at a time.

    Attributes:
        item: The item that is read next.
        context: The context of its caller, if that is not the context in which the run began.
        is_ended: Whether no more items come.
    """

    __slots__ = ("_adopted", "context", "is_ended", "item")

    def __init__(self) -> None:
        self.item = _NO_ITEM
        self.context: contextvars.Context | None = None
        self.is_ended = False
        self._adopted: dict[contextvars.ContextVar[Any], contextvars.Token[Any]] = {}

    def __aiter__(self) -> _Items:
        return self

    @types.coroutine
    def __anext__(self) -> Generator[Any, None, Any]:
        while self.item is _NO_ITEM:
            if self.is_ended:
                raise StopAsyncIteration
            yield _REQUEST
        if self.context is not None:
            self.adopt(self.context)
            self.context = None
        item, self.item = self.item, _NO_ITEM
        return item

    def adopt(self, context: contextvars.Context) -> None:
        """Set the variables of a caller in the context of the run, and reset those of earlier callers."""
        adopted = self._adopted
        for variable, value in context.items():
            if variable.get(_UNSET) is not value:
                token = variable.set(value)
                adopted.setdefault(variable, token)
        for variable in [*adopted]:
            if variable not in context:
                variable.reset(adopted.pop(variable))
