"""A database that a node opens in `initialize` works in `process` and `cleanup`, wherever the node runs.

`sqlite3` itself refuses every other thread than the one that connected.
"""

from __future__ import annotations

import asyncio
import sqlite3

import pytest

from remotemedia import Pipeline, execute_pipeline_with_input

WORDS = ["go", "forward", "ten"]


class Store:
    """Stores its items, and returns their number."""

    def initialize(self):
        self.database = sqlite3.connect(":memory:")
        self.database.execute("create table words (word)")

    def count(self, word):
        self.database.execute("insert into words values (?)", [word])
        return self.database.execute("select count(*) from words").fetchone()[0]

    def process(self, word):
        return self.count(word)

    def flush(self):
        return -self.count("the end")

    def cleanup(self):
        self.database.close()


class Generator(Store):
    def process(self, word):
        yield self.count(word)


class Coroutine(Store):
    async def process(self, word):
        await asyncio.sleep(0)
        return self.count(word)


class AsyncGenerator(Store):
    async def process(self, word):
        await asyncio.sleep(0)
        yield self.count(word)


class Streaming(Store):
    is_streaming = True

    async def process(self, words):
        async for word in words:
            yield self.count(word)
        yield -self.count("the end")


def words():
    yield from WORDS


async def words_later():
    for word in WORDS:
        await asyncio.sleep(0)
        yield word


async def put_all(session):
    for word in WORDS:
        await session.put(word)
    session.end()
    return [output async for output in session]


def run_list(pipeline):
    return asyncio.run(execute_pipeline_with_input(pipeline, WORDS))


def run_generator(pipeline):
    return asyncio.run(execute_pipeline_with_input(pipeline, words()))


def run_async_generator(pipeline):
    return asyncio.run(execute_pipeline_with_input(pipeline, words_later()))


def call(pipeline):
    with pipeline.open() as session:
        return [session.call(word) for word in WORDS]


def map_items(pipeline):
    with pipeline.open() as session:
        return list(session.map(words()))


def put(pipeline):
    with pipeline.open() as session:
        for word in WORDS:
            session.put(word)
        session.end()
        return list(session)


def in_session(work):
    def way(pipeline):
        async def main():
            async with pipeline.open() as session:
                return await work(session)

        return asyncio.run(main())

    return way


async def call_in_turn(session):
    return [await session.call(word) for word in WORDS]


async def map_list(session):
    return [output async for output in session.map(WORDS)]


async def map_async_generator(session):
    return [output async for output in session.map(words_later())]


CALLS = {"call": call, "awaited call": in_session(call_in_turn)}
STREAMS = {
    "run of a list": run_list,
    "run of a generator": run_generator,
    "run of an async generator": run_async_generator,
    "map": map_items,
    "put": put,
    "awaited map of a list": in_session(map_list),
    "awaited map of an async generator": in_session(map_async_generator),
    "awaited put": in_session(put_all),
}
PLACEMENTS = {"none": {}, **{name: {"placement": name} for name in ("inline", "thread", "process")}}


@pytest.mark.parametrize("kind", [Store, Generator, Coroutine, AsyncGenerator, Streaming])
@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("way", [*CALLS, *STREAMS])
def test_a_database_works_in_every_placement(way, placement, kind):
    pipeline = Pipeline("words").add_node(kind(), **PLACEMENTS[placement])

    outputs = {**CALLS, **STREAMS}[way](pipeline)

    assert outputs == ([1, 2, 3] if way in CALLS else [1, 2, 3, -4])


@pytest.mark.parametrize("order", [(Store, Coroutine, Generator), (Coroutine, Store, AsyncGenerator)])
@pytest.mark.parametrize("placements", [("inline", "none", "thread"), ("none", "thread", "inline")])
@pytest.mark.parametrize("way", [*CALLS, *STREAMS])
def test_databases_of_neighbours_in_different_places_work(way, placements, order):
    pipeline = Pipeline("words")
    for kind, placement in zip(order, placements, strict=True):
        node = kind()
        node.flush = lambda: None
        pipeline.add_node(node, **PLACEMENTS[placement])

    assert {**CALLS, **STREAMS}[way](pipeline) == [1, 2, 3]
