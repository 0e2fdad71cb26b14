"""The behaviour of the reference executor that is visible apart from its outputs."""

from __future__ import annotations

import asyncio

import pytest

from remotemedia._asyncio.streaming import StreamingNode
from remotemedia._graph.node_kinds import classify, is_source, return_kind
from remotemedia.exceptions import NodeError


class TestKinds:
    @pytest.mark.parametrize("kind", ["plain", "generator", "coroutine", "async_generator"])
    def test_the_code_of_process_defines_its_kind(self, kind):
        class Node:
            def plain(self, item): ...

            def generator(self, item):
                yield

            async def coroutine(self, item): ...

            async def async_generator(self, item):
                yield

        node = Node()
        node.process = getattr(node, kind)

        assert classify(node) == kind

    def test_partials_and_callable_objects_are_looked_through(self):
        import functools

        class Call:
            async def __call__(self, item): ...

        class Node:
            # Without it, Python binds a partial from version 3.14 on.
            process = staticmethod(functools.partial(Call(), item=1))

        assert classify(Node()) == "coroutine"

    def test_a_flag_alone_makes_no_streaming_node(self):
        class Node:
            is_streaming = True

            def process(self, item): ...

        assert classify(Node()) == "plain"

    def test_a_decorated_streaming_node_is_still_one(self):
        import functools

        async def undecorated(items):
            yield

        class Node:
            is_streaming = True
            process = staticmethod(functools.wraps(undecorated)(lambda items: undecorated(items)))  # noqa: PLW0108

        assert classify(Node()) == "streaming"

    @pytest.mark.parametrize(
        ("process", "expected"),
        [
            (lambda: 1, True),
            (lambda item: 1, False),
            (lambda item=None: 1, False),
            (lambda *items: 1, False),
            (lambda *, rate=1: 1, True),
            (str.upper, False),
        ],
    )
    def test_a_source_takes_no_item(self, process, expected):
        class Node:
            pass

        node = Node()
        node.process = process

        assert is_source(node) is expected

    def test_generators_decorated_with_types_coroutine_are_awaited(self):
        import types

        @types.coroutine
        def old():
            yield

        result = old()

        assert return_kind(result) == "coroutine"
        result.close()


class TestStreamingNode:
    def test_a_node_that_ends_at_once_has_no_outputs(self):
        async def process(items):
            return
            yield

        async def main():
            node = StreamingNode(process)
            await node.push(1)
            return await node.next_output()

        assert asyncio.run(main()) == (False, None)

    def test_an_error_is_raised_where_the_output_is_requested(self):
        async def process(items):
            yield 1
            raise KeyError("later")

        async def main():
            node = StreamingNode(process)
            await node.push(1)
            first = await node.next_output()
            with pytest.raises(KeyError, match="later"):
                await node.next_output()
            return first, await node.next_output()

        assert asyncio.run(main()) == ((True, 1), (False, None))

    def test_the_next_output_is_not_made_before_it_is_asked_for(self):
        made = []

        async def process(items):
            for output in range(3):
                made.append(output)
                yield output

        async def main():
            node = StreamingNode(process)
            await node.push(1)
            await node.next_output()
            await asyncio.sleep(0)
            before = list(made)
            await node.close()
            return before

        assert asyncio.run(main()) == [0]

    def test_closing_ends_a_node_that_does_not_return(self):
        async def process(items):
            while True:
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    yield "still here"

        async def main():
            node = StreamingNode(process)
            await node.push(1)
            asking = asyncio.ensure_future(node.next_output())
            await asyncio.sleep(0)
            asking.cancel()
            await node.close()
            return len(asyncio.all_tasks())

        assert asyncio.run(main()) == 1


class TestLifecycle:
    def test_cleanup_runs_in_reverse_after_a_failure_in_initialize(self, run):
        log = []

        class Watched:
            def __init__(self, name, fails=False):
                self.name, self.fails = name, fails

            async def initialize(self):
                log.append(f"initialize {self.name}")
                if self.fails:
                    raise ValueError(self.name)

            def process(self, item): ...

            def cleanup(self):
                log.append(f"cleanup {self.name}")

        with pytest.raises(NodeError) as caught:
            run([Watched("a"), Watched("b", fails=True), Watched("c")], [1])

        assert caught.value.phase == "initialize"
        assert log == ["initialize a", "initialize b", "cleanup b", "cleanup a"]

    def test_a_generator_in_progress_is_closed_before_cleanup(self, run):
        log = []

        class Makes:
            def process(self, item):
                try:
                    yield 1
                finally:
                    log.append("closed")

            def cleanup(self):
                log.append("cleanup")

        class Fails:
            def process(self, item):
                raise ValueError

        with pytest.raises(NodeError):
            run([Makes(), Fails()], [1])

        assert log == ["closed", "cleanup"]
