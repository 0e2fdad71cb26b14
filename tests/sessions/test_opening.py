"""The block of a session: how it opens, its state after the block, and the common parts of both types."""

from __future__ import annotations

import asyncio
import itertools

import pytest
from stream_nodes import Add, AsyncHold, Hold, Noting, arrived

from remotemedia import AsyncSession, Pipeline, Session, with_options
from remotemedia.exceptions import NodeError, PipelineError


class TestOpening:
    def test_it_is_a_session(self):
        with Pipeline([Add()]).open() as session:
            assert type(session) is Session

    @pytest.mark.parametrize(
        ("options", "text"),
        [
            ({"que_size": 3}, "Unknown option 'que_size'; did you mean 'queue_size'?"),
            ({"queue_size": 0}, "queue_size=0 is not valid; use a whole number from 1 to 1000000"),
            (
                {"stall_warning": -1},
                "stall_warning=-1 is not valid; use a number of seconds above 0, or None",
            ),
            ({"stall_warnin": 1}, "Unknown option 'stall_warnin'; did you mean 'stall_warning'?"),
            (
                {"stall_warning": 1e300},
                "stall_warning=1e+300 is not valid; use a number of seconds above 0, or None",
            ),
            ({"enable_metrics": "yes"}, "enable_metrics='yes' is not valid; use True or False"),
            (
                {"retry_delay": 1e300},
                "retry_delay=1e+300 is not valid; use a number of seconds, 0 or more",
            ),
        ],
    )
    def test_impossible_options_are_refused_before_any_node_is_initialized(self, options, text):
        node = Noting()

        with pytest.raises(PipelineError) as caught:
            Pipeline([node]).open(**options)

        assert str(caught.value) == text
        assert node.log == []

    def test_before_the_block_the_error_says_how_to_open_it(self):
        opening = Pipeline([Add()], name="agent").open()
        how = "'with pipeline.open() as session:' ('async with' in asyncio)"

        with pytest.raises(AttributeError) as no_call:
            opening.call(1)
        with pytest.raises(TypeError) as no_iteration:
            iter(opening)
        with pytest.raises(AttributeError, match="'Opening' object has no attribute 'cal'"):
            opening.cal(1)

        assert repr(opening) == f"<Opening of pipeline 'agent': not open; use {how}>"
        assert str(no_call.value) == f"Pipeline 'agent' is not open, and call() needs a session; use {how}"
        assert (
            str(no_iteration.value)
            == f"Pipeline 'agent' is not open, and only its session is iterable; use {how}"
        )

    def test_it_is_open_once_at_a_time(self):
        log = []
        opening = Pipeline([Noting("a", log)], name="agent").open()

        with opening as session:
            with (
                pytest.raises(PipelineError, match="This object has already opened pipeline 'agent'"),
                opening,
            ):
                pass
            state = repr(opening)
            session.call(1)
        with opening as again:
            again.call(2)

        assert state == "<Opening of pipeline 'agent': open>"
        assert log == ["initialize a", 1, "cleanup a", "initialize a", 2, "cleanup a"]

    def test_one_that_failed_to_open_can_be_tried_again(self):
        class Unsteady(Add):
            has_failed = False

            def initialize(self):
                if not self.has_failed:
                    self.has_failed = True
                    raise OSError("busy")

        opening = Pipeline([Unsteady()]).open()

        with pytest.raises(NodeError, match="busy"), opening:
            pass
        with opening as session:
            assert session.call(1) == 2

    def test_the_repr_of_a_session_shows_its_state(self):
        class Source:
            def process(self):
                yield 1

        with Pipeline([Add()], name="agent").open() as session:
            states = [repr(session)]
            session.end()
            states.append(repr(session))
        states.append(repr(session))
        with Pipeline([Source()], name="live").open() as source:
            states.append(repr(source))

        assert states == [
            "<Session of pipeline 'agent': open>",
            "<Session of pipeline 'agent': open; accepts no more items after end()>",
            "<Session of pipeline 'agent': closed; call pipeline.open() for a new one>",
            "<Session of pipeline 'live': open; iterate over it for its outputs>",
        ]

    @pytest.mark.parametrize("kind", [Session, AsyncSession])
    def test_the_types_say_how_they_are_opened(self, kind):
        with pytest.raises(
            TypeError,
            match=f"^{kind.__name__} cannot be called directly; use 'with pipeline.open\\(\\) as session:'",
        ):
            kind()

    def test_a_node_that_fails_to_initialize_closes_all(self):
        log = []

        class Broken(Noting):
            def initialize(self):
                super().initialize()
                raise OSError("no model")

        with (
            pytest.raises(NodeError, match="no model"),
            Pipeline([Noting("a", log), Broken("b", log)]).open(),
        ):
            log.append("inside")

        assert log == ["initialize a", "initialize b", "cleanup b", "cleanup a"]

    def test_two_sessions_of_one_pipeline_take_turns_in_its_nodes(self):
        node = Noting()
        pipeline = Pipeline([node])

        with pipeline.open() as first, pipeline.open(placement="thread") as second:
            results = [first.call(1), second.call(2)]

        assert results == [1, 2]
        assert node.log == ["initialize node", 1, 2, "cleanup node"]


class TestAsyncBlock:
    def test_a_cancelled_task_stops_the_work_and_cleans_up(self):
        log = []

        async def main():
            hold = AsyncHold("held")
            entered = asyncio.Event()

            async def work():
                async with Pipeline([Noting(log=log), hold]).open() as session:
                    entered.set()
                    await session.call("held")

            task = asyncio.create_task(work())
            await entered.wait()
            await arrived(hold.is_there)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            return hold.cancelled, len(asyncio.all_tasks())

        assert asyncio.run(main()) == (["held"], 1)
        assert log == ["initialize node", "held", "cleanup node"]

    def test_a_task_cancelled_while_it_leaves_is_cancelled(self):
        async def main():
            hold = Hold()

            async def work():
                async with Pipeline([hold]).open() as session:
                    await session.put("item")

            task = asyncio.create_task(work())
            await arrived(hold.is_there)
            task.cancel()
            await asyncio.sleep(0)
            hold.go.set()
            await task

        with pytest.raises(asyncio.CancelledError):
            asyncio.run(main())

    def test_a_source_is_iterated_over(self):
        class Source:
            async def process(self):
                for number in itertools.count():
                    await asyncio.sleep(0)
                    yield number

        async def main():
            outputs = []
            async with Pipeline([Source(), Add()]).open() as session:
                async for output in session:
                    outputs.append(output)
                    if output == 3:
                        break
            return outputs

        assert asyncio.run(main()) == [1, 2, 3]

    @pytest.mark.parametrize("word", ["call", "map", "put"])
    def test_a_source_takes_no_items_from_elsewhere(self, word):
        class Source:
            def process(self):
                yield 1

        async def main():
            async with Pipeline([Source()], name="live").open() as session:
                with pytest.raises(PipelineError, match="takes no items; iterate over the session instead"):
                    await getattr(session, word)([1])
                return repr(session), [output async for output in session]

        assert asyncio.run(main()) == (
            "<AsyncSession of pipeline 'live': open; iterate over it for its outputs>",
            [1],
        )

    def test_drain_and_metrics_are_those_of_the_plain_session(self):
        async def main():
            node = Noting()
            async with Pipeline([node]).open(enable_metrics=True) as session:
                for number in range(20):
                    await session.put(number)
                await session.drain()
                return len(node.log), session.metrics()["items_in"]

        assert asyncio.run(main()) == (21, 20)

    def test_both_types_have_the_same_words(self):
        words = {"call", "map", "put", "end", "drain", "interrupt", "metrics", "close"}

        for kind in (Session, AsyncSession):
            assert words <= {name for name in dir(kind) if not name.startswith("_")}
            assert all((getattr(kind, word).__doc__ or "").strip() for word in words)


class TestWrongUse:
    """Each case was a hang, a panic or an unclear error; now it is an error that says what to do."""

    @pytest.mark.parametrize(
        ("timeout", "error", "text"),
        [
            ("soon", TypeError, "close(timeout=…) takes a number of seconds, not 'soon'"),
            (None, TypeError, "close(timeout=…) takes a number of seconds, not None"),
            (-1, PipelineError, "close(timeout=-1) is not valid; use a number of seconds, 0 or more"),
            (
                1e19,
                PipelineError,
                "close(timeout=1e+19) is not valid; use a number of seconds, 0 or more",
            ),
        ],
    )
    def test_a_deadline_that_is_none(self, timeout, error, text):
        with Pipeline([Add()]).open() as session:
            with pytest.raises(error) as caught:
                session.close(timeout)
            result = session.call(1)

        assert str(caught.value) == text
        assert result == 2

    @pytest.mark.parametrize("placement", ["inline", "thread"])
    def test_a_map_refuses_an_object_that_is_not_a_stream(self, placement):
        async def items():
            yield 1

        with Pipeline([Add()]).open(placement=placement) as session:
            with pytest.raises(
                TypeError, match="takes an iterable of items, not one int; call\\(\\) takes a single"
            ):
                session.map(5)
            with pytest.raises(
                TypeError, match="requires a session that was opened with 'async with pipeline.open\\(\\)'"
            ):
                session.map(items())

    def test_an_async_map_refuses_an_object_that_is_not_a_stream(self):
        async def main():
            async with Pipeline([Add()]).open() as session:
                with pytest.raises(TypeError, match="takes an iterable of items, not one NoneType"):
                    session.map(None)

        asyncio.run(main())

    @pytest.mark.parametrize("way", ["call", "put", "map", "iterate"])
    def test_an_async_session_in_another_event_loop(self, way):
        async def elsewhere(session):
            if way == "map":
                return [output async for output in session.map([1])]
            if way == "iterate":
                return [output async for output in session]
            return await getattr(session, way)(1)

        async def main():
            async with Pipeline([Add()], name="agent").open() as session:
                with pytest.raises(
                    PipelineError,
                    match="session of pipeline 'agent' belongs to the event loop that opened it",
                ):
                    await asyncio.to_thread(lambda: asyncio.run(elsewhere(session)))
                return await session.call(1)

        assert asyncio.run(main()) == 2

    @pytest.mark.parametrize("options", [{}, {"placement": "thread"}, {"queue_size": 2}])
    @pytest.mark.parametrize("way", ["call", "put", "map", "interrupt", "close"])
    def test_a_node_that_would_wait_for_itself(self, options, way):
        ways = {
            "call": lambda session: session.call("again"),
            "put": lambda session: [session.put("again") for _ in range(500)],
            "map": lambda session: list(session.map(["again"])),
            "interrupt": lambda session: session.interrupt(),
            "close": lambda session: session.close(),
        }

        class Selfish:
            def process(self, item):
                return ways[way](session) if item == "first" else item

        with (
            Pipeline([with_options(Selfish(), **options)]).open() as session,
            pytest.raises(NodeError) as caught,
        ):
            session.call("first")

        assert isinstance(caught.value.__cause__, PipelineError)
        assert "of its own session and would wait for itself; call it outside the session" in str(
            caught.value
        )
