"""All methods of a node run on one thread, or on one event loop."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest
from store_nodes import AsyncGenerator, Batches, Coroutine, Generator, Source, Store, Streaming, store_of

from remotemedia import Pipeline, execute_pipeline, execute_pipeline_with_input, with_options
from remotemedia.exceptions import NodeError

if TYPE_CHECKING:
    from collections.abc import Callable


def run_once(node: Any) -> None:
    asyncio.run(execute_pipeline_with_input([node], [1, 2, 3]))


def nodes(given: Any) -> list[Any]:
    """A chain, of one node or as given."""
    return given if isinstance(given, list) else [given]


def call(node: Any) -> None:
    with Pipeline(nodes(node)).open() as session:
        session.call(1)
        session.interrupt()
        session.call(2)


def map_items(node: Any) -> None:
    with Pipeline(nodes(node)).open() as session:
        list(session.map([1, 2, 3]))
        session.interrupt()


def put(node: Any) -> None:
    with Pipeline(nodes(node)).open() as session:
        session.put(1)
        session.put(2)
        session.end()
        list(session)


def put_without_end(node: Any) -> None:
    with Pipeline(nodes(node)).open() as session:
        session.put(1)
        session.interrupt()
        session.put(2)


def put_and_drain(node: Any) -> None:
    with Pipeline(nodes(node)).open(queue_size=2) as session:
        for number in range(3):
            session.put(number)
        session.drain()


def async_call(node: Any) -> None:
    async def work() -> None:
        async with Pipeline([node]).open() as session:
            await asyncio.gather(session.call(1), session.call(2))
            await session.interrupt()
            await session.call(3)

    asyncio.run(work())


def async_map(node: Any) -> None:
    async def work() -> None:
        async with Pipeline([node]).open() as session:
            assert [output async for output in session.map([1, 2, 3])]
            await session.interrupt()

    asyncio.run(work())


def async_put(node: Any) -> None:
    async def work() -> None:
        async with Pipeline([node]).open() as session:
            await session.put(1)
            session.end()
            assert [output async for output in session]

    asyncio.run(work())


def process(node: Any) -> None:
    async def work() -> None:
        assert [output async for output in Pipeline([node]).process([1, 2])]

    asyncio.run(work())


def reference(node: Any) -> None:
    asyncio.run(Pipeline([node]).run([1, 2], use_rust=False))


def runs_in_block(node: Any) -> None:
    async def work() -> None:
        pipeline = Pipeline([node])
        async with pipeline.managed_execution():
            assert await pipeline.run([1, 2])
            assert await pipeline.run(iter([1, 2]))
            assert await execute_pipeline_with_input(pipeline, [1, 2])
            await execute_pipeline(pipeline)

    asyncio.run(work())


def streams_in_block(node: Any) -> None:
    async def work() -> None:
        pipeline = Pipeline([node])

        async def stream() -> None:
            assert [output async for output in pipeline.process([1, 2])]

        async with pipeline.managed_execution():
            await asyncio.gather(stream(), stream(), pipeline.run([1]))

    asyncio.run(work())


BLOCKS = [runs_in_block, streams_in_block]
WAYS = [run_once, call, map_items, put, async_call, async_map, async_put, process, reference, *BLOCKS]

THREADED: dict[str, Callable[[], Any]] = {
    "thread": lambda: with_options(Store(), placement="thread"),
    "generator on a thread": lambda: with_options(Generator(), placement="thread"),
    "queue": lambda: with_options(Store(), queue_size=4),
    "time limit": lambda: with_options(Generator(), timeout=20),
    "batches": lambda: with_options(Batches(), batch=2),
}
ASYNC: dict[str, Callable[[], Any]] = {
    "coroutine": Coroutine,
    "async generator": AsyncGenerator,
    "streaming": Streaming,
    "coroutine on a thread": lambda: with_options(Coroutine(), placement="thread"),
    "concurrency": lambda: with_options(Coroutine(), concurrency=3),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", [*THREADED, *ASYNC])
def test_all_methods_run_on_one_thread(kind: str, way: Callable[[Any], None]) -> None:
    """`sqlite3` refuses every other thread than the one that connected."""
    node = {**THREADED, **ASYNC}[kind]()

    way(node)

    assert {"initialize", "process", "cleanup"} <= store_of(node).threads.keys()
    assert store_of(node).thread


@pytest.mark.parametrize("way", [call, map_items, put])
@pytest.mark.parametrize("kind", [*THREADED])
def test_a_stage_with_a_thread_leaves_the_caller_alone(kind: str, way: Callable[[Any], None]) -> None:
    """A node with its own thread is not entered by the thread that opens, calls or closes."""
    node = THREADED[kind]()

    way(node)

    assert store_of(node).thread != threading.get_ident()


@pytest.mark.parametrize("way", [async_call, async_map, async_put, process, reference, *BLOCKS])
@pytest.mark.parametrize("kind", [*ASYNC])
def test_async_nodes_run_on_the_event_loop(kind: str, way: Callable[[Any], None]) -> None:
    """Their `def` methods, too."""
    node = ASYNC[kind]()

    way(node)

    assert store_of(node).thread == threading.get_ident()


@pytest.mark.parametrize("way", [call, map_items, put, put_without_end, put_and_drain])
@pytest.mark.parametrize("options", [{}, {"retries": 1}])
@pytest.mark.parametrize("kind", [Store, Generator])
def test_calls_of_plain_python_run_where_they_are_made(
    kind: type[Store], options: dict[str, Any], way: Callable[[Any], None]
) -> None:
    """An all-inline pipeline uses only the thread of the caller, whatever its nodes return."""
    node = kind()

    way(with_options(node, **options))

    assert node.thread == threading.get_ident()


@pytest.mark.parametrize("way", [call, map_items, put, put_without_end, put_and_drain])
@pytest.mark.parametrize("order", ["async first", "async last", "async between"])
@pytest.mark.parametrize("kind", [Store, Generator])
def test_def_nodes_beside_async_ones_keep_to_one_thread(
    kind: type[Store], order: str, way: Callable[[Any], None]
) -> None:
    """`put` cannot take an item through a coroutine, so all methods run on the thread of the session."""
    first, last = kind(), kind()
    chain = {
        "async first": [Coroutine(), first],
        "async last": [first, Coroutine()],
        "async between": [first, Coroutine(), last],
    }[order]

    way(chain)

    assert first.thread != threading.get_ident()
    if order == "async between":
        assert last.thread == first.thread


@pytest.mark.parametrize("way", [async_call, async_map, async_put, *BLOCKS])
def test_an_async_session_has_one_thread_for_nodes_without_a_stage(way: Callable[[Any], None]) -> None:
    """No matter which thread opens, calls and closes."""
    node = Generator()

    way(node)

    assert node.thread != threading.get_ident()


@pytest.mark.parametrize("options", [{}, {"placement": "thread"}])
def test_a_source_runs_on_one_thread(options: dict[str, Any]) -> None:
    """In a run and in both kinds of sessions."""

    async def iterate(node: Any) -> None:
        async with Pipeline([node]).open() as session:
            assert [output async for output in session] == [1, 2, 3, 4]

    sources = [with_options(Source(), **options) for _ in range(3)]
    asyncio.run(execute_pipeline([sources[0]]))
    with Pipeline([sources[1]]).open() as session:
        assert list(session) == [1, 2, 3, 4]
    asyncio.run(iterate(sources[2]))

    assert all(store_of(source).thread for source in sources)


@pytest.mark.parametrize("options", [{}, {"batch": 2}, {"ordered": False}])
def test_every_replica_has_one_thread(options: dict[str, Any]) -> None:
    """Each copy that a factory makes is initialized, called, flushed and cleaned up on its own thread."""
    made: list[Store] = []

    def factory() -> Store:
        made.append(Batches() if "batch" in options else Store())
        return made[-1]

    replicated = with_options(factory, placement="thread", replicas=3, **options)
    with Pipeline([replicated]).open() as session:
        for _ in range(3):
            list(session.map(range(20)))
        session.interrupt()

    assert len({store.thread for store in made}) == 3


def test_a_cleanup_after_a_failure_runs_on_the_thread_of_the_node() -> None:
    """Also when a later node fails to initialize."""

    class Broken:
        def initialize(self) -> None:
            raise ValueError("no model")

        def process(self, item: Any) -> Any:
            return item

    store = Store()
    with (
        pytest.raises(NodeError, match="no model"),
        Pipeline([with_options(store, queue_size=2), Broken()]).open(),
    ):
        pass

    assert store.threads.keys() == {"initialize", "cleanup"}
    assert store.thread != threading.get_ident()


def test_a_cleanup_after_a_cancellation_runs_on_the_thread_of_the_node() -> None:
    """A cancelled run cleans its nodes up where they were initialized."""
    store, begun = Store(), asyncio.Event()

    class Waiting:
        async def process(self, item: Any) -> Any:
            begun.set()
            await asyncio.Event().wait()

    async def work() -> None:
        run = asyncio.create_task(execute_pipeline([with_options(store, placement="thread"), Waiting()]))
        await begun.wait()
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run

    asyncio.run(work())

    assert "cleanup" in store.threads
    assert store.thread != threading.get_ident()


def test_nodes_are_initialized_in_the_context_of_the_opener() -> None:
    """Context variables reach `initialize` and `cleanup` on another thread."""
    import contextvars

    request = contextvars.ContextVar("request", default="none")
    seen: list[str] = []

    class Node:
        def initialize(self) -> None:
            seen.append(request.get())

        def process(self, item: Any) -> Any:
            return item

        def cleanup(self) -> None:
            seen.append(request.get())

    request.set("mine")
    with Pipeline([with_options(Node(), placement="thread")]).open():
        pass

    assert seen == ["mine", "mine"]


class OfWorker:
    """Returns which of its methods ran on the main thread of its process."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, bool]] = []

    def note(self, method: str) -> None:
        self.seen.append((method, threading.current_thread() is threading.main_thread()))

    def initialize(self) -> None:
        self.note("initialize")

    def process(self, item: Any) -> Any:
        self.note("process")
        return self.seen

    def interrupt(self) -> None:
        self.note("interrupt")

    def snapshot(self) -> int:
        self.note("snapshot")
        return 0

    def restore(self, state: int) -> None:
        self.note("restore")


def test_a_worker_runs_all_methods_on_its_main_thread() -> None:
    """Signals and GUI toolkits need it."""
    with Pipeline([with_options(OfWorker(), placement="process", snapshot_every=1)]).open() as session:
        session.call(1)
        session.interrupt()
        session.call(2)
        seen = session.call(3)

    assert set(seen) == {(method, True) for method in ["initialize", "process", "interrupt", "snapshot"]}
