"""Prints outcomes as a table, and writes them as JSON."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.measuring import Figure, Outcome, Spread

__all__ = ["print_header", "print_row", "write_json"]

VERDICTS = {True: "pass", False: "MISS", None: ""}
COLUMNS = "{name:<16} {title:<51} {ours:>11} {baseline:>11}  {compared:<33} {bar:<12} {verdict}"


def print_header(machine: dict[str, str]) -> None:
    """Print where this is measured, and the head of the table."""
    for label, text in machine.items():
        print(f"{label + ':':<13}{text}")
    print()
    head = COLUMNS.format(
        name="name",
        title="figure",
        ours="ours",
        baseline="baseline",
        compared="compared: median (least to most)",
        bar="bar",
        verdict="",
    )
    print(head.rstrip())
    print("-" * 148, flush=True)


def print_row(figure: Figure, outcome: Outcome | str) -> None:
    """Print a figure, or why it was not measured."""
    if isinstance(outcome, str):
        print(f"{figure.name:<16} {figure.title:<51} not measured: {outcome}", flush=True)
        return
    row = COLUMNS.format(
        name=figure.name,
        title=figure.title,
        ours=_amount(outcome.ours.median, figure.unit),
        baseline=_amount(outcome.baseline.median, figure.unit),
        compared=_compared(figure, outcome.compared),
        bar=_bar(figure),
        verdict=VERDICTS[outcome.is_reached],
    )
    print(row.rstrip(), flush=True)


def write_json(path: Path, machine: dict[str, str], outcomes: list[tuple[Figure, Outcome | str]]) -> None:
    """Write machine and outcomes to a file."""
    figures = []
    for figure, outcome in outcomes:
        entry = dataclasses.asdict(figure)
        del entry["measure"]
        measured = {"not_measured": outcome} if isinstance(outcome, str) else dataclasses.asdict(outcome)
        figures.append({**entry, **measured})
    text = json.dumps({"machine": machine, "figures": figures}, indent=2, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


def _amount(value: float, unit: str) -> str:
    return f"{value:.{2 if value < 100 else 1}f} {unit}"  # noqa: PLR2004 - four digits say enough


def _compared(figure: Figure, spread: Spread) -> str:
    if figure.compared_by == "ratio":
        return f"{spread.median:.3f} ({spread.least:.3f} to {spread.most:.3f})"
    return f"{spread.median:+.1f} {figure.unit} ({spread.least:+.1f} to {spread.most:+.1f})"


def _bar(figure: Figure) -> str:
    if figure.bar is None:
        return ""
    if figure.compared_by == "difference":
        return f"≤ {figure.bar:g} {figure.unit}"
    return f"≤ {figure.bar:g} either" if figure.is_two_sided else f"≤ {figure.bar:g}"
