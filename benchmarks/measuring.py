"""What is measured, how two sides are compared, and whether the outcome is good enough."""

from __future__ import annotations

import gc
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Effort", "Figure", "NotMeasuredError", "Outcome", "Samples", "Spread", "alternate", "measure"]

Samples = list[tuple[float, float]]
"""What each round found, in the unit of the figure: ours, and the baseline around it."""


class NotMeasuredError(Exception):
    """Something that a figure needs is not there; the message says what."""


@dataclass(frozen=True)
class Effort:
    """How much is measured."""

    is_quick: bool = False

    def rounds(self, usual: int) -> int:
        """How many rounds to take where `usual` of them give steady figures."""
        return max(3, usual // 6) if self.is_quick else usual


@dataclass(frozen=True)
class Figure:
    """One row of the table.

    Attributes:
        name: What `--only` calls it.
        title: What is measured.
        against: What the baseline is.
        unit: The unit of the samples.
        compared_by: Whether the bar is about ours divided by the baseline, or ours less the baseline.
        bar: The most that is good enough; `None` for a figure that is only told.
        measure: Takes the samples.
        is_two_sided: The baseline must not be slower by more than the bar, either.
    """

    name: str
    title: str
    against: str
    unit: Literal["ms", "µs", "MiB"]
    compared_by: Literal["ratio", "difference"]
    bar: float | None
    measure: Callable[[Effort], Samples]
    is_two_sided: bool = False


@dataclass(frozen=True)
class Spread:
    """The median of the rounds, and the least and the most of them."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """The spread of some values."""
        return cls(statistics.median(values), min(values), max(values))


@dataclass(frozen=True)
class Outcome:
    """What the rounds of a figure came to."""

    ours: Spread
    baseline: Spread
    compared: Spread
    rounds: int
    is_reached: bool | None


def measure(figure: Figure, effort: Effort) -> Outcome:
    """Measure a figure and compare it with its bar.

    Raises:
        NotMeasuredError: If something that it needs is not there.
    """
    samples = figure.measure(effort)
    if figure.compared_by == "ratio":
        compared = Spread.of([ours / baseline for ours, baseline in samples])
    else:
        compared = Spread.of([ours - baseline for ours, baseline in samples])
    extreme = max(compared.median, 1 / compared.median) if figure.is_two_sided else compared.median
    return Outcome(
        ours=Spread.of([ours for ours, _ in samples]),
        baseline=Spread.of([baseline for _, baseline in samples]),
        compared=compared,
        rounds=len(samples),
        is_reached=None if figure.bar is None else extreme <= figure.bar,
    )


def alternate(ours: Callable[[], float], baseline: Callable[[], float], rounds: int) -> Samples:
    """Take baseline, ours, baseline, ours … baseline. Ours is compared with the mean of its two neighbours.

    So a machine that gets slower or faster meanwhile does so for both. They answer their own time,
    as what surrounds the work differs from one to the other. The first round does not count.
    """
    samples: Samples = []
    before = _settled(baseline)
    for _ in range(rounds + 1):
        took = _settled(ours)
        after = _settled(baseline)
        samples.append((took, (before + after) / 2))
        before = after
    return samples[1:]


def _settled(side: Callable[[], float]) -> float:
    gc.collect()
    return side()
