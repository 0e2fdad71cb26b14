"""Prints outcomes as a table, and writes them as JSON."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.harness.measuring import Benchmark, Outcome, Spread

__all__ = ["print_header", "print_row", "write_json"]

VERDICTS = {True: "pass", False: "MISS", None: ""}
COLUMNS = "{name:<17} {title:<51} {ours:>11} {baseline:>11}  {compared:<33} {bar:<12} {verdict}"


def print_header(machine: dict[str, str]) -> None:
    """Print the machine and the head of the table."""
    for label, text in machine.items():
        print(f"{label + ':':<13}{text}")
    print()
    head = COLUMNS.format(
        name="name",
        title="measurement",
        ours="ours",
        baseline="baseline",
        compared="compared: median (least to most)",
        bar="bar",
        verdict="",
    )
    print(head.rstrip())
    print("-" * 149, flush=True)


def print_row(benchmark: Benchmark, outcome: Outcome | str) -> None:
    """Print a result, or why it was not measured."""
    if isinstance(outcome, str):
        print(f"{benchmark.name:<17} {benchmark.title:<51} not measured: {outcome}", flush=True)
        return
    row = COLUMNS.format(
        name=benchmark.name,
        title=benchmark.title,
        ours=_amount(outcome.ours.median, benchmark.unit),
        baseline=_amount(outcome.baseline.median, benchmark.unit),
        compared=_compared(benchmark, outcome.compared),
        bar=_bar(benchmark),
        verdict=VERDICTS[outcome.is_reached],
    )
    print(row.rstrip(), flush=True)


def write_json(path: Path, machine: dict[str, str], outcomes: list[tuple[Benchmark, Outcome | str]]) -> None:
    """Write machine and outcomes to a file."""
    entries = []
    for benchmark, outcome in outcomes:
        entry = dataclasses.asdict(benchmark)
        del entry["measure"]
        measured = {"not_measured": outcome} if isinstance(outcome, str) else dataclasses.asdict(outcome)
        entries.append({**entry, **measured})
    text = json.dumps({"machine": machine, "benchmarks": entries}, indent=2, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


def _amount(value: float, unit: str) -> str:
    return f"{_number(value, unit)} {unit}"


def _number(value: float, unit: str) -> str:
    if unit in {"threads", "sockets"}:
        return f"{value:.0f}"
    return f"{value:.{2 if value < 100 else 1}f}"  # noqa: PLR2004 - four digits say enough


def _compared(benchmark: Benchmark, spread: Spread) -> str:
    if benchmark.compared_by == "ratio":
        return f"{spread.median:.3f} ({spread.least:.3f} to {spread.most:.3f})"
    if benchmark.compared_by == "ours":
        least, most = (_number(value, benchmark.unit) for value in (spread.least, spread.most))
        return f"{_amount(spread.median, benchmark.unit)} ({least} to {most})"
    return f"{spread.median:+.1f} {benchmark.unit} ({spread.least:+.1f} to {spread.most:+.1f})"


def _bar(benchmark: Benchmark) -> str:
    if benchmark.bar is None:
        return ""
    limit = f"{'≥' if benchmark.is_floor else '≤'} {round(benchmark.bar, 3):g}"
    if benchmark.compared_by != "ratio":
        return f"{limit} {benchmark.unit}"
    return f"{limit} either" if benchmark.is_two_sided else limit
