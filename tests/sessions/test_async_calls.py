"""Calls of sessions of plain Python whose nodes are coroutines: an item crosses to the event loop once."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress

import pytest

from remotemedia import Pipeline
from remotemedia._asyncio.question import Question
from remotemedia.exceptions import NodeError, PipelineError


class AddOne:
    async def process(self, item):
        return item + 1


class Special(AddOne):
    """Does something with one item."""

    def __init__(self, work):
        self.work = work

    async def process(self, item):
        return await self.work(item)


def call_in_vain(session, item):
    """Make a call that is stopped."""
    with suppress(BaseException):
        session.call(item)


@pytest.fixture
def crossings(monkeypatch):
    """Return the waits for an event loop so far."""
    crossings = []
    ask = Question.ask
    monkeypatch.setattr(Question, "ask", lambda question: (crossings.append(question), ask(question))[1])
    return crossings


def test_an_item_crosses_once(crossings):
    with Pipeline([AddOne(), AddOne(), AddOne()]).open() as session:
        session.call(0)
        del crossings[:]

        outputs = [session.call(item) for item in range(10)]

        assert (outputs, len(crossings)) == ([item + 3 for item in range(10)], 10)


@pytest.mark.parametrize(
    ("placement", "items", "in_chunks"),
    [("thread", range(10), False), ("inline", iter(range(10)), False), ("inline", range(10), True)],
    ids=["thread", "iterator", "list"],
)
def test_items_of_a_stream_cross_once(crossings, placement, items, in_chunks):
    """Items that exist already cross several at once."""
    pipeline = Pipeline([AddOne(), AddOne(), AddOne()])
    with pipeline.open(placement=placement) as session:
        session.call(0)
        del crossings[:]

        outputs = list(session.map(items))

        assert outputs == [item + 3 for item in range(10)]
        assert len(crossings) == 10 or (in_chunks and len(crossings) < 10)


def test_a_failure_names_its_node_and_item():
    async def fail(item):
        if item == 6:
            raise ValueError(item)
        return item

    with Pipeline([AddOne(), Special(fail), AddOne()]).open() as session:
        outputs = [session.call(item) for item in range(5)]
        with pytest.raises(NodeError) as failure:
            session.call(5)
        outputs.append(session.call(6))

    error = failure.value
    assert outputs == [2, 3, 4, 5, 6, 8]
    assert (error.node_id, error.item_index, error.__cause__.args) == ("Special_1", 5, (6,))


def test_a_result_that_is_to_be_iterated_over_goes_on():
    async def generator(item):
        return (item + more for more in range(item % 3))

    with Pipeline([AddOne(), Special(generator), AddOne()]).open() as session:
        assert [session.call(item) for item in range(5)] == [2, [3, 4], None, 5, [6, 7]]


def test_a_filtered_item_has_no_output():
    async def drop(item):
        return None if item % 2 else item

    with Pipeline([AddOne(), Special(drop), AddOne()]).open() as session:
        assert [session.call(item) for item in range(5)] == [None, 3, None, 5, None]


def test_a_node_that_would_wait_for_itself_is_named():
    sessions = []

    async def call(item):
        return sessions[0].call(item) if item == 3 else item

    with Pipeline([AddOne(), Special(call), AddOne()]).open() as session:
        sessions.append(session)
        session.call(0)
        session.call(1)
        with pytest.raises(NodeError) as failure:
            session.call(2)

    assert isinstance(failure.value.__cause__, PipelineError)
    assert "Node 'Special_1' called call() of its own session" in str(failure.value.__cause__)


def test_a_node_that_stalls_is_named(caplog):
    stays = threading.Event()

    async def stay(item):
        while item == 3 and not stays.is_set():
            await asyncio.sleep(0.001)
            if "has been busy with item 2" in caplog.text:
                stays.set()
        return item

    with Pipeline([AddOne(), Special(stay), AddOne()]).open(stall_warning=0.1) as session:
        assert [session.call(item) for item in range(3)] == [2, 3, 4]

    assert "node 'Special_1' has been busy with item 2" in caplog.text


def test_an_interrupted_call_ends_where_it_waits():
    is_there = threading.Event()
    ended = []

    async def stay(item):
        if item == 3:
            try:
                is_there.set()
                await asyncio.Event().wait()
            finally:
                ended.append(item)
        return item

    with Pipeline([AddOne(), Special(stay), AddOne()]).open() as session:
        session.call(0)
        session.call(1)
        caller = threading.Thread(target=call_in_vain, args=(session, 2))
        caller.start()
        is_there.wait()

        session.interrupt()

        caller.join()
        assert (ended, session.call(5)) == ([3], 7)
