"""The use and the cost of workers: two cores, and the time until a worker is ready."""

from __future__ import annotations

import functools
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.harness.measuring import Benchmark, alternate
from benchmarks.harness.timing import millis_to_read
from benchmarks.workers.worker_nodes import Spin, Weighty, WhoAmI
from remotemedia import Pipeline, with_options

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from multiprocessing.connection import Connection

    from benchmarks.harness.measuring import Effort, Samples

    Stream = Callable[[Iterable[int]], Iterable[int]]

__all__ = ["BENCHMARKS"]

ITEMS = 200
QUICK_SECS = 0.0001
KILLED_AT = 10_000
"""So many outputs of a stream come before the kill."""


def two_workers(effort: Effort) -> Samples:
    """Two nodes in a worker each."""
    nodes = [with_options(Spin(), placement="process", queue_size=64) for _ in range(2)]
    return _to_inline(nodes, [Spin(), Spin()], effort)


def two_quick_workers(effort: Effort) -> Samples:
    """The same for nodes of a tenth of the time."""
    nodes = [with_options(Spin(QUICK_SECS), placement="process") for _ in range(2)]
    return _to_inline(nodes, [Spin(QUICK_SECS), Spin(QUICK_SECS)], effort, 10 * ITEMS)


def two_pipes(effort: Effort) -> Samples:
    """The same two nodes, by hand."""
    spawn = multiprocessing.get_context("spawn")
    (first_out, first_in), (second_out, second_in), (last_out, last_in) = (
        spawn.Pipe(duplex=False) for _ in range(3)
    )
    processes = [
        spawn.Process(target=_work, args=(Spin(), first_out, second_in)),
        spawn.Process(target=_work, args=(Spin(), second_out, last_in)),
    ]
    for process in processes:
        process.start()

    def by_hand(items: Iterable[int]) -> Iterable[int]:
        for item in items:
            first_in.send(item)
        return (last_out.recv() for _ in items)

    try:
        with Pipeline([Spin(), Spin()]).open() as alone:
            return _alternate_streams(by_hand, alone.map, effort)
    finally:
        first_in.send(None)
        for process in processes:
            process.join()


def _work(node: Spin, before: Connection, behind: Connection) -> None:
    node.initialize()
    while (item := before.recv()) is not None:
        behind.send(node.process(item))
    behind.send(None)


def two_replicas(effort: Effort) -> Samples:
    """One node in two workers."""
    return _to_inline([with_options(Spin(), placement="process", replicas=2)], [Spin()], effort)


def _to_inline(nodes: list[Any], inline: list[Any], effort: Effort, items: int = ITEMS) -> Samples:
    with Pipeline(nodes).open() as session, Pipeline(inline).open() as alone:
        return _alternate_streams(session.map, alone.map, effort, items)


def _alternate_streams(ours: Stream, baseline: Stream, effort: Effort, items: int = ITEMS) -> Samples:
    return alternate(
        lambda: millis_to_read(ours(range(items)), items),
        lambda: millis_to_read(baseline(range(items)), items),
        effort.rounds(12),
    )


def _opening(node: Any) -> float:
    opening = Pipeline([with_options(node, placement="process")]).open()
    started = perf_counter()
    with opening:
        return (perf_counter() - started) * 1e3


def ready(effort: Effort) -> Samples:
    """From opening a session to its worker's being ready."""

    def nothing() -> float:
        started = perf_counter()
        subprocess.run([sys.executable, "-c", "pass"], check=True)
        return (perf_counter() - started) * 1e3

    return alternate(lambda: _opening(WhoAmI()), nothing, effort.rounds(24))


def replaced(effort: Effort) -> Samples:
    """From a kill to the next output."""
    # Each death is a warning, and the table has no room for them.
    logging.getLogger("remotemedia").setLevel(logging.ERROR)
    killed = Pipeline().add_node(WhoAmI(), placement="process", max_restarts=10_000, restart_window=0.001)
    with killed.open() as session:

        def ours() -> float:
            process = session.call(0)
            started = perf_counter()
            os.kill(process, signal.SIGKILL)
            while session.call(0) == process:
                pass
            return (perf_counter() - started) * 1e3

        return alternate(ours, lambda: _opening(WhoAmI()), effort.rounds(24))


def replaced_in_a_stream(effort: Effort) -> Samples:
    """From a kill in the middle of a stream of packs to the first output of the next worker."""
    logging.getLogger("remotemedia").setLevel(logging.ERROR)
    killed = Pipeline().add_node(WhoAmI(), placement="process", max_restarts=10_000, restart_window=0.001)
    with killed.open() as session:

        def ours() -> float:
            started, process = 0.0, 0
            for place, output in enumerate(session.map(range(1_000_000))):
                if place == KILLED_AT:
                    process, started = output, perf_counter()
                    os.kill(process, signal.SIGKILL)
                elif place > KILLED_AT and output != process:
                    break
            return (perf_counter() - started) * 1e3

        return alternate(ours, lambda: _opening(WhoAmI()), effort.rounds(24))


def weights(effort: Effort) -> Samples:
    """A node of 10 MB against one without weights and a copy."""
    array = np.ones(1_310_720)
    target = np.empty_like(array)

    def baseline() -> float:
        # Its worker must import numpy as well.
        took = _opening(Weighty(np.ones(1)))
        started = perf_counter()
        np.copyto(target, array)
        return took + (perf_counter() - started) * 1e3

    return alternate(lambda: _opening(Weighty(array)), baseline, effort.rounds(24))


_row = functools.partial(Benchmark, unit="ms")

BENCHMARKS = [
    _row(
        "two-workers",
        "two nodes of 1 ms of Python, a worker each",
        "both in this process",
        0.53,
        two_workers,
        compared_by="ratio",
    ),
    _row(
        "two-quick-workers",
        "the same, nodes of 0.1 ms",
        "both in this process",
        0.6,
        two_quick_workers,
        compared_by="ratio",
    ),
    _row(
        "two-pipes",
        "nodes of 1 ms by hand, processes and pipes",
        "both in this process",
        None,
        two_pipes,
        compared_by="ratio",
    ),
    _row(
        "two-replicas",
        "one such node with replicas=2",
        "in this process",
        0.53,
        two_replicas,
        compared_by="ratio",
    ),
    _row(
        "worker-ready",
        "a session with one worker opened",
        "python -c pass",
        80,
        ready,
        compared_by="difference",
    ),
    _row(
        "worker-replaced",
        "kill to the next output",
        "a session with one worker opened",
        20,
        replaced,
        compared_by="difference",
    ),
    _row(
        "worker-replaced-map",
        "kill in the middle of session.map to the next output",
        "a session with one worker opened",
        20,
        replaced_in_a_stream,
        compared_by="difference",
    ),
    _row(
        "worker-weights",
        "a worker of a node of 10 MB opened",
        "the same without weights, and one copy",
        5,
        weights,
        compared_by="difference",
    ),
]
