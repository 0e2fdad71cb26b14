"""Nodes that take the whole stream, and empty items."""

from __future__ import annotations

import asyncio

import pytest

from remotemedia import Pipeline
from remotemedia.nodes import PassThroughNode


class TestStreamingNodes:
    def test_outputs_belong_to_the_item_before_the_next_is_asked_for(self, run):
        class Streaming:
            is_streaming = True

            async def process(self, items):
                total = 0
                async for item in items:
                    total += item
                    yield item
                    yield -item
                yield f"total {total}"

        pipeline = (
            Pipeline("p").add_node(Streaming(), id="stream").add_node(PassThroughNode(), id="all", after=[])
        )

        assert run(pipeline, [1, 2]) == [1, -1, 1, 2, -2, 2, "total 3"]

    def test_a_node_that_returns_early_ignores_further_items(self, run):
        class First:
            is_streaming = True

            async def process(self, items):
                async for item in items:
                    yield item
                    return

        assert run([First()], [1, 2, 3]) == [1]

    def test_it_is_closed_when_another_node_fails(self, run):
        log = []

        class Streaming:
            is_streaming = True

            async def process(self, items):
                try:
                    async for item in items:
                        yield item
                finally:
                    log.append("closed")

            def cleanup(self):
                log.append("cleanup")

        class Fails:
            def process(self, item):
                raise ValueError

        with pytest.raises(RuntimeError):
            run([Streaming(), Fails()], [1])

        assert log == ["closed", "cleanup"]

    def test_a_timeout_inside_it_works(self, run):

        class Impatient:
            is_streaming = True

            async def process(self, items):
                async for item in items:
                    async with asyncio.timeout(10):
                        await asyncio.sleep(0)
                    yield item

        assert run([Impatient()], [1, 2]) == [1, 2]


class TestEmptyItem:
    @pytest.mark.parametrize(
        ("annotation", "item"),
        [
            (str, ""),
            (int, 0),
            (float, 0),
            (list[int], []),
            (dict, {}),
            (bytes, b""),
            ("str", ""),
            ("dict[str, int]", {}),
            ("int | str", 0),
            ("str | None", ""),
            ("Unknown", None),
            (object, ""),
        ],
    )
    def test_it_has_the_type_that_process_takes(self, run, annotation, item):
        class Annotated:
            def process(self, data):
                return [data]

        Annotated.process.__annotations__["data"] = annotation

        assert run([Annotated()]) == [item]

    def test_nodes_without_annotations_are_skipped(self, run):
        class Text:
            def process(self, text: str):
                return text + "!"

        assert run([PassThroughNode(), Text()]) == "!"

    def test_the_annotation_of_a_streaming_node_defines_its_items(self, run):
        from collections.abc import AsyncIterator

        class Streaming:
            is_streaming = True

            async def process(self, items: AsyncIterator[str]):
                async for item in items:
                    yield [item]

        Streaming.process.__annotations__["items"] = AsyncIterator[str]

        assert run([Streaming()]) == [""]
