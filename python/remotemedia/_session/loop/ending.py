"""The end of a session whose nodes run on an event loop, also where its caller does not wait for it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from remotemedia import _log
from remotemedia._asyncio.bridge import run_alone
from remotemedia._errors import throw
from remotemedia._loop.sessions.entrance import closed
from remotemedia._loop.sessions.streams.queues import close_task

if TYPE_CHECKING:
    import asyncio

    from remotemedia._loop.sessions.chain import Chain
    from remotemedia._loop.sessions.streams.stream import Stream

__all__ = ["end_alone", "end_beside", "end_work", "resolve", "throw_unless_known"]

# The sessions without references that are being closed.
_closing: set[asyncio.Task[None]] = set()


async def end_work(chain: Chain, streams: list[Stream]) -> None:
    """Stop what is in progress, and wait until it has ended."""
    await chain.stop_inside(closed)
    for stream in streams:
        await stream.wait_for_end()


def end_alone(chain: Chain, streams: list[Stream]) -> None:
    """Clean up where the event loop no longer runs."""
    for stream in streams:
        stream.close_task()
    for task in [task for entrance in chain.entrances for task in entrance.tasks]:
        close_task(task)
    chain.settle_alone()
    try:
        for failure in run_alone(chain.clean_up()):
            _log.log_ignored_error(failure)
    except Exception as failure:  # noqa: BLE001 - No caller is left.
        _log.log_ignored_error(failure)


def end_beside(loop: asyncio.AbstractEventLoop, thread_id: int, chain: Chain, streams: list[Stream]) -> None:
    """End a session without references, from any thread; nobody waits for it.

    Args:
        loop: Its event loop.
        thread_id: The thread that the loop runs on.
        chain: Its nodes.
        streams: Its streams.
    """

    async def end() -> None:
        for task in [task for entrance in chain.entrances for task in entrance.tasks]:
            task.cancel()
        try:
            await end_work(chain, streams)
        finally:
            for failure in await chain.clean_up():
                _log.log_ignored_error(failure)

    def start() -> None:
        task = loop.create_task(end())
        _closing.add(task)
        task.add_done_callback(_closing.discard)

    if loop.is_closed():
        end_alone(chain, streams)
    elif threading.get_ident() == thread_id and loop.is_running():
        start()
    else:
        try:
            loop.call_soon_threadsafe(start)
        except RuntimeError:
            end_alone(chain, streams)


def resolve(futures: list[asyncio.Future[Any]], value: object) -> None:
    """Set the result of futures that have none."""
    for future in futures:
        if not future.done():
            future.set_result(value)


def throw_unless_known(failure: BaseException | None, known: BaseException | None) -> None:
    """Raise a failure, unless the caller knows it."""
    try:
        if failure is not None and failure is not known:
            throw(failure)
    finally:
        # Its traceback refers to this frame.
        del failure, known
