"""`python -m benchmarks`: the table of figures.

A figure that misses its bar is marked; it does not fail the command.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks import (
    audio_chunks,
    builtin_nodes,
    crossings,
    custom_nodes,
    importing,
    interrupting,
    large_manifests,
    long_inputs,
    machine,
    one_call,
    report,
    sessions,
    stages,
    worker_lives,
)
from benchmarks.measuring import Effort, Figure, NotMeasuredError, Outcome, measure

FIGURES: list[Figure] = [
    *custom_nodes.FIGURES,
    *builtin_nodes.FIGURES,
    *one_call.FIGURES,
    *sessions.FIGURES,
    *stages.FIGURES,
    *interrupting.FIGURES,
    *audio_chunks.FIGURES,
    *crossings.FIGURES,
    *worker_lives.FIGURES,
    *importing.FIGURES,
    *large_manifests.FIGURES,
    *long_inputs.FIGURES,
]


def main() -> None:
    """Measure what the command line asks for."""
    options = parse_options()
    effort = Effort(is_quick=options.quick)
    where = machine.describe()
    report.print_header(where)

    outcomes: list[tuple[Figure, Outcome | str]] = []
    for figure in FIGURES:
        if options.only and figure.name not in options.only:
            continue
        outcome = take(figure, effort)
        report.print_row(figure, outcome)
        outcomes.append((figure, outcome))

    if options.json:
        report.write_json(options.json, where, outcomes)


def take(figure: Figure, effort: Effort) -> Outcome | str:
    """The outcome of a figure, or what it lacks to be measured."""
    try:
        return measure(figure, effort)
    except NotMeasuredError as reason:
        return str(reason)


def parse_options() -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Measure RemoteMedia beside its baselines."
    )
    names = [figure.name for figure in FIGURES]
    parser.add_argument(
        "--only",
        action="append",
        choices=names,
        metavar="NAME",
        help=f"measure this figure alone; may be repeated: {', '.join(names)}",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the outcomes to FILE, too")
    parser.add_argument(
        "--quick", action="store_true", help="take few rounds: to see that it works, not to quote"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
