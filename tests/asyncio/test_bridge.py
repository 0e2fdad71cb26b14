"""The bridge between threads and the event loop, interrupted at any time."""

from __future__ import annotations

import asyncio
import threading
from queue import SimpleQueue

import pytest

from remotemedia._asyncio import own_loop
from remotemedia._asyncio.bridge import Bridge
from remotemedia._asyncio.futures import Result


class Interrupted(Bridge):
    """Ctrl-C arrives just before or just after the first coroutine is passed to the loop."""

    def __init__(self, position):
        super().__init__(None)
        self.position = position

    def on_loop(self, callback):
        position, self.position = self.position, None
        if position == "before":
            raise KeyboardInterrupt
        super().on_loop(callback)
        if position == "after":
            raise KeyboardInterrupt


@pytest.fixture(params=["before", "after"])
def bridge(request):
    bridge = Interrupted(request.param)
    yield bridge
    bridge.close()


def test_a_coroutine_ends_before_the_interrupted_thread_continues(bridge, unraisable):
    log = []

    async def work():
        log.append("begun")
        try:
            await asyncio.Event().wait()
        finally:
            log.append("ended")

    with pytest.raises(KeyboardInterrupt):
        bridge.wait(work())

    # It may be cancelled before its first step.
    assert log in ([], ["begun", "ended"])
    assert unraisable == []


def test_an_interrupted_bridge_continues(bridge):
    with pytest.raises(KeyboardInterrupt):
        bridge.wait(asyncio.sleep(60))

    assert bridge.wait(asyncio.sleep(0, "result")) == "result"


def test_a_result_stays_available_after_an_interrupted_wait():
    result = Result()
    result.set("value")

    assert result.wait(0)
    assert result.wait(0)
    assert result.take() == "value"


def test_a_finished_interruption_cancels_nothing():
    bridge = Bridge(None)
    try:
        bridge.interrupt(lambda: False)

        assert bridge.wait(asyncio.sleep(0.01, "result")) == "result"
    finally:
        bridge.close()


def loop_threads():
    return [thread for thread in threading.enumerate() if thread.name == "remotemedia-loop"]


def test_an_order_while_the_loop_is_made_leaves_no_thread_and_no_half_loop(monkeypatch, unraisable):
    class Interrupting(SimpleQueue):
        def get(self):
            super().get()
            raise KeyboardInterrupt

    monkeypatch.setattr(own_loop, "SimpleQueue", Interrupting)
    with pytest.raises(KeyboardInterrupt):
        Bridge(None)

    for thread in loop_threads():
        thread.join(5)
    assert loop_threads() == []


def test_a_loop_that_cannot_be_created_is_an_error_of_the_waiting_thread(monkeypatch):
    def refuse():
        raise OSError("too many open files")

    monkeypatch.setattr(asyncio, "new_event_loop", refuse)
    with pytest.raises(OSError, match="too many open files"):
        Bridge(None)

    for thread in loop_threads():
        thread.join(5)
    assert loop_threads() == []
