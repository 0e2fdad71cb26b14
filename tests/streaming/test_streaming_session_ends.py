"""Sessions with streaming nodes on the caller's event loop: failures, dropped items, and the end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import weakref
from typing import TYPE_CHECKING, Any

import pytest
from epoch_nodes import Pairs
from loop_nodes import Logs, Same, Waits, called, in_session, mapped
from stream_nodes import arrived, logged

from remotemedia.exceptions import NodeError, NodeTimeoutError, SessionInterruptedError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Fails:
    is_streaming = True

    async def process(self, items: AsyncIterator[int]) -> AsyncIterator[int]:
        seen = []
        async for item in items:
            seen.append(item)
            if item < 0:
                raise ValueError(item)
            yield len(seen)


def test_a_failure_has_its_node_and_item_and_the_stream_begins_again() -> None:
    async def main(session: Any) -> tuple[list[Any], NodeError]:
        for item in (1, 2, -1, 3, 4):
            await session.put(item)
        session.end()
        outputs: list[Any] = []
        errors = []
        stream = aiter(session)
        while True:
            try:
                outputs.append(await anext(stream))
            except NodeError as error:
                errors.append(error)
            except StopAsyncIteration:
                return outputs, errors[0]

    outputs, error = in_session([Same(), Fails(), Same()], main)

    assert outputs == [1, 2, 1, 2]
    assert (error.node_id, error.item_index, type(error.__cause__)) == ("Fails_1", 2, ValueError)


def test_a_failure_behind_it_restarts_it() -> None:
    class Picky:
        async def process(self, item: Any) -> Any:
            if item == ("b", "c"):
                raise ValueError(item)
            return item

    async def main(session: Any) -> list[Any]:
        await called(session, "a", "b")
        with pytest.raises(NodeError, match="Picky_1"):
            await session.call("c")
        return await called(session, "d", "e")

    assert in_session([Pairs(), Picky()], main) == [None, ("d", "e")]


@pytest.mark.parametrize("nodes", [[Waits], [Same, Waits, Same]])
def test_a_cancelled_call_restarts_it(nodes: list[Any]) -> None:
    created = [kind() for kind in nodes]
    waits = next(node for node in created if type(node) is Waits)

    async def main(session: Any) -> list[Any]:
        await session.call(0)
        call = asyncio.create_task(session.call(1))
        await waits.is_waiting.wait()
        behind = asyncio.create_task(session.call(2))
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        return [await behind, await session.call(3)]

    assert in_session(created, main) == [[2], [2, 3]]
    assert waits.log == ["closed", "closed", "cleanup"]


def test_a_call_that_is_cancelled_in_line_does_not_restart_it() -> None:
    class Holds:
        is_streaming = True

        async def process(self, items: AsyncIterator[int]) -> AsyncIterator[list[int]]:
            seen = []
            async for item in items:
                seen.append(item)
                has_begun.set()
                await may_continue.wait()
                yield seen

    has_begun, may_continue = asyncio.Event(), asyncio.Event()

    async def main(session: Any) -> Any:
        first, second = (asyncio.create_task(session.call(item)) for item in (1, 2))
        await has_begun.wait()
        second.cancel()
        await asyncio.wait([second])
        may_continue.set()
        await first
        return await session.call(3)

    assert in_session([Holds()], main) == [1, 3]


@pytest.mark.parametrize("is_inside", [False, True])
def test_an_interruption_restarts_it(*, is_inside: bool) -> None:
    waits = Waits()

    async def main(session: Any) -> Any:
        await session.call(0)
        if is_inside:
            call = asyncio.create_task(session.call(1))
            await waits.is_waiting.wait()
        assert await session.interrupt() == is_inside
        assert waits.log == ["closed"]
        if is_inside:
            with pytest.raises(SessionInterruptedError):
                await call
        return await session.call(3)

    assert in_session([waits], main) == [3]


def test_a_stream_that_is_left_with_outputs_restarts_it() -> None:
    async def main(session: Any) -> list[Any]:
        async with contextlib.aclosing(session.map("abcd")) as stream:
            first = await anext(stream)
        return [first, *await called(session, "e", "f")]

    assert in_session([Pairs()], main) == [("a", "b"), None, ("e", "f")]


def test_a_stream_that_is_left_before_its_end_restarts_it() -> None:
    async def two_and_no_end() -> Any:
        for item in "ab":
            yield item
        await asyncio.Event().wait()

    async def main(session: Any) -> list[Any]:
        async with contextlib.aclosing(session.map(two_and_no_end())) as stream:
            first = await anext(stream)
        return [first, *await called(session, "e", "f")]

    assert in_session([Pairs()], main) == [("a", "b"), None, ("e", "f")]


def test_it_is_closed_before_its_cleanup() -> None:
    log = Logs()
    waits = Waits()

    assert in_session([log, waits, Logs()], lambda session: called(session, 0, 2)) == [[0], [0, 2]]
    assert waits.log == ["closed", "cleanup"]


def test_what_it_raises_while_it_is_closed_is_raised_by_the_end() -> None:
    class Raises:
        is_streaming = True

        async def process(self, items: AsyncIterator[int]) -> AsyncIterator[int]:
            try:
                async for item in items:
                    yield item
            finally:
                await asyncio.sleep(0)
                raise LookupError("at the end")

    with pytest.raises(NodeError, match="at the end") as error:
        in_session([Raises()], lambda session: called(session, 0))

    assert (error.value.node_id, error.value.phase) == ("Raises_0", "cleanup")


def test_a_session_that_is_closed_during_a_call_closes_it() -> None:
    waits = Waits()

    async def main(session: Any) -> None:
        call = asyncio.create_task(session.call(1))
        await waits.is_waiting.wait()
        await session.close()
        assert (await asyncio.gather(call, return_exceptions=True))[0] is not None

    in_session([waits], main)

    assert waits.log == ["closed", "cleanup"]


def test_a_call_keeps_no_item() -> None:
    class Item:
        pass

    class Passes:
        is_streaming = True

        async def process(self, items: AsyncIterator[Any]) -> AsyncIterator[Any]:
            async for item in items:
                yield item
                del item

    async def main(session: Any) -> Any:
        item = Item()
        found = weakref.ref(item)
        await session.call(item)
        await mapped(session, [item])
        del item
        return found()

    gc.disable()
    try:
        assert in_session([Same(), Passes(), Same()], main) is None
    finally:
        gc.enable()


def test_a_node_that_does_not_return_is_reported_with_its_line() -> None:
    class Stuck:
        is_streaming = True

        async def process(self, items: AsyncIterator[int]) -> AsyncIterator[int]:
            async for item in items:
                with_events = has_begun, may_return
                has_begun.set()
                while not may_return.is_set():
                    # Nothing can cancel it.
                    await self.rest(with_events)
                yield item

        async def rest(self, _events: object) -> None:
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                return

    has_begun, may_return = asyncio.Event(), asyncio.Event()

    async def main(session: Any) -> str:
        call = asyncio.create_task(session.call(1))
        await has_begun.wait()
        with pytest.raises(NodeTimeoutError) as error:
            await session.close(timeout=0.1)
        may_return.set()
        await asyncio.gather(call, return_exceptions=True)
        assert error.value.node_id == "Stuck_1"
        return str(error.value)

    text = in_session([Same(), Stuck()], main)

    assert "await self.rest(with_events)" in text
    assert "await asyncio.sleep(0.01)" in text


def test_a_warning_shows_where_it_waits() -> None:
    async def main(session: Any) -> None:
        call = asyncio.create_task(session.call(1))
        await arrived(is_logged)
        call.cancel()

    with logged("node 'Waits_0' has been busy with item 0") as (is_logged, records):
        in_session([Waits()], main, stall_warning=0.3)

    assert any("await asyncio.Event().wait()" in record.getMessage() for record in records)
