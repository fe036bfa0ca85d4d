"""Visits: a network timed beside the yardstick, and which of them something else disturbed."""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["N_WARMUP", "N_YARDSTICK", "PATIENCE", "Calm", "Progress", "Statistic", "Visit", "visit_of"]

Progress = Callable[[int, int], None]  # called with (visits done, visits in all)

Statistic = Literal["median", "min", "mean"]

N_WARMUP = 2
N_YARDSTICK = 7
PATIENCE = 4  # times as many visits as are wanted, at most, where something disturbs them
_STATISTICS: dict[Statistic, Callable[..., Any]] = {"median": np.median, "min": np.min, "mean": np.mean}


@dataclass(frozen=True, slots=True)
class Visit:
    """What was timed in one visit.

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


def visit_of(raw: Mapping[str, Any], statistic: Statistic = "median") -> Visit:
    """A visit out of its raw samples: the yardstick's medians, and the statistic of the network's runs."""
    before, after = (np.median(raw[f"yardstick_{when}_ms"]) for when in ("before", "after"))
    of_runs = _STATISTICS[statistic]
    return Visit(
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


class Calm:
    """Tells the visits in which something else slowed the machine.

    Args:
        bound: how far the yardstick may move within a visit, or lie above its undisturbed time (0.1: a tenth).
        yardstick_ms: its undisturbed time where that is known from before.
    """

    def __init__(self, bound: float, yardstick_ms: float | None) -> None:
        self._bound, self._known_ms = bound, yardstick_ms or np.inf
        self._seen_ms: list[float] = []
        self.undisturbed_ms = np.inf  # the yardstick's tenth percentile so far

    def note(self, visit: Visit) -> None:
        """Remember how fast the machine was."""
        self.note_ms(visit.yardstick_ms)

    def note_ms(self, yardstick_ms: float) -> None:
        """Remember what the yardstick took in a visit."""
        insort(self._seen_ms, yardstick_ms)
        self.undisturbed_ms = float(_tenth(self._seen_ms))

    def disturbed(self, visit: Visit) -> bool:
        """Whether the yardstick moved within the visit, or ran slower than it can."""
        return self._disturbance(visit) > self._bound

    def calmest(self, visits: Sequence[Visit], least: int) -> list[Visit]:
        """The undisturbed visits, or the `least` calmest: that the yardstick was calm says little of a lone visit."""
        undisturbed = [visit for visit in visits if not self.disturbed(visit)]
        return undisturbed if len(undisturbed) >= least else sorted(visits, key=self._disturbance)[:least]

    def _disturbance(self, visit: Visit) -> float:
        return max(visit.moved, visit.yardstick_ms / min(self._known_ms, self.undisturbed_ms) - 1)
