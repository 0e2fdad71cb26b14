"""Live calls in a process of their own: `python -m benchmarks.sessions.live_programs SIDE KIND CALLS SECS`.

Each call has a source of frames that keeps to the clock, and two nodes: a function on a thread and a
coroutine, or two coroutines. SIDE is `session`, a session for each call, or `queues`, the code of a
programmer. The program prints the processor time, the lateness of the outputs, the threads, and
the memory of a call.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import statistics
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from time import perf_counter, process_time
from typing import TYPE_CHECKING, Any

from remotemedia import Node, Pipeline

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    Work = Callable[["Call"], Coroutine[Any, Any, None]]

FRAMES_PER_SEC = {"placed": 50, "async": 10}
QUEUE_SIZE = 64


@dataclass
class Frame:
    """Some audio, and when it was captured."""

    due: float
    samples: bytes
    is_silent: bool = False


class Start:
    """The moment at which all calls begin, because all of them are open."""

    def __init__(self, calls: int) -> None:
        self.missing = calls
        self.all_are_open = asyncio.Event()
        self.began = 0.0

    async def wait(self) -> float:
        """Return the moment."""
        self.missing -= 1
        if not self.missing:
            self.began = perf_counter()
            self.all_are_open.set()
        await self.all_are_open.wait()
        return self.began


class Microphone(Node):
    """A source that keeps to the clock."""

    def __init__(self, start: Start, delay: float, frames: int, frames_per_sec: int) -> None:
        super().__init__()
        self.start = start
        self.delay = delay
        self.frames = frames
        self.frames_per_sec = frames_per_sec

    async def process(self) -> AsyncIterator[Frame]:
        """Yield the frames, each when it is due."""
        samples = bytes(640)
        first_due = await self.start.wait() + self.delay
        for number in range(self.frames):
            due = first_due + number / self.frames_per_sec
            if (wait := due - perf_counter()) > 0:
                await asyncio.sleep(wait)
            yield Frame(due, samples)


class Detect(Node):
    """A function that looks at the samples."""

    def process(self, frame: Frame) -> Frame:
        """Return the frame, marked if it is silent."""
        frame.is_silent = not any(frame.samples)
        return frame


class DetectLater(Node):
    """The same as a coroutine."""

    async def process(self, frame: Frame) -> Frame:
        """Return the frame, marked if it is silent."""
        frame.is_silent = not any(frame.samples)
        return frame


class Reply(Node):
    """A coroutine."""

    async def process(self, frame: Frame) -> Frame:
        """Return the frame."""
        return frame


@dataclass
class Call:
    """One call, and how late its outputs were."""

    microphone: Microphone
    lateness: list[float] = field(default_factory=list)

    def note(self, frame: Frame) -> None:
        """Record an output."""
        self.lateness.append(perf_counter() - frame.due)


async def placed_in_session(call: Call) -> None:
    """A session with a thread."""
    detect = Detect().with_options(placement="thread")
    await _take_all(call, Pipeline([call.microphone, detect, Reply()]))


async def async_in_session(call: Call) -> None:
    """A session on the event loop."""
    await _take_all(call, Pipeline([call.microphone, DetectLater(), Reply()]))


async def _take_all(call: Call, pipeline: Pipeline) -> None:
    async with pipeline.open() as session:
        async for frame in session:
            call.note(frame)


async def placed_in_queues(call: Call) -> None:
    """Two tasks, and a thread between two queues."""
    detect, reply = Detect(), Reply()
    loop = asyncio.get_running_loop()
    captured: SimpleQueue[Frame | None] = SimpleQueue()
    detected: asyncio.Queue[Frame | None] = asyncio.Queue()
    room = asyncio.Semaphore(QUEUE_SIZE)

    def detect_all() -> None:
        while (frame := captured.get()) is not None:
            loop.call_soon_threadsafe(detected.put_nowait, detect.process(frame))
        loop.call_soon_threadsafe(detected.put_nowait, None)

    async def capture() -> None:
        async for frame in call.microphone.process():
            await room.acquire()
            captured.put(frame)
        captured.put(None)

    thread = threading.Thread(target=detect_all)
    thread.start()
    source = asyncio.create_task(capture())
    while (frame := await detected.get()) is not None:
        call.note(await reply.process(frame))
        room.release()
    await source
    thread.join()


async def async_in_queues(call: Call) -> None:
    """Two tasks with a queue between them."""
    detect, reply = DetectLater(), Reply()
    captured: asyncio.Queue[Frame | None] = asyncio.Queue(QUEUE_SIZE)

    async def capture() -> None:
        async for frame in call.microphone.process():
            await captured.put(frame)
        await captured.put(None)

    source = asyncio.create_task(capture())
    while (frame := await captured.get()) is not None:
        call.note(await reply.process(await detect.process(frame)))
    await source


WORKS: dict[tuple[str, str], Work] = {
    ("session", "placed"): placed_in_session,
    ("session", "async"): async_in_session,
    ("queues", "placed"): placed_in_queues,
    ("queues", "async"): async_in_queues,
}


async def hold(work: Work, count: int, frames_per_sec: int, secs: float) -> dict[str, float]:
    """Have all calls at the same time, and measure them."""
    gc.collect()
    kib_before = _resident_kib()
    start = Start(count)
    frames = round(secs * frames_per_sec)
    # The frames of different calls are due at different times.
    delays = [number / count / frames_per_sec for number in range(count)]
    calls = [Call(Microphone(start, delay, frames, frames_per_sec)) for delay in delays]
    tasks = [asyncio.create_task(work(call)) for call in calls]

    await start.all_are_open.wait()
    cpu_before = process_time()
    await asyncio.sleep(secs / 2)
    threads, kib = _thread_count(), _resident_kib() - kib_before
    await asyncio.gather(*tasks)
    cpu = process_time() - cpu_before

    lateness = [secs for call in calls for secs in call.lateness]
    if len(lateness) != count * frames:
        raise AssertionError(f"{len(lateness)} of {count * frames} frames came out")
    return {
        "cpu_ms": cpu * 1e3,
        "late_ms": statistics.quantiles(lateness, n=100)[-1] * 1e3,
        "threads": threads,
        "kib": kib / count,
    }


def _thread_count() -> int:
    return sum(1 for _ in Path("/proc/self/task").iterdir())


def _resident_kib() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1024


async def main(side: str, kind: str, count: int, secs: float) -> None:
    """Hold a few calls that load what all of them need, and then those that are measured."""
    work = WORKS[side, kind]
    await hold(work, 2, FRAMES_PER_SEC[kind], 0.2)
    print(json.dumps(await hold(work, count, FRAMES_PER_SEC[kind], secs)))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])))
