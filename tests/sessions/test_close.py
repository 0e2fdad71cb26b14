"""`close` always ends within its timeout, in every state of the session, and names the node that hangs."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading

import pytest
from stream_nodes import TIMEOUT_SECS, AsyncHold, Hangs, Hold, Noting, Worker, arrived, logged, opened

from remotemedia import Pipeline, sessions, with_options
from remotemedia._session import async_session
from remotemedia.exceptions import NodeError, NodeTimeoutError, SessionClosedError

PLACEMENTS = pytest.mark.parametrize("placement", ["inline", "thread"])


class TestHangingNode:
    @PLACEMENTS
    def test_close_names_it_and_leaves(self, placement):
        hangs = Hangs()
        session = opened(Noting(), hangs, placement=placement)
        call = Worker(lambda: session.call("item"))
        assert hangs.is_there.wait(TIMEOUT_SECS)

        with pytest.raises(NodeTimeoutError) as caught:
            session.close(timeout=0.05)

        hangs.go.set()
        text = str(caught.value)
        assert text.startswith(
            "Node 'Hangs_1' did not finish item 0 within 0.05 s and was abandoned; its stack:\n"
        )
        assert "in hang_here" in text
        assert (caught.value.node_id, caught.value.item_index) == ("Hangs_1", 0)
        with contextlib.suppress(SessionClosedError):
            call.result()

    def test_the_other_nodes_are_cleaned_up(self):
        log = []
        hangs = Hangs()
        session = opened(
            Noting("a", log), with_options(hangs, queue_size=2), with_options(Noting("b", log), queue_size=2)
        )
        session.put("item")
        assert hangs.is_there.wait(TIMEOUT_SECS)

        with pytest.raises(NodeTimeoutError):
            session.close(timeout=0.05)

        hangs.go.set()
        assert log[-2:] == ["cleanup b", "cleanup a"]

    def test_a_node_that_returns_in_time_is_not_an_error(self):
        hold = Hold()
        session = opened(hold, placement="thread")
        session.put("item")
        assert hold.is_there.wait(TIMEOUT_SECS)
        closing = Worker(session.close)

        hold.go.set()

        assert closing.result() is None

    @PLACEMENTS
    def test_it_is_named_in_the_log_while_it_hangs(self, placement):
        hangs = Hangs("slow")

        with (
            logged("node 'Hangs_1' has been busy with item 0") as (is_logged, records),
            Pipeline([Noting(), hangs]).open(placement=placement, stall_warning=0.2) as session,
        ):
            call = Worker(lambda: session.call("slow"))
            assert is_logged.wait(TIMEOUT_SECS)
            hangs.go.set()
            result = call.result()

        [record] = records
        first_line, _, stack = record.getMessage().partition("\n")
        assert result == "slow"
        assert 0.2 <= float(first_line.split()[-4]) < TIMEOUT_SECS
        assert "in hang_here" in stack

    @pytest.mark.long  # As long as a run waits for its nodes.
    def test_a_run_that_fails_names_it_in_the_log(self):
        hangs = Hangs(1)

        class Breaks:
            def process(self, item):
                assert hangs.is_there.wait(TIMEOUT_SECS)
                raise OSError("broken")

        pipeline = Pipeline([hangs, with_options(Breaks(), placement="thread")])

        with (
            logged("was abandoned") as (is_logged, records),
            pytest.raises(NodeError, match="OSError: broken"),
        ):
            asyncio.run(pipeline.run(range(2)))

        hangs.go.set()
        assert is_logged.is_set()
        assert "Node 'Hangs_0' did not finish item 1 within 10 s" in records[-1].getMessage()


class TestLeaving:
    @PLACEMENTS
    def test_by_an_exception_stops_at_once(self, placement):
        hold = AsyncHold()

        def leave():
            with Pipeline([hold]).open(placement=placement) as session:
                session.put(1)
                assert hold.is_there.wait(TIMEOUT_SECS)
                raise KeyError("mine")

        with pytest.raises(KeyError, match="mine"):
            leave()
        assert hold.cancelled == [1]

    @pytest.mark.parametrize("order", [signal.SIGINT, signal.SIGTERM])
    @pytest.mark.parametrize("way", ["call", "map", "put", "drain", "iterate", "leave"])
    def test_by_a_signal_stops_every_wait(self, order, way):
        """Ctrl-C, and SIGTERM if the program turns it into SystemExit, as servers do."""
        hold = AsyncHold()
        ways = {
            "call": lambda session: session.call(1),
            "map": lambda session: list(session.map([1])),
            "put": lambda session: [session.put(number) for number in range(100)],
            "drain": lambda session: (session.put(1), session.drain()),
            "iterate": lambda session: (session.put(1), list(session)),
            "leave": lambda session: session.put(1),
        }

        def stop_soon():
            assert hold.is_there.wait(TIMEOUT_SECS)
            signal.pthread_kill(threading.main_thread().ident, order)

        def work():
            with Pipeline([hold]).open(queue_size=1) as session:
                Worker(stop_soon)
                ways[way](session)

        expected = KeyboardInterrupt if order == signal.SIGINT else SystemExit

        def stop(*_):
            raise expected

        # The parent of the tests may have set Ctrl-C to be ignored.
        before = signal.signal(order, stop)
        try:
            with pytest.raises(expected):
                work()
        finally:
            signal.signal(order, before)
        assert hold.cancelled

    @PLACEMENTS
    @pytest.mark.parametrize("way", ["call", "drain", "interrupt", "leave"])
    def test_by_ctrl_c_names_the_node_that_hangs(self, placement, way, monkeypatch):
        """It was not reported, and `interrupt` did not end."""
        monkeypatch.setattr(sessions, "CLOSE_TIMEOUT_SECS", 0.1)
        hangs = Hangs()
        ways = {
            "call": lambda session: session.call(2),
            "drain": lambda session: session.drain(),
            "interrupt": lambda session: session.interrupt(),
            "leave": lambda session: None,
        }

        def work():
            with Pipeline([hangs]).open(placement=placement) as session:
                session.put(1)
                assert hangs.is_there.wait(TIMEOUT_SECS)
                Worker(lambda: signal.pthread_kill(threading.main_thread().ident, signal.SIGINT))
                ways[way](session)

        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            with pytest.raises(KeyboardInterrupt) as caught:
                work()
        finally:
            signal.signal(signal.SIGINT, before)
            hangs.go.set()
        assert isinstance(caught.value.__context__, NodeTimeoutError)
        assert "Node 'Hangs_0' did not finish item 0" in str(caught.value.__context__)


class TestAsync:
    @pytest.mark.parametrize("way", ["call", "drain", "interrupt", "leave"])
    def test_a_cancelled_task_names_the_node_that_hangs(self, way, monkeypatch):
        monkeypatch.setattr(async_session, "CLOSE_TIMEOUT_SECS", 0.1)
        hangs = Hangs()

        def chain_of(error):
            while error is not None:
                yield error
                error = error.__context__

        async def work():
            async with Pipeline([hangs]).open() as session:
                await session.put(1)
                await arrived(hangs.is_there)
                asyncio.get_running_loop().call_later(0.02, asyncio.current_task().cancel)
                if way == "call":
                    await session.call(2)
                elif way != "leave":
                    await getattr(session, way)()

        async def main():
            try:
                await asyncio.create_task(work())
            except asyncio.CancelledError as error:
                return error

        error = asyncio.run(main())

        hangs.go.set()
        assert isinstance(error, asyncio.CancelledError)
        assert any(isinstance(one, NodeTimeoutError) for one in chain_of(error))

    def test_close_names_the_node_that_hangs(self):
        hangs = Hangs()

        async def main():
            async with Pipeline([hangs]).open() as session:
                call = asyncio.create_task(session.call("item"))
                await arrived(hangs.is_there)
                with pytest.raises(NodeTimeoutError, match="Node 'Hangs_0' did not finish item 0"):
                    await session.close(timeout=0.05)
                hangs.go.set()
                with pytest.raises(SessionClosedError):
                    await call

        asyncio.run(main())

    def test_a_cancelled_initialize_of_a_coroutine_is_cancelled(self):
        log = []

        class Loads(Noting):
            async def initialize(self):
                is_there.set()
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    log.append("cancelled")
                    raise

        async def main():
            async def work():
                async with Pipeline([Noting("a", log), Loads("b", log)]).open():
                    log.append("inside")

            task = asyncio.create_task(work())
            await arrived(is_there)
            task.cancel()
            await task

        is_there = threading.Event()
        with pytest.raises(asyncio.CancelledError):
            asyncio.run(main())
        assert log == ["initialize a", "cancelled", "cleanup b", "cleanup a"]

    def test_a_session_that_opens_while_its_task_is_cancelled_is_closed(self):
        log = []

        class Loads(Noting):
            def initialize(self):
                is_there.set()
                assert go.wait(TIMEOUT_SECS)
                super().initialize()

        async def main():
            async def work():
                async with Pipeline([Loads("a", log)]).open():
                    log.append("inside")

            task = asyncio.create_task(work())
            await arrived(is_there)
            task.cancel()
            await asyncio.sleep(0)
            go.set()
            await task

        is_there, go = threading.Event(), threading.Event()
        with pytest.raises(asyncio.CancelledError):
            asyncio.run(main())
        assert log == ["initialize a", "cleanup a"]

    def test_a_cancelled_drain_ends(self):
        async def main():
            hold = AsyncHold()
            async with Pipeline([hold]).open() as session:
                await session.put(1)
                draining = asyncio.create_task(session.drain())
                await arrived(hold.is_there)
                draining.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await draining
                await session.interrupt()
                return await asyncio.gather(session.drain(), return_exceptions=True)

        assert asyncio.run(main()) == [None]
