"""What networks took, and what their kernels did, out of repetitions.

Times are divided by the yardstick's of that repetition and multiplied by its stable time; the median over repetitions
stands. An unstable repetition is used only where a network has too few better ones.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from latency_nas.kernel import Kernel
from latency_nas.measure.repetition import DriftFilter, Repetition
from latency_nas.table import Entry

__all__ = ["Drift", "NetworkTimes", "aggregate", "entries_of", "spread", "summarise"]

_MAD_TO_STD = 1.4826  # of a normal distribution
_MIN_SHARE = 0.05  # of what was clocked that is left of an op, however little more than calling back it was


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """How the machine's speed moved while it was measured.

    Args:
        yardstick_ms: the yardstick's stable time, its tenth percentile over the session.
        slowest: its slowest repetition over its stable time (1.2: a fifth slower).
        n_repetitions: repetitions in all.
        n_repeated: of which in place of an unstable one.
        n_unstable: networks that were met stable in no more than half of the rounds, so that unstable repetitions had
            to serve.
    """

    yardstick_ms: float
    slowest: float
    n_repetitions: int
    n_repeated: int
    n_unstable: int

    def __str__(self) -> str:
        moved = f"the yardstick moved {self.slowest - 1:.0%}"
        verdict = f"stable: {moved}"
        if self.n_repeated or self.n_unstable:
            verdict = f"unstable: {moved}; {self.n_repeated} repetitions were made again"
        if self.n_unstable:
            verdict += f", {self.n_unstable} of the networks were too seldom met stable"
        return f"{verdict}; {self.n_repetitions} repetitions, the yardstick took {self.yardstick_ms:.3f} ms stable"


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkTimes:
    """What one network took.

    Args:
        latency_ms: whole runs without callbacks, at the yardstick's stable speed: the median over repetitions.
        std_ms: standard error of `latency_ms`; None after a single repetition.
        raw_ms: the same as the clock said, whatever slowed it.
        ops_ms: each op at the yardstick's stable speed, callbacks included, of shape ``(n_ops,)``; empty if not
            profiled.
        ops_std_ms: one standard deviation of a repetition of each op, as `ops_ms`; NaN after a single repetition.
        n_samples: timed runs.
        memory_mb: the session's memory at its peak, as the engine counts it; None where it does not say.
    """

    latency_ms: float
    std_ms: float | None
    raw_ms: float
    ops_ms: NDArray[np.float64]
    ops_std_ms: NDArray[np.float64]
    n_samples: int
    memory_mb: float | None = None


def spread(samples: NDArray[np.float64]) -> NDArray[np.float64]:
    """A robust standard deviation over the first axis, from the median absolute deviation."""
    return np.asarray(_MAD_TO_STD * np.median(np.abs(samples - np.median(samples, axis=0)), axis=0))


def summarise(repetitions: Sequence[Repetition], n_runs: int, unit_ms: float) -> NetworkTimes:
    """What a network took over its repetitions, at the speed at which the yardstick takes `unit_ms`."""
    factors = np.array([unit_ms / repetition.yardstick_ms for repetition in repetitions])
    whole = np.array([repetition.whole_ms for repetition in repetitions])
    normalised = whole * factors
    ops = np.stack([repetition.ops_ms for repetition in repetitions]) * factors[:, None]
    lone = len(repetitions) == 1
    return NetworkTimes(
        latency_ms=float(np.median(normalised)),
        std_ms=None if lone else float(np.sqrt(np.pi / 2 / len(repetitions)) * spread(normalised)),  # that of a median
        raw_ms=float(np.median(whole)),
        ops_ms=np.median(ops, axis=0),
        ops_std_ms=np.full(ops.shape[1], np.nan) if lone else spread(ops),
        n_samples=len(repetitions) * n_runs,
        memory_mb=repetitions[0].memory_mb,
    )


def aggregate(
    repetitions: Iterable[Sequence[Repetition]],
    drift_filter: DriftFilter,
    rounds: int,
    n_runs: int,
    yardstick_ms: float | None,
    *,
    min_rounds: int | None = None,
) -> tuple[list[NetworkTimes], Drift]:
    """What networks took, out of their repetitions, unstable ones only where there are few others; and the drift.

    Args:
        repetitions: by network; gone through once.
        drift_filter: Filter that has noted them all.
        rounds: repetitions of a network that were planned.
        n_runs: timed runs a repetition.
        yardstick_ms: the yardstick's time that latencies are expressed at; None for the stable one of the repetitions.
        min_rounds: repetitions after which a network may have been known well enough; `rounds` by default.
    """
    min_rounds = rounds if min_rounds is None else min(min_rounds, rounds)
    min_count = min(min_rounds, rounds // 2 + 1)
    times: list[NetworkTimes] = []
    n_repetitions = n_repeated = n_unstable = 0
    slowest_ms = 0.0
    for group in repetitions:
        used = drift_filter.most_stable(group, min_count)
        times.append(summarise(used, n_runs, yardstick_ms or drift_filter.stable_ms))
        n_repetitions += len(group)
        n_repeated += len(group) - (rounds if min_rounds == rounds else len(used))
        n_unstable += any(map(drift_filter.unstable, used))
        slowest_ms = max(slowest_ms, *(repetition.yardstick_ms for repetition in group))
    drift = Drift(
        yardstick_ms=drift_filter.stable_ms,
        slowest=slowest_ms / drift_filter.stable_ms,
        n_repetitions=n_repetitions,
        n_repeated=max(0, n_repeated),
        n_unstable=n_unstable,
    )
    return times, drift


def _callback_ms(times: Sequence[NetworkTimes]) -> float:
    """What calling back adds to each op: the sum of ops less the whole, an op."""
    return max(0.0, float(np.median([(item.ops_ms.sum() - item.latency_ms) / len(item.ops_ms) for item in times])))


def entries_of(networks: Sequence[Sequence[Kernel]], times: Sequence[NetworkTimes]) -> dict[Kernel, Entry]:
    """What each kernel costs, from the networks in which it was met.

    Args:
        networks: the kernels that each network runs, in order.
        times: of each network, with its ops.

    Returns:
        Kernel -> the median over the places where it was met, less what calling back costs an op; its standard
        deviation is over these places, or over the repetitions where there is one place only; None where there is one
        repetition only.
    """
    overhead = _callback_ms(times)
    samples: dict[Kernel, list[tuple[float, float]]] = defaultdict(list)
    counts: dict[Kernel, int] = defaultdict(int)
    for network, item in zip(networks, times, strict=True):
        for kernel, op_ms, std_ms in zip(network, item.ops_ms, item.ops_std_ms, strict=True):
            samples[kernel].append((max(op_ms - overhead, _MIN_SHARE * op_ms), std_ms))
            counts[kernel] += item.n_samples
    entries = {}
    for kernel, places in samples.items():
        times_ms, stds_ms = np.array(places).T
        std_ms = (spread(times_ms) if len(places) > 1 else stds_ms[0]).item()
        entries[kernel] = Entry(
            latency_ms=np.median(times_ms), std_ms=None if np.isnan(std_ms) else std_ms, n_samples=counts[kernel]
        )
    return entries
