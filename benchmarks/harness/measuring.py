"""Defines benchmarks, compares their two sides, and checks whether the outcome is good enough."""

from __future__ import annotations

import gc
import operator
import statistics
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Benchmark", "Effort", "NotMeasuredError", "Outcome", "Samples", "Spread", "alternate", "measure"]

Samples = list[tuple[float, float]]
"""The results of each round, in the unit of the benchmark: ours, and the baseline around it."""

COMPARISONS: dict[str, Callable[[float, float], float]] = {
    "ratio": operator.truediv,
    "difference": operator.sub,
    "ours": lambda ours, _: ours,
}


class NotMeasuredError(Exception):
    """Something that a benchmark needs is missing; the message says what."""


@dataclass(frozen=True)
class Effort:
    """How much is measured."""

    is_quick: bool = False

    def rounds(self, usual: int) -> int:
        """Return the number of rounds, if `usual` of them give stable results."""
        return max(3, usual // 6) if self.is_quick else usual


@dataclass(frozen=True)
class Benchmark:
    """One row of the table.

    Attributes:
        name: The argument of `--only`.
        title: What is measured.
        against: The baseline.
        bar: The largest value that is good enough; `None` for a benchmark without a limit.
        measure: Takes the samples.
        unit: The unit of the samples.
        compared_by: What the bar limits: ours divided by the baseline, ours minus it, or ours alone.
        is_two_sided: The baseline must not be slower by more than the bar, either.
        is_floor: The bar is the least value that is good enough.
    """

    name: str
    title: str
    against: str
    bar: float | None
    measure: Callable[[Effort], Samples]
    _: KW_ONLY
    unit: Literal["ms", "µs", "MiB", "KiB", "threads", "sockets"]
    compared_by: Literal["ratio", "difference", "ours"]
    is_two_sided: bool = False
    is_floor: bool = False

    def is_reached_by(self, compared: float) -> bool | None:
        """Return whether a value is good enough; `None` if there is no limit."""
        if self.bar is None:
            return None
        if self.is_floor:
            return compared >= self.bar
        return (max(compared, 1 / compared) if self.is_two_sided else compared) <= self.bar


@dataclass(frozen=True)
class Spread:
    """The median of the rounds, and the least and the most of them."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Return the spread of some values."""
        return cls(statistics.median(values), min(values), max(values))


@dataclass(frozen=True)
class Outcome:
    """The result of the rounds of a benchmark."""

    ours: Spread
    baseline: Spread
    compared: Spread
    rounds: int
    is_reached: bool | None


def measure(benchmark: Benchmark, effort: Effort) -> Outcome:
    """Run a benchmark and compare its result with its bar.

    Raises:
        NotMeasuredError: If something that it needs is missing.
    """
    samples = benchmark.measure(effort)
    compare = COMPARISONS[benchmark.compared_by]
    compared = Spread.of([compare(*pair) for pair in samples])
    return Outcome(
        ours=Spread.of([ours for ours, _ in samples]),
        baseline=Spread.of([baseline for _, baseline in samples]),
        compared=compared,
        rounds=len(samples),
        is_reached=benchmark.is_reached_by(compared.median),
    )


def alternate(ours: Callable[[], float], baseline: Callable[[], float], rounds: int) -> Samples:
    """Take baseline, ours, baseline, ours … baseline. Ours is compared with the mean of its two neighbours.

    A machine that becomes slower or faster meanwhile therefore affects both. Both functions return their own
    time, because the code around the work differs. The first round does not count.
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
