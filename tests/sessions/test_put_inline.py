"""`put` of a session of inline nodes that keep to one thread takes the item through them itself."""

from __future__ import annotations

import asyncio
import threading
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import pytest
from stream_nodes import TIMEOUT_SECS, Fails, Worker

from remotemedia import Node, Pipeline
from remotemedia.exceptions import NodeError

if TYPE_CHECKING:
    from collections.abc import Iterator


class Kept:
    """Has an `initialize`, and therefore runs on the thread that opens the session."""

    def initialize(self) -> None:
        pass


class Where(Kept):
    """Records the thread of each item, and passes the item on a given number of times."""

    session: Any

    def __init__(self, times: int = 1) -> None:
        self.times = times
        self.seen: list[Any] = []
        self.threads: set[int] = set()

    def initialize(self) -> None:
        self.threads.add(threading.get_ident())

    def process(self, item: Any) -> Iterator[Any]:
        self.seen.append(item)
        for _ in range(self.times):
            self.threads.add(threading.get_ident())
            yield item

    def flush(self) -> str:
        self.threads.add(threading.get_ident())
        return "end"


def test_an_item_is_through_when_put_is_back() -> None:
    node = Where()
    with Pipeline([node]).open() as session:
        session.put(1)
        assert node.seen == [1]
        session.end()
        assert list(session) == [1, "end"]

    assert node.threads == {threading.get_ident()}


def test_an_error_is_raised_by_the_iteration_not_by_put() -> None:
    class Bad(Kept, Fails):
        pass

    with Pipeline([Bad(1)]).open() as session:
        for number in range(3):
            session.put(number)
        outputs = iter(session)
        first = next(outputs)
        with pytest.raises(NodeError, match="bad 1"):
            next(outputs)
        session.end()
        rest = list(session)

    assert (first, rest) == (0, [2])


@pytest.mark.parametrize("times", [1, 7])
def test_a_producer_processes_on_its_own_thread_even_if_outputs_have_no_room(times: int) -> None:
    """The thread that takes outputs meanwhile does not run the nodes."""
    node = Where(times)
    with Pipeline([node]).open(queue_size=3) as session:
        is_taking, outputs = threading.Event(), []

        def take() -> None:
            is_taking.set()
            outputs.extend(session)

        consumer = Worker(take)
        session.put(0)
        assert is_taking.wait(TIMEOUT_SECS)
        while not session.consumers.is_main_taken(threading.get_ident()):
            pass
        for number in range(1, 50):
            session.put(number)
        session.end()
        consumer.result()

    assert outputs == [number for number in range(50) for _ in range(times)] + ["end"]
    assert node.threads == {threading.get_ident()}


def test_one_thread_may_put_more_items_than_outputs_fit() -> None:
    """Outputs without room wait for the iteration, on the same thread."""
    node = Where(5)
    with Pipeline([node]).open(queue_size=2) as session:
        session.put(1)
        session.put(2)
        session.end()
        outputs = list(session)

    assert outputs == [1] * 5 + [2] * 5 + ["end"]
    assert node.threads == {threading.get_ident()}


@pytest.mark.parametrize("way", ["call", "map", "map range", "put"])
def test_items_that_a_node_puts_into_its_own_session_follow_after_its_call(way: str) -> None:
    class Asks(Where):
        def process(self, item: Any) -> Any:
            self.seen.append(item)
            if item > 1:
                self.session.put(item - 1)
            return item

    node = Asks()
    with Pipeline([node]).open() as node.session:
        if way == "call":
            assert node.session.call(3) == 3
        elif way == "put":
            node.session.put(3)
        else:
            assert next(iter(node.session.map([3] if way == "map" else range(3, 4)))) == 3
        assert node.seen == [3, 2, 1]


def test_a_put_waits_for_a_call_of_another_thread() -> None:
    class Holds(Where):
        def process(self, item: Any) -> Any:
            self.seen.append(item)
            if item == "call":
                is_there.set()
                assert may_go.wait(TIMEOUT_SECS)
            return item

    is_there, may_go, node = threading.Event(), threading.Event(), Holds()
    with Pipeline([node]).open() as session:
        calling = Worker(lambda: session.call("call"))
        assert is_there.wait(TIMEOUT_SECS)
        putting = Worker(lambda: (session.put("put"), list(node.seen)))
        may_go.set()

        assert calling.result() == "call"
        assert putting.result()[1] == ["call", "put"]


def test_many_threads_may_put_and_take_at_once() -> None:
    node = Where(2)
    with Pipeline([node]).open(queue_size=4) as session:
        producers = [Worker(lambda: [session.put(number) for number in range(100)]) for _ in range(4)]
        taking = Worker(lambda: list(session))
        for producer in producers:
            producer.result()
        session.end()
        outputs = taking.result()

    assert sorted(outputs[:-1]) == sorted([*range(100)] * 8)
    assert outputs[-1] == "end"


def test_a_keyboard_interrupt_is_raised_by_put() -> None:
    class Stops(Kept):
        def process(self, item: Any) -> Any:
            if item == "stop":
                raise KeyboardInterrupt
            return item

    with Pipeline([Stops()]).open() as session:
        with pytest.raises(KeyboardInterrupt):
            session.put("stop")
        session.put("new")
        session.end()
        assert list(session) == ["new"]


def test_a_node_sees_the_context_of_the_put() -> None:
    request = ContextVar("request", default="none")

    class Reads(Kept):
        def process(self, item: Any) -> str:
            read = request.get()
            request.set("changed")
            return read

    request.set("mine")
    with Pipeline([Reads()]).open() as session:
        session.put(1)
        session.end()
        assert list(session) == ["mine"]
    assert request.get() == "mine"


def test_an_end_is_flushed_by_the_thread_that_calls_it() -> None:
    node = Where()
    with Pipeline([node]).open() as session:
        taking = Worker(lambda: list(session))
        session.end()
        assert taking.result() == ["end"]

    assert node.threads == {threading.get_ident()}


class Slow:
    """Works until `may_go` is set, and has nothing that belongs to a thread."""

    def __init__(self) -> None:
        self.is_there, self.may_go = threading.Event(), threading.Event()
        self.threads: set[int] = set()

    def process(self, item: Any) -> Any:
        self.threads.add(threading.get_ident())
        self.is_there.set()
        assert self.may_go.wait(TIMEOUT_SECS)
        return item


class SlowNode(Slow, Node):
    """The inherited methods have no effect."""


class SlowOnTheLoop(Kept):
    """All its methods run on the loop."""

    def __init__(self) -> None:
        self.is_there, self.may_go = threading.Event(), threading.Event()

    async def process(self, item: Any) -> Any:
        self.is_there.set()
        assert await asyncio.to_thread(self.may_go.wait, TIMEOUT_SECS)
        return item


class Passes(Kept):
    """Has something that belongs to a thread."""

    def process(self, item: Any) -> Any:
        return item


@pytest.mark.parametrize(
    ("kind", "others"), [(Slow, []), (SlowNode, []), (SlowOnTheLoop, []), (SlowOnTheLoop, [Passes()])]
)
def test_put_does_not_wait_for_nodes_that_need_no_thread_of_their_own(
    kind: type[Any], others: list[Any]
) -> None:
    node = kind()
    with Pipeline([node, *others]).open() as session:
        session.put(1)
        assert node.is_there.wait(TIMEOUT_SECS)
        node.may_go.set()
        session.put(2)
        session.end()
        assert list(session) == [1, 2]

    assert threading.get_ident() not in getattr(node, "threads", ())


def test_a_cleanup_alone_keeps_a_node_to_the_thread_that_closes() -> None:
    class Closes(Where):
        initialize = None  # type: ignore[assignment]

        def cleanup(self) -> None:
            self.threads.add(threading.get_ident())

    node = Closes()
    with Pipeline([node]).open() as session:
        session.put(1)
        assert node.seen == [1]

    assert node.threads == {threading.get_ident()}
