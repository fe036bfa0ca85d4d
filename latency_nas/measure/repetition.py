"""Repetitions: a network timed beside the yardstick, and which of them other work slowed down."""

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
MAX_REPEATS = 4  # times as many repetitions as are wanted, at most, where other work makes them unstable
_STATISTICS: dict[Statistic, Callable[..., Any]] = {"median": np.median, "min": np.min, "mean": np.mean}


@dataclass(frozen=True, slots=True)
class Repetition:
    """What was timed in one repetition.

    Args:
        yardstick_ms: the yardstick's mean of before and after.
        moved: the larger of these two over the smaller, less one.
        whole_ms: the network as a whole, the median of its runs.
        ops_ms: each op, the median of its runs, of shape ``(n_ops,)``; empty if they were not timed.
        memory_mb: of the network's session at its peak; None where the engine does not say.
    """

    yardstick_ms: float
    moved: float
    whole_ms: float
    ops_ms: NDArray[np.float64]
    memory_mb: float | None = None


def repetition_of(raw: Mapping[str, Any], statistic: Statistic = "median") -> Repetition:
    """A repetition out of its raw samples: the yardstick's medians, and the statistic of the network's runs."""
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
    """The tenth percentile of numbers that are sorted, as `numpy.quantile` gives it."""
    position = 0.1 * (len(rising) - 1)
    below = int(position)
    above = min(below + 1, len(rising) - 1)
    return rising[below] + (position - below) * (rising[above] - rising[below])


class DriftFilter:
    """Tells the repetitions in which something else slowed the machine.

    Args:
        bound: how far the yardstick may move within a repetition, or lie above its stable time (0.1: a tenth).
        yardstick_ms: its stable time where that is known from before.
    """

    def __init__(self, bound: float, yardstick_ms: float | None) -> None:
        self._bound, self._known_ms = bound, yardstick_ms or np.inf
        self._seen_ms: list[float] = []
        self.stable_ms = np.inf  # the yardstick's tenth percentile so far

    def note(self, repetition: Repetition) -> None:
        """Remember how fast the machine was."""
        self.note_ms(repetition.yardstick_ms)

    def note_ms(self, yardstick_ms: float) -> None:
        """Remember what the yardstick took in a repetition."""
        insort(self._seen_ms, yardstick_ms)
        self.stable_ms = float(_tenth(self._seen_ms))

    def unstable(self, repetition: Repetition) -> bool:
        """Whether the yardstick moved within the repetition, or ran slower than it can."""
        return self._instability(repetition) > self._bound

    def most_stable(self, repetitions: Sequence[Repetition], min_count: int) -> list[Repetition]:
        """The stable repetitions, or the `min_count` most stable ones: a single one says little."""
        stable = [repetition for repetition in repetitions if not self.unstable(repetition)]
        return stable if len(stable) >= min_count else sorted(repetitions, key=self._instability)[:min_count]

    def _instability(self, repetition: Repetition) -> float:
        return max(repetition.moved, repetition.yardstick_ms / min(self._known_ms, self.stable_ms) - 1)
