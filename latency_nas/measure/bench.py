"""Visits: a network beside the yardstick, in shuffled rounds, again where something disturbed it."""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from latency_nas.engine.mnn import device_side as device_runner
from latency_nas.engine.mnn.mnn_engine import ExecutedOp, check_ops, convert, described_ops, runner_errors
from latency_nas.measure.yardstick import yardstick_graph

__all__ = [
    "N_WARMUP",
    "N_YARDSTICK",
    "PATIENCE",
    "Bench",
    "Calm",
    "Progress",
    "Statistic",
    "Visit",
    "Visitor",
    "visit_all",
    "visit_of",
]

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


class Bench:
    """The yardstick's session, and visits to networks beside it.

    Args:
        folder: for the yardstick's file.
        threads: of the engine.
        precision: of its arithmetic.
        n_runs: timed runs of a network in a visit.
        profile: whether each op is timed as well.
    """

    def __init__(self, folder: Path, threads: int, precision: str, n_runs: int, profile: bool) -> None:
        self._options: dict[str, Any] = {"threads": threads, "precision": precision, "n_runs": n_runs}
        self._options |= {"n_yardstick": N_YARDSTICK, "n_warmup": N_WARMUP, "profile": profile}
        self._yardstick = str(convert(yardstick_graph(), folder / "yardstick.mnn"))

    def visit(self, path: Path, expected: list[ExecutedOp] | None) -> Visit:
        """Open the network afresh and time it; where `expected` is given, check first that it runs these ops.

        Raises:
            MeasureError: if it runs others.
        """
        with runner_errors():
            raw = device_runner.visit(str(path), self._yardstick, **self._options, describe=expected is not None)
        if expected is not None:
            check_ops(described_ops(raw["ops"]), expected, path)
        return visit_of(raw)


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


class Visitor(Protocol):
    """Something that times a network beside the yardstick, as `Bench` does."""

    def visit(self, path: Path, expected: list[ExecutedOp] | None) -> Visit:
        """Open the network afresh and time it."""


def visit_all(
    bench: Visitor,
    paths: Sequence[Path],
    expected: Sequence[list[ExecutedOp] | None],
    rounds: int,
    calm: Calm,
    seed: int,
    on_progress: Progress | None,
) -> list[list[Visit]]:
    """Visits by network. Rounds are shuffled; disturbed visits are queued again, as long as `PATIENCE` lasts."""
    random = np.random.default_rng(seed)
    queue = [int(index) for _ in range(rounds) for index in random.permutation(len(paths))]
    allowed = PATIENCE * len(queue)
    visits: list[list[Visit]] = [[] for _ in paths]
    for done in range(allowed):
        if done == len(queue):
            break
        index = queue[done]
        visit = bench.visit(paths[index], None if visits[index] else expected[index])
        visits[index].append(visit)
        calm.note(visit)
        if calm.disturbed(visit) and len(queue) < allowed:
            queue.append(index)
        if on_progress:
            on_progress(done + 1, len(queue))
    return visits


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
