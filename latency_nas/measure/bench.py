"""Visits: a network beside the yardstick, in shuffled rounds, again where something disturbed it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latency_nas.measure.mnn_engine import ExecutedOp, MNNNetwork, check_ops, convert
from latency_nas.measure.onnx_writer import write_onnx
from latency_nas.measure.yardstick import yardstick_graph

__all__ = ["Bench", "Calm", "Progress", "Visit", "visit_all"]

Progress = Callable[[int, int], None]  # called with (visits done, visits in all)

_N_WARMUP = 2
_N_YARDSTICK = 7


@dataclass(frozen=True, slots=True)
class Visit:
    """What was timed in one visit.

    Args:
        yardstick_ms: the yardstick's mean of before and after.
        moved: the larger of these two over the smaller, less one.
        whole_ms: the network as a whole, the median of its runs.
        ops_ms: each op, the median of its runs, of shape ``(n_ops,)``; empty if they were not timed.
    """

    yardstick_ms: float
    moved: float
    whole_ms: float
    ops_ms: NDArray[np.float64]


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
        self._session: dict[str, Any] = {"threads": threads, "precision": precision}
        self._n_runs, self._profile = n_runs, profile
        self._yardstick = MNNNetwork(convert(write_onnx(yardstick_graph()), folder / "yardstick.mnn"), **self._session)
        self._yardstick.run_ms(10 * _N_YARDSTICK)  # caches and clocks warm up

    def visit(self, path: Path, expected: list[ExecutedOp] | None) -> Visit:
        """Open the network afresh and time it; where `expected` is given, check first that it runs these ops.

        Raises:
            MeasureError: if it runs others.
        """
        network = MNNNetwork(path, **self._session)
        if expected is not None:
            check_ops(network.executed_ops(), expected, path)
        network.run_ms(_N_WARMUP)
        before = np.median(self._yardstick.run_ms(_N_YARDSTICK))
        whole, ops = [], []
        for _ in range(self._n_runs):
            whole += network.run_ms(1)
            if self._profile:
                ops += network.profile_ms(1)
        after = np.median(self._yardstick.run_ms(_N_YARDSTICK))
        return Visit(
            yardstick_ms=float(before + after) / 2,
            moved=float(max(before, after) / min(before, after) - 1),
            whole_ms=float(np.median(whole)),
            ops_ms=np.median(ops, axis=0) if ops else np.zeros(0),
        )


def visit_all(
    bench: Bench,
    paths: Sequence[Path],
    expected: Sequence[list[ExecutedOp] | None],
    rounds: int,
    calm: Calm,
    seed: int,
    on_progress: Progress | None,
) -> list[list[Visit]]:
    """Visits by network. Rounds are shuffled; disturbed visits are queued again, until there are twice as many."""
    random = np.random.default_rng(seed)
    queue = [int(index) for _ in range(rounds) for index in random.permutation(len(paths))]
    allowed = 2 * len(queue)
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
        self._seen_ms.append(visit.yardstick_ms)
        self.undisturbed_ms = float(np.quantile(self._seen_ms, 0.1))

    def disturbed(self, visit: Visit) -> bool:
        """Whether the yardstick moved within the visit, or ran slower than it can."""
        best_ms = min(self._known_ms, self.undisturbed_ms)
        return visit.moved > self._bound or visit.yardstick_ms > (1 + self._bound) * best_ms
