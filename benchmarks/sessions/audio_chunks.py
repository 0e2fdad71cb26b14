"""A stream of small chunks of audio: what we add to nodes that take some microseconds each."""

from __future__ import annotations

import asyncio
import functools
import math
import statistics
from time import perf_counter
from typing import TYPE_CHECKING, Any

from benchmarks.harness.loop_timing import alternate_on_loop
from benchmarks.harness.measuring import Benchmark, NotMeasuredError, alternate
from benchmarks.harness.timing import micros_of_each
from remotemedia import Node, Pipeline

try:
    import numpy as np
except ImportError:
    np = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from numpy.typing import NDArray

    from benchmarks.harness.measuring import Effort, Samples

    Audio = NDArray[np.float32]

__all__ = ["BENCHMARKS"]

CHUNKS = 2_000
CHUNK_FRAMES = 320
"""20 ms at 16 kHz."""

QUIET = 0.01
WINDOW_CHUNKS = 10


class Resample(Node):
    """From 16 to 8 kHz."""

    def process(self, chunk: Audio) -> Audio:
        """Return half as many frames, each the mean of two."""
        return (chunk[0::2] + chunk[1::2]) * np.float32(0.5)


class VoiceActivity(Node):
    """Passes the chunks that are loud enough to be speech."""

    def process(self, chunk: Audio) -> Audio | None:
        """Return the chunk, unless it is quiet."""
        level = np.sqrt(np.mean(np.square(chunk)))
        return chunk if level > QUIET else None


class Aggregate(Node):
    """Joins as many chunks as a model takes at a time."""

    def initialize(self) -> None:
        """Begin with an empty list."""
        self.chunks: list[Audio] = []

    def process(self, chunk: Audio) -> Audio | None:
        """A window, when it is full."""
        self.chunks.append(chunk)
        if len(self.chunks) < WINDOW_CHUNKS:
            return None
        window = np.concatenate(self.chunks)
        self.chunks.clear()
        return window


def typical_chunk(effort: Effort) -> Samples:
    """The median of a session's calls against that of the direct calls."""
    return _one_by_one(statistics.median, effort)


def awaited_chunk(effort: Effort) -> Samples:
    """The median of the calls of a session in asyncio, whose nodes run on the event loop."""
    nodes, chunks = _nodes(), _chunks()
    process = _by_hand(nodes)

    async def by_hand() -> float:
        return statistics.median(micros_of_each(process, chunks))

    async def rounds() -> Samples:
        async with Pipeline([node.with_options(placement="inline") for node in nodes]).open() as session:
            return await alternate_on_loop(
                lambda: _time_each_await(session.call, chunks), by_hand, effort.rounds(60)
            )

    return asyncio.run(rounds())


def slow_chunk(effort: Effort) -> Samples:
    """The 99th percentile of one call, on both sides."""
    return _one_by_one(lambda times: statistics.quantiles(times, n=100)[-1], effort)


def stream_of_chunks(effort: Effort) -> Samples:
    """Chunks that come one by one, through `map`."""
    nodes, chunks = _nodes(), _chunks()
    with Pipeline(nodes).open() as session:

        def ours() -> float:
            started = perf_counter()
            for _ in session.map(chunk for chunk in chunks):
                pass
            return (perf_counter() - started) * 1e6 / CHUNKS

        def by_hand() -> float:
            process = _by_hand(nodes)
            started = perf_counter()
            for chunk in chunks:
                process(chunk)
            return (perf_counter() - started) * 1e6 / CHUNKS

        return alternate(ours, by_hand, effort.rounds(60))


def _one_by_one(summary: Callable[[list[float]], float], effort: Effort) -> Samples:
    nodes, chunks = _nodes(), _chunks()
    with Pipeline(nodes).open() as session:
        return alternate(
            lambda: summary(micros_of_each(session.call, chunks)),
            lambda: summary(micros_of_each(_by_hand(nodes), chunks)),
            effort.rounds(60),
        )


async def _time_each_await(call: Callable[[Audio], Awaitable[Audio | None]], chunks: list[Audio]) -> float:
    """Return the median in microseconds."""
    times = []
    for chunk in chunks:
        started = perf_counter()
        await call(chunk)
        times.append((perf_counter() - started) * 1e6)
    return statistics.median(times)


def _nodes() -> list[Any]:
    if np is None:
        raise NotMeasuredError("numpy is not installed")
    return [Resample(), VoiceActivity(), Aggregate()]


def _by_hand(nodes: list[Any]) -> Callable[[Audio], Audio | None]:
    """Run the code that a programmer would write for these three nodes."""
    resample, voice_activity, aggregate = nodes

    def process(chunk: Audio) -> Audio | None:
        speech = voice_activity.process(resample.process(chunk))
        return None if speech is None else aggregate.process(speech)

    return process


def _chunks() -> list[Audio]:
    """Noise that grows loud and falls silent, as speech does."""
    random = np.random.default_rng(seed=1)
    noise = random.uniform(-1, 1, size=(CHUNKS, CHUNK_FRAMES)).astype(np.float32)
    return [math.sin(index / 25) * chunk for index, chunk in enumerate(noise)]


_row = functools.partial(Benchmark, against="the direct calls", unit="µs", compared_by="ratio")

BENCHMARKS = [
    _row("audio-call", "20 ms of audio, 3 numpy nodes (median of calls)", bar=1.15, measure=typical_chunk),
    _row("audio-call-p99", "20 ms of audio, 3 numpy nodes (p99 of calls)", bar=1.3, measure=slow_chunk),
    _row("audio-map", "20 ms of audio, 3 numpy nodes, session.map", bar=1.15, measure=stream_of_chunks),
    _row("audio-await", "20 ms of audio, 3 numpy nodes inline, awaited call", bar=1.3, measure=awaited_chunk),
]
