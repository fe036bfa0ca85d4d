"""Repetitions: a network timed beside the yardstick, and a filter for those that other work slowed down."""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "MAX_REPEATS",
    "N_WARMUP",
    "N_YARDSTICK",
    "DriftFilter",
    "Progress",
    "Repetition",
    "Statistic",
    "repetition_of",
]

Progress = Callable[[int, int], None]  # called with (repetitions done, repetitions in all)

Statistic = Literal["median", "min", "mean"]

N_WARMUP = 2
N_YARDSTICK = 7
MAX_REPEATS = 4  # where repetitions are unstable, at most so many times the repetitions that are wanted
_STATISTICS: dict[Statistic, Callable[..., Any]] = {"median": np.median, "min": np.min, "mean": np.mean}


@dataclass(frozen=True, slots=True)
class Repetition:
    """What was timed in one repetition.

    Args:
        yardstick_ms: Time of the yardstick, the mean of before and after the network.
        moved: Larger of these two times over the smaller, minus one.
        whole_ms: Time of the whole network, the median of its runs.
        ops_ms: Time of each op, the median of its runs, of shape ``(n_ops,)``; empty if ops were not timed.
        memory_mb: Peak memory of the network; None where the engine does not report it.
    """

    yardstick_ms: float
    moved: float
    whole_ms: float
    ops_ms: NDArray[np.float64]
    memory_mb: float | None = None


def repetition_of(raw: Mapping[str, Any], statistic: Statistic = "median") -> Repetition:
    """A repetition from its raw samples: the yardstick's medians, and a statistic of the network's runs."""
    before, after = (np.median(raw[f"yardstick_{when}_ms"]) for when in ("before", "after"))
    of_runs = _STATISTICS[statistic]
    return Repetition(
        yardstick_ms=float(before + after) / 2,
        moved=float(max(before, after) / min(before, after) - 1),
        whole_ms=float(of_runs(raw["whole_ms"])),
        ops_ms=np.asarray(of_runs(raw["ops_ms"], axis=0)) if len(raw["ops_ms"]) else np.zeros(0),
        memory_mb=raw["memory_mb"],
    )


def _tenth(rising: Sequence[float]) -> float:
    """The tenth percentile of sorted numbers, equal to `numpy.quantile` but much faster on a list."""
    position = 0.1 * (len(rising) - 1)
    below = int(position)
    above = min(below + 1, len(rising) - 1)
    return rising[below] + (position - below) * (rising[above] - rising[below])


class DriftFilter:
    """Finds the repetitions in which other work slowed the machine.

    Args:
        bound: Part by which the yardstick may move within a repetition, or lie above its stable time (0.1: a tenth).
        yardstick_ms: Stable time of the yardstick where it is known beforehand; else None.
    """

    def __init__(self, bound: float, yardstick_ms: float | None) -> None:
        self._bound, self._known_ms = bound, yardstick_ms or np.inf
        self._seen_ms: list[float] = []
        self.stable_ms = np.inf  # the yardstick's tenth percentile so far

    def note(self, repetition: Repetition) -> None:
        """Record how fast the machine was in a repetition."""
        self.note_ms(repetition.yardstick_ms)

    def note_ms(self, yardstick_ms: float) -> None:
        """Record the yardstick's time in a repetition."""
        insort(self._seen_ms, yardstick_ms)
        self.stable_ms = float(_tenth(self._seen_ms))

    def unstable(self, repetition: Repetition) -> bool:
        """Whether the yardstick moved within the repetition, or was slower than its stable time, beyond the bound."""
        return self._instability(repetition) > self._bound

    def most_stable(self, repetitions: Sequence[Repetition], min_count: int) -> list[Repetition]:
        """The stable repetitions; if these are fewer than `min_count`, the `min_count` most stable ones."""
        stable = [repetition for repetition in repetitions if not self.unstable(repetition)]
        return stable if len(stable) >= min_count else sorted(repetitions, key=self._instability)[:min_count]

    def _instability(self, repetition: Repetition) -> float:
        return max(repetition.moved, repetition.yardstick_ms / min(self._known_ms, self.stable_ms) - 1)
