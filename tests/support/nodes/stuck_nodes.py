"""Nodes that wait for ever, and calls that are cancelled meanwhile."""

from __future__ import annotations

import asyncio
import threading


class Noting:
    """Records its calls."""

    def __init__(self, name, log):
        self.name = name
        self.log = log

    def initialize(self):
        self.log.append(f"initialize {self.name}")

    def process(self, item):
        return item

    def cleanup(self):
        self.log.append(f"cleanup {self.name}")


class Stuck(Noting):
    """Waits for ever in one of its methods, and sets `is_there` when it does."""

    def __init__(self, log):
        super().__init__("stuck", log)
        self.loop = asyncio.get_running_loop()
        self.is_there = asyncio.Event()
        self.may_return = threading.Event()

    def arrive(self):
        self.loop.call_soon_threadsafe(self.is_there.set)

    async def stay(self):
        self.arrive()
        try:
            await asyncio.Event().wait()
        finally:
            self.log.append("left")

    def stay_in_thread(self):
        self.arrive()
        self.may_return.wait()
        self.log.append("left")


async def cancelled(call, is_there):
    """Start a call, cancel it when the event is set, and wait for its end."""
    task = asyncio.create_task(call)
    await is_there.wait()
    task.cancel("enough")
    await asyncio.wait([task])
    return task
