"""One thread of the process that names the nodes that hold up their event loops or never return."""

from __future__ import annotations

import asyncio
import os
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any

from remotemedia import _log

if TYPE_CHECKING:
    from remotemedia._loop.sessions.entrance import Entrance

__all__ = ["Watched"]

_DELAY_SECS = 0.25
"""The age of a session that is watched at the least: most live too shortly to need a thread."""

_LONGEST_PAUSE_SECS = 1.0


class Watched:
    """A session that is watched from now on, until `stop`."""

    def __init__(self, entrance: Entrance, warning_secs: float) -> None:
        """Begin soon. Called on the event loop of the session."""
        self.entrance = weakref.ref(entrance)
        self.warning_secs = warning_secs
        self.thread_id = threading.get_ident()
        self._seen: tuple[Any, ...] | None = None
        self._since = 0.0
        self._is_reported = False
        loop = asyncio.get_running_loop()
        self.due = loop.time() + min(_DELAY_SECS, warning_secs / 4)
        self._young = _young_of(loop, warning_secs)
        self._young.add(self)

    def stop(self) -> None:
        """Watch it no longer."""
        if not self._young.remove(self):
            _watch.remove(self)

    def check(self) -> None:
        """Log the node that has been called or awaited for too long, once."""
        entrance = self.entrance()
        seen = None if entrance is None else entrance.reading()
        now = time.monotonic()
        if entrance is None or seen is None or seen != self._seen:
            self._seen, self._since, self._is_reported = seen, now, False
            return
        if self._is_reported or now - self._since < self.warning_secs:
            return
        self._is_reported = True
        node_id, phase, coroutine = entrance.stage.at_work()
        task, oldest = entrance.oldest()
        index = oldest if phase == "process" else None
        if coroutine is None and task is not None:
            coroutine = task.get_coro()
        stage = entrance.stage
        if stage.is_thread_busy:
            stack = _log.stack_of(stage.thread_id)
        elif coroutine is None or getattr(coroutine, "cr_running", False):
            stack = _log.stack_of(self.thread_id)
        else:
            stack = _log.stack_of_coroutine(coroutine)
        _log.stalled_at(node_id, index, now - self._since, stack)


class _Young:
    """The sessions of an event loop that are not watched yet. They are of one age, and share one timer."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = weakref.ref(loop)
        self._sessions: dict[Watched, None] = {}
        self._is_due = False

    def add(self, watched: Watched) -> None:
        self._sessions[watched] = None
        if not self._is_due:
            self._wait_for(watched)

    def remove(self, watched: Watched) -> bool:
        """Forget a session; return whether it was not watched yet."""
        if watched not in self._sessions:
            return False
        del self._sessions[watched]
        return True

    def _wait_for(self, watched: Watched) -> None:
        loop = self._loop()
        self._is_due = loop is not None
        if loop is not None:
            loop.call_at(watched.due, self._watch_oldest)

    def _watch_oldest(self) -> None:
        self._is_due = False
        loop = self._loop()
        for watched in [*self._sessions]:
            if loop is not None and watched.due > loop.time():
                self._wait_for(watched)
                break
            del self._sessions[watched]
            _watch.add(watched)


class _Watch:
    """The thread, which runs while there is anything to watch."""

    def __init__(self) -> None:
        self._watched: set[Watched] = set()
        self._changed = threading.Condition()
        self._is_running = False

    def add(self, watched: Watched) -> None:
        with self._changed:
            self._watched.add(watched)
            if self._is_running:
                self._changed.notify()
                return
            self._is_running = True
        try:
            threading.Thread(target=self._run, name="remotemedia-watch", daemon=True).start()
        except RuntimeError:
            # Without another thread, nodes that stall are not named.
            self._is_running = False

    def remove(self, watched: Watched) -> None:
        with self._changed:
            self._watched.discard(watched)
            if not self._watched:
                self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                if self._watched:
                    shortest = min(watched.warning_secs for watched in self._watched)
                    self._changed.wait(min(shortest / 4, _LONGEST_PAUSE_SECS))
                if not self._watched:
                    self._is_running = False
                    return
                watched = [*self._watched]
            for one in watched:
                one.check()


_watch = _Watch()

_young: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Young] = weakref.WeakKeyDictionary()


def _young_of(loop: asyncio.AbstractEventLoop, warning_secs: float) -> _Young:
    if warning_secs / 4 < _DELAY_SECS:
        return _Young(loop)
    young = _young.get(loop)
    if young is None:
        young = _young[loop] = _Young(loop)
    return young


def _be_fork() -> None:
    """Forget the thread, which the child of a fork does not have."""
    _watch.__init__()  # type: ignore[misc] # Its lock may be held by a thread of the parent.


os.register_at_fork(after_in_child=_be_fork)
