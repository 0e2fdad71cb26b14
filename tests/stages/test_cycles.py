"""Pipelines that would wait for themselves: the node receives an error immediately, which names the cycle."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest
import worker_nodes

from remotemedia import Pipeline, execute_pipeline_with_input, with_options
from remotemedia.exceptions import NodeError, PipelineError
from remotemedia.nodes import OutputNode

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

pytestmark = pytest.mark.timeout(30)

ITSELF = "would wait for itself"


class Asks:
    """Uses its session while it processes an item."""

    session: Any = None

    def __init__(self, word: str = "call") -> None:
        self.word = word

    def ask(self) -> Any:
        if self.word == "map":
            return list(self.session.map([1]))
        return self.session.call(1) if self.word == "call" else getattr(self.session, self.word)()

    def process(self, item: Any) -> Any:
        return self.ask()


class AsksInAGenerator(Asks):
    def process(self, item: Any) -> Iterator[Any]:
        yield item
        yield self.ask()


class AsksLater(Asks):
    async def ask_later(self) -> Any:
        if self.word == "map":
            return [output async for output in self.session.map([1])]
        return await (self.session.call(1) if self.word == "call" else getattr(self.session, self.word)())

    async def process(self, item: Any) -> Any:
        await asyncio.sleep(0)
        return await self.ask_later()


class AsksLaterInAGenerator(AsksLater):
    async def process(self, item: Any) -> AsyncIterator[Any]:
        yield item
        yield await self.ask_later()


class AsksInAStream(AsksLater):
    is_streaming = True

    async def process(self, items: AsyncIterator[Any]) -> AsyncIterator[Any]:
        async for _ in items:
            await asyncio.sleep(0)
            yield await self.ask_later()


class AsksInATask(AsksLater):
    async def process(self, item: Any) -> Any:
        return await asyncio.create_task(self.ask_later())


WORDS = ["call", "map", "drain", "interrupt", "close"]
PLAIN = [Asks, AsksInAGenerator]
LATER = [AsksLater, AsksLaterInAGenerator, AsksInAStream, AsksInATask]


def cause_of(error: pytest.ExceptionInfo[BaseException]) -> str:
    assert isinstance(error.value.__cause__, PipelineError)
    return str(error.value.__cause__)


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("kind", PLAIN)
@pytest.mark.parametrize("placement", ["inline", "thread"])
def test_a_node_of_plain_python_that_waits_for_its_session_is_refused(
    word: str, kind: type[Asks], placement: str
) -> None:
    node = kind(word)
    with Pipeline([with_options(node, placement=placement)]).open() as node.session:
        with pytest.raises(NodeError) as error:
            node.session.call(1)

        assert f"called {word}() of its own session" in cause_of(error)


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("kind", LATER)
@pytest.mark.parametrize("options", [{}, {"placement": "thread"}, {"concurrency": 2}])
def test_an_async_node_that_waits_for_its_session_is_refused(
    word: str, kind: type[AsksLater], options: dict[str, Any]
) -> None:
    if options.get("concurrency") and kind is AsksInAStream:
        pytest.skip("a streaming node has one stream")

    async def main() -> pytest.ExceptionInfo[BaseException]:
        node = kind(word)
        async with Pipeline([with_options(node, **options) if options else node]).open() as node.session:
            with pytest.raises(NodeError) as error:
                await node.session.call(1)
            return error

    assert f"called {word}() of its own session" in cause_of(asyncio.run(main()))


def test_an_async_node_that_calls_a_session_of_plain_python_is_refused() -> None:
    class Blocks(Asks):
        async def process(self, item: Any) -> Any:
            return self.ask()

    node = Blocks()
    with Pipeline([node]).open() as node.session:
        with pytest.raises(NodeError) as error:
            node.session.call(1)

        assert ITSELF in cause_of(error)


def test_a_node_that_puts_more_than_the_queue_holds_is_refused() -> None:
    class Floods(Asks):
        def process(self, item: Any) -> None:
            for number in range(1000 if item == "first" else 0):
                self.session.put(number)

    node = Floods()
    with Pipeline([with_options(node, placement="thread", queue_size=2)]).open() as node.session:
        with pytest.raises(NodeError) as error:
            node.session.call("first")

        assert "called put()" in cause_of(error)


def test_a_task_that_outlives_its_call_may_call_the_session() -> None:
    class LeavesATask(AsksLater):
        async def process(self, item: Any) -> Any:
            if item == "first":
                self.task = asyncio.create_task(self.call_again())
            return item

        async def call_again(self) -> Any:
            await self.may_continue.wait()
            return await self.session.call("again")

    async def main() -> Any:
        node = LeavesATask()
        node.may_continue = asyncio.Event()
        async with Pipeline([node]).open() as node.session:
            await node.session.call("first")
            node.may_continue.set()
            return await node.task

    assert asyncio.run(main()) == "again"


def test_a_task_that_outlives_its_call_does_not_belong_to_the_next_one() -> None:
    class Starts:
        session: Any = None
        task: Any = None

        async def later(self, goes_on: asyncio.Event) -> Any:
            await goes_on.wait()
            return await self.session.call("last")

        async def process(self, item: Any) -> Any:
            if item == "first":
                self.goes_on = asyncio.Event()
                self.task = asyncio.create_task(self.later(self.goes_on))
            elif item == "second":
                self.goes_on.set()
                await asyncio.sleep(0.05)
            return item

    async def main() -> Any:
        starts = Starts()
        async with Pipeline([starts]).open() as session:
            starts.session = session
            first = [await session.call(item) for item in ("first", "second")]
            return first, await starts.task

    assert asyncio.run(main()) == (["first", "second"], "last")


def test_a_call_does_not_belong_to_what_called_the_session_before() -> None:
    class Outer:
        async def process(self, item: Any) -> Any:
            if item == "first":
                await inner_session.call(item)
                is_there.set()
                await may_return.wait()
            return item

    class Inner:
        async def process(self, item: Any) -> Any:
            # It waits for the first call, which no longer waits for this node.
            return await outer_session.call("third") if item == "second" else item

    async def main() -> Any:
        nonlocal outer_session, inner_session, is_there, may_return
        is_there, may_return = asyncio.Event(), asyncio.Event()
        async with Pipeline([Outer()]).open() as outer_session, Pipeline([Inner()]).open() as inner_session:
            first = asyncio.create_task(outer_session.call("first"))
            await is_there.wait()
            second = asyncio.create_task(inner_session.call("second"))
            await asyncio.sleep(0.01)
            may_return.set()
            return await first, await second

    outer_session: Any = None
    inner_session: Any = None
    is_there: Any = None
    may_return: Any = None

    assert asyncio.run(main()) == ("first", "third")


def test_a_thread_of_a_node_may_call_the_session() -> None:
    class HasAThread(Asks):
        def process(self, item: Any) -> Any:
            if item == "first":
                threading.Thread(target=lambda: results.append(self.session.call("again"))).start()
            return item

    results: list[Any] = []
    node = HasAThread()
    with Pipeline([with_options(node, placement="thread")]).open() as node.session:
        node.session.call("first")
        for thread in threading.enumerate():
            if thread.name.startswith("Thread-"):
                thread.join()

    assert results == ["again"]


@pytest.mark.parametrize("placement", ["inline", "thread", "process"])
@pytest.mark.parametrize("option", ["dead_letter", "on_error"])
def test_a_callback_for_failures_that_calls_its_session_is_refused(placement: str, option: str) -> None:
    def again(item: Any, error: Any) -> None:
        try:
            session.call(5)
        except PipelineError as refused:
            errors.append(str(refused))

    errors: list[str] = []
    node = with_options(worker_nodes.Raise(), placement=placement, **{option: again})
    with Pipeline([node]).open() as session:
        assert list(session.map([ValueError(1), ValueError(2)])) == []

    assert [ITSELF in text for text in errors] == [True, True]


@pytest.mark.parametrize("placement", ["inline", "thread"])
def test_a_callback_of_an_output_node_that_calls_its_session_is_refused(placement: str) -> None:
    node = with_options(OutputNode(callback=lambda _: session.drain()), placement=placement)
    with Pipeline([node]).open() as session, pytest.raises(NodeError, match=ITSELF):
        session.call(1)


class RunsItself:
    async def process(self, number: int) -> Any:
        return (await execute_pipeline_with_input([self], [number - 1]))[0]


class RunsItselfInALoop:
    def process(self, number: int) -> Any:
        return asyncio.run(execute_pipeline_with_input([self], [number - 1]))


class RunsItselfInASession:
    def process(self, number: int) -> Any:
        with Pipeline([self]).open() as session:
            return session.call(number)


@pytest.mark.parametrize("kind", [RunsItself, RunsItselfInALoop])
def test_a_node_that_runs_a_pipeline_with_itself_is_refused(kind: Any) -> None:
    with pytest.raises(NodeError) as error:
        asyncio.run(execute_pipeline_with_input([kind()], [2]))

    assert ITSELF in cause_of(error)


@pytest.mark.parametrize("placement", ["inline", "thread"])
@pytest.mark.parametrize("kind", [RunsItself, RunsItselfInALoop, RunsItselfInASession])
def test_a_node_of_a_session_that_opens_a_pipeline_with_itself_is_refused(kind: Any, placement: str) -> None:
    node = with_options(kind(), placement=placement)
    with Pipeline(name="outer").add_node(node, id="a").open() as session:
        with pytest.raises(NodeError) as error:
            session.call(2)

        assert "node 'a' of pipeline 'outer' → node" in cause_of(error)


class Calls:
    """Calls another pipeline."""

    other: Any = None
    barrier: threading.Barrier | None = None

    def process(self, item: Any) -> Any:
        if self.barrier is not None:
            self.barrier.wait()
        return self.other.call(item)


class CallsLater(Calls):
    async def process(self, item: Any) -> Any:
        await asyncio.sleep(0)
        return await self.other.call(item)


@pytest.mark.parametrize("placement", ["inline", "thread"])
def test_two_sessions_that_call_each_other_are_refused(placement: str) -> None:
    first, second = Calls(), Calls()
    x = Pipeline(name="x").add_node(with_options(first, placement=placement), id="a")
    y = Pipeline(name="y").add_node(with_options(second, placement=placement), id="b")
    with x.open() as second.other, y.open() as first.other:
        with pytest.raises(NodeError) as error:
            second.other.call(1)

        refused = error.value.__cause__.__cause__
        path = "node 'a' of pipeline 'x' → node 'b' of pipeline 'y' → pipeline 'x'"
        assert isinstance(refused, PipelineError)
        assert path in str(refused)


def test_two_async_sessions_that_call_each_other_are_refused() -> None:
    async def main() -> str:
        first, second = CallsLater(), CallsLater()
        async with Pipeline([first]).open() as second.other, Pipeline([second]).open() as first.other:
            with pytest.raises(NodeError) as error:
                await second.other.call(1)
            return str(error.value.__cause__.__cause__)

    assert ITSELF in asyncio.run(main())


@pytest.mark.parametrize("placement", ["inline", "thread"])
def test_two_sessions_that_wait_for_each_other_crosswise_are_refused(placement: str) -> None:
    def call(session: Any) -> None:
        try:
            session.call(1)
        except NodeError as error:
            errors.append(str(error))

    errors: list[str] = []
    first, second = Calls(), Calls()
    first.barrier = second.barrier = threading.Barrier(2)
    x, y = (Pipeline([with_options(node, placement=placement)]) for node in (first, second))
    with x.open() as second.other, y.open() as first.other:
        threads = [threading.Thread(target=call, args=(node.other,)) for node in (first, second)]
        for thread in threads:
            thread.start()
        while not errors:
            threads[0].join(0.01)
        first.barrier.abort()
        for thread in threads:
            thread.join()

    assert any(ITSELF in text for text in errors)


def test_two_runs_that_share_their_nodes_crosswise_are_refused() -> None:
    class Runs:
        other: Any = None
        has_begun: asyncio.Event

        async def process(self, item: Any) -> Any:
            self.has_begun.set()
            await self.other.has_begun.wait()
            return item and await execute_pipeline_with_input([self.other], [item - 1])

    async def main() -> list[Any]:
        nodes = [Runs(), Runs()]
        for node, other in (nodes, reversed(nodes)):
            node.other, node.has_begun = other, asyncio.Event()
        runs = (execute_pipeline_with_input([node], [1]) for node in nodes)
        return await asyncio.gather(*runs, return_exceptions=True)

    assert any(ITSELF in str(outcome) for outcome in asyncio.run(main()))
