"""Nodes of every kind that use a database in all their methods, and record the threads that run these."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


class Store:
    """Opens a database in `initialize`, uses it everywhere, and closes it in `cleanup`: all on one thread."""

    db: sqlite3.Connection

    def __init__(self) -> None:
        self.threads: dict[str, set[int]] = {}

    def note(self, method: str) -> None:
        self.threads.setdefault(method, set()).add(threading.get_ident())

    def initialize(self) -> None:
        self.note("initialize")
        self.db = sqlite3.connect(":memory:")
        self.db.execute("create table seen (item)")

    def count(self, item: object) -> int:
        self.db.execute("insert into seen values (?)", (str(item),))
        return int(self.db.execute("select count(*) from seen").fetchone()[0])

    def process(self, item: Any) -> Any:
        self.note("process")
        return self.count(item)

    def flush(self) -> Any:
        self.note("flush")
        return self.count("flush")

    def interrupt(self) -> None:
        self.note("interrupt")
        self.count("interrupt")

    def cleanup(self) -> None:
        self.note("cleanup")
        self.db.close()

    @property
    def thread(self) -> int:
        """The only thread that ran a method."""
        (thread,) = set().union(*self.threads.values())
        return thread


class Generator(Store):
    def process(self, item: Any) -> Iterator[int]:
        self.note("process")
        yield self.count(item)
        yield self.count(item)

    def flush(self) -> Iterator[int]:
        self.note("flush")
        yield self.count("flush")


class Batches(Store):
    def process(self, items: list[Any]) -> list[int]:
        self.note("process")
        return [self.count(item) for item in items]


class Source(Store):
    def process(self) -> Iterator[int]:  # type: ignore[override]
        self.note("process")
        for number in range(3):
            yield self.count(number)


class Coroutine(Store):
    async def process(self, item: Any) -> int:
        self.note("process")
        await asyncio.sleep(0)
        return self.count(item)


class AsyncGenerator(Store):
    async def process(self, item: Any) -> Any:
        self.note("process")
        yield self.count(item)
        await asyncio.sleep(0)
        yield self.count(item)

    flush = Generator.flush  # type: ignore[assignment]


class Streaming(Store):
    is_streaming = True

    async def process(self, items: Any) -> Any:
        self.note("process")
        async for item in items:
            yield self.count(item)


def store_of(node: Any) -> Store:
    store: Store = getattr(node, "node", node)
    return store
