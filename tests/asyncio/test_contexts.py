"""Context variables of callers, task factories, and trace functions: they reach nodes wherever they run."""

from __future__ import annotations

import asyncio
import contextvars
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from remotemedia import Batch, Pipeline, execute_pipeline_with_input, with_options
from remotemedia.exceptions import NodeError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

REQUEST = contextvars.ContextVar("REQUEST", default="lost")


class Reads:
    """Returns the value of the variable."""

    def process(self, item: Any) -> str:
        return REQUEST.get()


class ReadsLater:
    async def process(self, item: Any) -> str:
        await asyncio.sleep(0)
        return REQUEST.get()


class ReadsTwice:
    def process(self, item: Any) -> Iterator[str]:
        yield REQUEST.get()
        yield REQUEST.get()


class ReadsTwiceLater:
    async def process(self, item: Any) -> AsyncIterator[str]:
        yield REQUEST.get()
        await asyncio.sleep(0)
        yield REQUEST.get()


class ReadsAll:
    is_streaming = True

    async def process(self, items: AsyncIterator[Any]) -> AsyncIterator[str]:
        async for _ in items:
            yield REQUEST.get()


class ReadsBatches:
    def process(self, items: list[Any]) -> list[str]:
        return [REQUEST.get()] * len(items)


class ReadsAtTheEnd:
    def process(self, item: Any) -> None:
        return None

    def flush(self) -> str:
        return REQUEST.get()


class Writes:
    """Returns the value of the variable, and sets another one."""

    def process(self, item: Any) -> str:
        found = REQUEST.get()
        REQUEST.set("written by a node")
        return found


class Source:
    def process(self) -> Iterator[str]:
        token = REQUEST.set("made")
        yield "first"
        REQUEST.reset(token)
        yield REQUEST.get()


KINDS: dict[str, Callable[[], Any]] = {
    "plain": Reads,
    "coroutine": ReadsLater,
    "generator": ReadsTwice,
    "async generator": ReadsTwiceLater,
    "streaming": ReadsAll,
    "thread": lambda: with_options(Reads(), placement="thread"),
    "coroutine on a thread": lambda: with_options(ReadsLater(), placement="thread"),
    "concurrency": lambda: with_options(ReadsLater(), concurrency=4),
    "concurrent generators": lambda: with_options(ReadsTwiceLater(), concurrency=4),
    "retries": lambda: with_options(ReadsLater(), concurrency=4, retries=1),
    "replicas": lambda: with_options(Reads, placement="thread", replicas=2),
}


@pytest.fixture(params=KINDS)
def node(request: pytest.FixtureRequest) -> Any:
    return KINDS[request.param]()


async def call_as(session: Any, name: str) -> Any:
    REQUEST.set(name)
    result = await session.call(name)
    return result[-1] if isinstance(result, list) else result


def test_each_call_of_an_async_session_has_the_context_of_its_caller(node: Any) -> None:
    async def main() -> list[Any]:
        async with Pipeline([node, Reads()]).open() as session:
            await call_as(session, "before")
            return await asyncio.gather(*(call_as(session, name) for name in "abc"))

    assert asyncio.run(main()) == ["a", "b", "c"]


def test_a_session_of_plain_python_has_the_context_of_its_caller(node: Any) -> None:
    def ask(name: str) -> Any:
        REQUEST.set(name)
        return {session.call(1) if not isinstance(session.call(1), list) else session.call(1)[-1]}

    with Pipeline([node, Reads()]).open() as session:
        results = [contextvars.copy_context().run(ask, name) for name in "ab"]

    assert results == [{"a"}, {"b"}]


def test_a_stream_has_the_context_of_the_caller_of_map(node: Any) -> None:
    async def main() -> set[Any]:
        async with Pipeline([node]).open() as session:
            REQUEST.set("a")
            return {output async for output in session.map(range(3))}

    assert asyncio.run(main()) == {"a"}


def test_a_run_has_the_context_of_its_caller(node: Any) -> None:
    async def main() -> set[Any]:
        REQUEST.set("a")
        return set(await execute_pipeline_with_input([node], [1, 2]))

    assert asyncio.run(main()) == {"a"}


@pytest.mark.parametrize("placement", ["inline", "thread"])
def test_each_item_that_is_put_in_has_the_context_of_its_putter(placement: str) -> None:
    def put(name: str) -> None:
        REQUEST.set(name)
        session.put(name)

    with Pipeline([with_options(Reads(), placement=placement)]).open() as session:
        for name in "ab":
            contextvars.copy_context().run(put, name)
        session.end()

        assert list(session) == ["a", "b"]


def test_the_end_of_input_has_the_context_of_its_caller() -> None:
    def end() -> None:
        REQUEST.set("a")
        session.end()

    with Pipeline([with_options(ReadsAtTheEnd(), placement="thread")]).open() as session:
        contextvars.copy_context().run(end)

        assert list(session) == ["a"]


@pytest.mark.parametrize("placement", ["inline", "thread"])
def test_a_source_and_the_nodes_after_it_have_the_context_of_the_opener(placement: str) -> None:
    async def main() -> list[Any]:
        REQUEST.set("a")
        pipeline = Pipeline([Source(), with_options(Writes(), placement=placement)])
        async with pipeline.open() as session:
            return [output async for output in session]

    assert asyncio.run(main()) == ["a", "a"]


def test_variables_that_a_node_sets_reach_neither_the_caller_nor_another_call() -> None:
    async def main() -> tuple[list[str], str]:
        REQUEST.set("a")
        async with Pipeline([with_options(Writes(), placement="thread")]).open() as session:
            return [await session.call(1), await session.call(2)], REQUEST.get()

    assert asyncio.run(main()) == (["a", "a"], "a")


@pytest.mark.parametrize("names", ["aa", "ab"])
def test_a_batch_has_the_variables_that_all_its_callers_share(names: str) -> None:
    async def main() -> list[Any]:
        async with Pipeline([with_options(ReadsBatches(), batch=Batch(2, max_wait=60.0))]).open() as session:
            return await asyncio.gather(*(call_as(session, name) for name in names))

    assert asyncio.run(main()) == (["a", "a"] if names == "aa" else ["lost", "lost"])


def test_a_dead_letter_has_the_context_of_the_caller_whose_item_failed() -> None:
    class Fails:
        async def process(self, item: str) -> None:
            await asyncio.sleep(0)
            raise ValueError(item)

    found = {}

    async def main() -> None:
        node = with_options(
            Fails(), concurrency=4, dead_letter=lambda item, _: found.update({item: REQUEST.get()})
        )
        async with Pipeline([node]).open() as session:
            await asyncio.gather(*(call_as(session, name) for name in "ab"))

    asyncio.run(main())

    assert found == {"a": "a", "b": "b"}


def only_two_arguments(loop: Any, work: Any) -> Any:
    return asyncio.Task(work, loop=loop)


FACTORIES = [
    only_two_arguments,
    pytest.param(
        getattr(asyncio, "eager_task_factory", None),
        marks=pytest.mark.skipif(sys.version_info < (3, 12), reason="Python 3.12 brought eager tasks"),
    ),
]


@pytest.mark.parametrize("factory", FACTORIES)
def test_async_nodes_run_under_any_task_factory(factory: Any, node: Any) -> None:
    async def main() -> Any:
        asyncio.get_running_loop().set_task_factory(factory)
        REQUEST.set("a")
        once = await execute_pipeline_with_input([node], [1])
        async with Pipeline([node]).open() as session:
            return {*once, await call_as(session, "a"), *[output async for output in session.map([1, 2])]}

    assert asyncio.run(main()) == {"a"}


@pytest.fixture(params=["trace", "profile"])
def seen(request: pytest.FixtureRequest) -> Iterator[set[int]]:
    """Yield the threads on which a trace function saw `process` begin."""
    found = set()

    def hook(frame: Any, event: str, argument: Any) -> None:
        if event == "call" and frame.f_code.co_name == "process":
            found.add(threading.get_ident())

    is_trace = request.param == "trace"
    set_hook = threading.settrace if is_trace else threading.setprofile
    before = threading.gettrace() if is_trace else threading.getprofile()
    set_hook(hook)
    try:
        yield found
    finally:
        set_hook(before)  # type: ignore[arg-type]


class Where:
    """Returns the id of its thread."""

    def process(self, item: Any) -> int:
        return threading.get_ident()


class SourceOfThreads:
    def process(self) -> Iterator[int]:
        yield threading.get_ident()


def test_hooks_for_threads_see_nodes_of_a_run(seen: set[int]) -> None:
    assert set(asyncio.run(execute_pipeline_with_input([Where()], [1]))) == seen


@pytest.mark.parametrize(
    "node",
    [
        with_options(Where(), placement="thread"),
        with_options(Where, placement="thread", replicas=2),
        with_options(Where(), on_error="skip"),
    ],
)
def test_hooks_for_threads_see_nodes_of_a_stage(seen: set[int], node: Any) -> None:
    async def main() -> None:
        async with Pipeline([node]).open() as session:
            assert await session.call(1) in seen

    asyncio.run(main())


def test_hooks_for_threads_see_sources(seen: set[int]) -> None:
    with Pipeline([SourceOfThreads()]).open() as session:
        assert set(session) == seen


def test_hooks_for_threads_see_coroutines_of_plain_python(seen: set[int]) -> None:
    class WhereLater:
        async def process(self, item: Any) -> int:
            return threading.get_ident()

    with Pipeline([WhereLater()]).open() as session:
        assert session.call(1) in seen


def test_the_error_of_a_node_is_the_same_under_a_hook(seen: set[int]) -> None:
    class Fails:
        def process(self, item: Any) -> None:
            raise ValueError(item)

    with pytest.raises(NodeError, match="ValueError: 1"):
        asyncio.run(execute_pipeline_with_input([Fails()], [1]))
    assert seen
