"""Nodes of compiled chains, and a stream that is their only user."""

from __future__ import annotations

import asyncio
from typing import Any


class Add:
    def __init__(self, amount: int = 1) -> None:
        self.amount = amount

    def process(self, item: int) -> int:
        return item + self.amount


class AsyncAdd(Add):
    async def process(self, item: int) -> int:
        await asyncio.sleep(0)
        return item + self.amount


class Twice:
    def __init__(self) -> None:
        self.closed: list[Any] = []

    def process(self, item: Any) -> Any:
        try:
            yield item
            yield item
        except GeneratorExit:
            self.closed.append(item)
            raise


class AsyncTwice(Twice):
    async def process(self, item: Any) -> Any:
        try:
            yield item
            yield item
        except GeneratorExit:
            self.closed.append(item)
            raise


class Calls:
    """A node whose `process` is any callable."""

    def __init__(self, process: Any) -> None:
        self.process = process


class Returns:
    def __init__(self, result: Any) -> None:
        self.result = result

    def process(self, item: int) -> Any:
        return self.result


class NoTurns:
    """The only user of its nodes."""

    is_shared = False

    async def breathe(self) -> None:
        pass
