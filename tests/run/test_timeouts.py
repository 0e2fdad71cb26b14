"""`timeout`: calls that take too long."""

from __future__ import annotations

import asyncio

import pytest
from stream_nodes import TIMEOUT_SECS, Add, AsyncHold, Hold

from remotemedia import Pipeline, execute_pipeline_with_input, with_options
from remotemedia.exceptions import (
    NodeTimeoutError,
    SessionClosedError,
)


def run(nodes, items):
    return asyncio.run(execute_pipeline_with_input(nodes, items))


class TestTimeout:
    @pytest.mark.parametrize("options", [{}, {"placement": "thread"}, {"concurrency": 4}])
    def test_a_coroutine_is_cancelled_and_the_session_continues(self, options):
        hold = AsyncHold("held")

        with Pipeline([with_options(hold, timeout=0.02, **options)]).open() as session:
            with pytest.raises(
                NodeTimeoutError, match="Node 'AsyncHold_0' took longer than 0.02 s"
            ) as caught:
                session.call("held")
            result = session.call("next")

        assert hold.cancelled == ["held"]
        assert (caught.value.node_id, caught.value.phase) == ("AsyncHold_0", "process")
        assert result == "next"

    @pytest.mark.parametrize("options", [{}, {"placement": "thread"}, {"concurrency": 4}])
    def test_an_async_generator_is_cancelled_and_the_session_continues(self, options):
        hold = AsyncHold("held")

        class Generates:
            async def process(self, item):
                yield await hold.process(item)
                yield item

        node = with_options(Generates(), timeout=0.05, **options)
        with Pipeline([node]).open() as session:
            with pytest.raises(
                NodeTimeoutError, match="'Generates_0' took longer than 0.05 s in process.* 0$"
            ):
                session.call("held")
            result = session.call("next")

        assert hold.cancelled == ["held"]
        assert result == ["next", "next"]

    @pytest.mark.parametrize("use_rust", [True, False])
    @pytest.mark.parametrize("options", [{}, {"on_error": "skip"}])
    def test_a_run_cancels_an_async_generator(self, options, use_rust):
        hold = AsyncHold("held")

        class Generates:
            async def process(self, item):
                yield item
                yield await hold.process(item)

        run = Pipeline([with_options(Generates(), timeout=0.05, **options)]).run(["held"], use_rust=use_rust)
        if options:
            assert asyncio.run(run) == ["held"]
        else:
            with pytest.raises(NodeTimeoutError, match="took longer than 0.05 s in process\\(\\) on item 0$"):
                asyncio.run(run)

        assert hold.cancelled == ["held"]

    def test_each_output_of_an_async_generator_has_its_own_time(self):
        class Generates:
            async def process(self, item):
                for number in range(item):
                    await asyncio.sleep(0.02)
                    yield number

        assert run([with_options(Generates(), timeout=0.2)], [15]) == [*range(15)]

    @pytest.mark.parametrize("options", [{}, {"placement": "thread"}])
    def test_a_call_that_cannot_be_stopped_ends_the_session(self, options):
        hold = Hold("held")

        with Pipeline([with_options(hold, timeout=0.05, **options)]).open() as session:
            with pytest.raises(
                NodeTimeoutError, match="the call cannot be stopped, so the session was closed"
            ):
                session.call("held")
            hold.go.set()
            with pytest.raises((NodeTimeoutError, SessionClosedError)):
                session.call("next")

    def test_a_run_ends_with_it_too(self):
        with pytest.raises(NodeTimeoutError, match="took longer than 0.02 s in process\\(\\) on item 1"):
            run([with_options(AsyncHold("held"), timeout=0.02)], ["first", "held"])

    def test_a_call_within_its_timeout_is_not_affected(self):
        assert run([with_options(Add(), timeout=TIMEOUT_SECS)], range(100)) == list(range(1, 101))

    def test_it_can_be_tried_again(self):
        node = AsyncHold("held")
        node.process = first_time_only(node)

        assert run([with_options(node, timeout=0.02, retries=1)], ["held"]) == ["held"]
        assert node.cancelled == ["held"]


def first_time_only(node):
    process, tries = node.process, []

    async def once(item):
        tries.append(item)
        return await process(item) if len(tries) == 1 else item

    return once
