"""An event loop on a separate thread, for runs and sessions of plain Python."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from queue import SimpleQueue

from remotemedia._threads import start

__all__ = ["OwnLoop"]


class OwnLoop:
    """An event loop on the thread that created it, so that Ctrl-C in another thread cannot interrupt that."""

    def __init__(self) -> None:
        self.thread = threading.Thread(target=self._run, name="remotemedia-loop", daemon=True)
        self._made: SimpleQueue[asyncio.AbstractEventLoop | BaseException] = SimpleQueue()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_abandoned = False

    def start(self) -> asyncio.AbstractEventLoop:
        """Return the running loop."""
        try:
            start(self.thread, "the event loop of async nodes")
            made = self._made.get()
        except BaseException:
            # The thread checks this after it has set the loop, so one of the two notices the other.
            self._is_abandoned = True
            if self._loop is not None:
                with suppress(RuntimeError):  # It has ended.
                    self._loop.call_soon_threadsafe(self._loop.stop)
            raise
        if isinstance(made, BaseException):
            raise made
        return made

    def _run(self) -> None:
        try:
            self._loop = loop = asyncio.new_event_loop()
        except BaseException as error:  # noqa: BLE001 - Raised by the waiting thread.
            self._made.put(error)
            return
        try:
            if self._is_abandoned:
                return
            asyncio.set_event_loop(loop)
            self._made.put(loop)
            loop.run_forever()
            left = asyncio.all_tasks(loop)
            for task in left:
                task.cancel()
            if left:
                loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            loop.close()
