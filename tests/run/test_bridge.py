"""The meeting point of threads and the event loop, interrupted at any moment."""

from __future__ import annotations

import asyncio
import threading
from queue import SimpleQueue

import pytest

from remotemedia._asyncio import own_loop
from remotemedia._asyncio.bridge import Bridge
from remotemedia._asyncio.futures import Answer


class Interrupted(Bridge):
    """Ctrl-C comes just before or just after the loop is told of the first coroutine."""

    def __init__(self, moment):
        super().__init__(None)
        self.moment = moment

    def _on_loop(self, callback):
        moment, self.moment = self.moment, None
        if moment == "before":
            raise KeyboardInterrupt
        super()._on_loop(callback)
        if moment == "after":
            raise KeyboardInterrupt


@pytest.fixture(params=["before", "after"])
def bridge(request):
    bridge = Interrupted(request.param)
    yield bridge
    bridge.close()


def test_a_coroutine_has_ended_when_the_interrupted_thread_goes_on(bridge, unraisable):
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


def test_an_interrupted_bridge_goes_on(bridge):
    with pytest.raises(KeyboardInterrupt):
        bridge.wait(asyncio.sleep(60))

    assert bridge.wait(asyncio.sleep(0, "answer")) == "answer"


def test_an_answer_is_there_for_one_who_was_interrupted_while_taking_it():
    answer = Answer()
    answer.give("value")

    assert answer.comes_within(0)
    assert answer.comes_within(0)
    assert answer.take() == "value"


def test_an_interruption_that_is_over_cancels_nothing():
    bridge = Bridge(None)
    try:
        bridge.interrupt(lambda: False)

        assert bridge.wait(asyncio.sleep(0.01, "answer")) == "answer"
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


def test_a_loop_that_cannot_be_made_is_an_error_of_the_one_who_waits(monkeypatch):
    def refuse():
        raise OSError("too many open files")

    monkeypatch.setattr(asyncio, "new_event_loop", refuse)
    with pytest.raises(OSError, match="too many open files"):
        Bridge(None)

    for thread in loop_threads():
        thread.join(5)
    assert loop_threads() == []
