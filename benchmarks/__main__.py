"""`python -m benchmarks`: the table of results.

A result that misses its bar is marked; it does not fail the command.
"""

from __future__ import annotations

import argparse
import compileall
from pathlib import Path

import remotemedia
from benchmarks.harness import machine, report
from benchmarks.harness.measuring import Benchmark, Effort, NotMeasuredError, Outcome, measure
from benchmarks.programs import importing, large_manifests, long_inputs
from benchmarks.runs import (
    async_generators,
    asyncio_runs,
    builtin_nodes,
    custom_nodes,
    one_call,
    plain_async,
    shapes,
)
from benchmarks.serving import calls, unkind_clients, websockets
from benchmarks.sessions import (
    asyncio_sessions,
    audio_chunks,
    interrupting,
    live_calls,
    opening,
    stages,
    thread_hops,
    trivial_nodes,
)
from benchmarks.workers import round_trips, worker_lives, worker_streams

BENCHMARKS: list[Benchmark] = [
    *custom_nodes.BENCHMARKS,
    *shapes.BENCHMARKS,
    *builtin_nodes.BENCHMARKS,
    *one_call.BENCHMARKS,
    *trivial_nodes.BENCHMARKS,
    *stages.BENCHMARKS,
    *thread_hops.BENCHMARKS,
    *asyncio_runs.BENCHMARKS,
    *asyncio_sessions.BENCHMARKS,
    *plain_async.BENCHMARKS,
    *async_generators.BENCHMARKS,
    *live_calls.BENCHMARKS,
    *opening.BENCHMARKS,
    *interrupting.BENCHMARKS,
    *audio_chunks.BENCHMARKS,
    *round_trips.BENCHMARKS,
    *worker_streams.BENCHMARKS,
    *worker_lives.BENCHMARKS,
    *calls.BENCHMARKS,
    *websockets.BENCHMARKS,
    *unkind_clients.BENCHMARKS,
    *importing.BENCHMARKS,
    *large_manifests.BENCHMARKS,
    *long_inputs.BENCHMARKS,
]


def main() -> None:
    """Run the benchmarks that the command line selects."""
    options = parse_options()
    effort = Effort(is_quick=options.quick)
    # As `pip` does when it installs a wheel.
    compileall.compile_dir(Path(remotemedia.__file__).parent, quiet=1)
    where = machine.describe()
    report.print_header(where)

    outcomes: list[tuple[Benchmark, Outcome | str]] = []
    for benchmark in BENCHMARKS:
        if options.only and benchmark.name not in options.only:
            continue
        outcome = take(benchmark, effort)
        report.print_row(benchmark, outcome)
        outcomes.append((benchmark, outcome))

    if options.json:
        report.write_json(options.json, where, outcomes)


def take(benchmark: Benchmark, effort: Effort) -> Outcome | str:
    """Return the outcome of a benchmark, or the reason why it was not measured."""
    try:
        return measure(benchmark, effort)
    except NotMeasuredError as reason:
        return str(reason)


def parse_options() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Measure RemoteMedia beside its baselines."
    )
    names = [benchmark.name for benchmark in BENCHMARKS]
    parser.add_argument(
        "--only",
        action="append",
        choices=names,
        metavar="NAME",
        help=f"measure this benchmark alone; may be repeated: {', '.join(names)}",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the outcomes to FILE")
    parser.add_argument(
        "--quick", action="store_true", help="run few rounds: a check that it works, not a result to quote"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
