"""Times of networks and of their kernels, from repetitions.

A repetition's times are divided by the yardstick's time in that repetition and multiplied by its stable time; the
result is the median over repetitions. An unstable repetition is used only where a network has too few stable ones.
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

__all__ = ["Drift", "NetworkTimes", "aggregate", "entries_of", "ops_without_callbacks", "spread", "summarise"]

_MAD_TO_STD = 1.4826  # of a normal distribution
_MIN_SHARE = 0.05  # an op keeps at least this part of its time when the callback's is subtracted


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """How the machine's speed moved while it was measured.

    Args:
        yardstick_ms: Stable time of the yardstick: its tenth percentile over the session.
        slowest: Slowest time of the yardstick over its stable time (1.2: a fifth slower).
        n_repetitions: Number of all repetitions.
        n_repeated: Number of those that were made in place of an unstable one.
        n_unstable: Number of networks for which too few repetitions were stable, so that unstable ones were used.
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
            verdict += f", {self.n_unstable} of the networks were rarely stable"
        return f"{verdict}; {self.n_repetitions} repetitions, the yardstick took {self.yardstick_ms:.3f} ms stable"


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkTimes:
    """Times of one network.

    Args:
        latency_ms: Time of a whole run without callbacks at the yardstick's stable speed, the median over repetitions.
        std_ms: Standard error of `latency_ms`; None after a single repetition.
        raw_ms: Same median as the clock showed it, without the correction of speed.
        ops_ms: Time of each op at the yardstick's stable speed, callbacks included, of shape ``(n_ops,)``; empty
            without a profile.
        ops_std_ms: Standard deviation of each op over repetitions, as `ops_ms`; NaN after a single repetition.
        n_samples: Number of timed runs.
        memory_mb: Peak memory of the network, as the engine counts it; None where the engine does not report it.
    """

    latency_ms: float
    std_ms: float | None
    raw_ms: float
    ops_ms: NDArray[np.float64]
    ops_std_ms: NDArray[np.float64]
    n_samples: int
    memory_mb: float | None = None


def spread(samples: NDArray[np.float64]) -> NDArray[np.float64]:
    """Robust standard deviation over the first axis, from the median absolute deviation."""
    return np.asarray(_MAD_TO_STD * np.median(np.abs(samples - np.median(samples, axis=0)), axis=0))


def summarise(repetitions: Sequence[Repetition], n_runs: int, unit_ms: float) -> NetworkTimes:
    """Times of a network over its repetitions, at the speed at which the yardstick takes `unit_ms`."""
    factors = np.array([unit_ms / repetition.yardstick_ms for repetition in repetitions])
    whole = np.array([repetition.whole_ms for repetition in repetitions])
    normalised = whole * factors
    ops = np.stack([repetition.ops_ms for repetition in repetitions]) * factors[:, None]
    is_single = len(repetitions) == 1
    return NetworkTimes(
        latency_ms=float(np.median(normalised)),
        std_ms=None if is_single else float(np.sqrt(np.pi / 2 / len(repetitions)) * spread(normalised)),  # of a median
        raw_ms=float(np.median(whole)),
        ops_ms=np.median(ops, axis=0),
        ops_std_ms=np.full(ops.shape[1], np.nan) if is_single else spread(ops),
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
    """Times of networks from their repetitions, and the drift. Unstable repetitions are used only where needed.

    Args:
        repetitions: Repetitions of each network; read once.
        drift_filter: Filter that has noted all of them.
        rounds: Number of stable repetitions of each network that the session is to reach.
        n_runs: Number of timed runs in a repetition.
        yardstick_ms: Time of the yardstick that latencies are expressed at; None for its stable time here.
        min_rounds: Number of repetitions after which a network may be finished early; `rounds` by default.
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
    """Time that a callback adds to each op: the sum over ops minus the whole time, divided by the number of ops.

    A network that was timed whole has no callbacks, and its only op takes exactly as long as the network.
    """
    added = [(item.ops_ms.sum() - item.latency_ms) / len(item.ops_ms) for item in times]
    return max(0.0, float(np.median([ms for ms in added if ms] or [0.0])))


def ops_without_callbacks(times: Sequence[NetworkTimes]) -> list[NDArray[np.float64]]:
    """Time of each op of each network, minus the cost of a callback where there was one."""
    overhead = _callback_ms(times)
    return [
        np.maximum(item.ops_ms - overhead * (item.ops_ms.sum() != item.latency_ms), _MIN_SHARE * item.ops_ms)
        for item in times
    ]


def entries_of(networks: Sequence[Sequence[Kernel]], times: Sequence[NetworkTimes]) -> dict[Kernel, Entry]:
    """Times of kernels from the networks that run them.

    Args:
        networks: Kernels that each network runs, in order.
        times: Times of each network, with its ops.

    Returns:
        Kernel -> the median over the places where it was timed, minus the cost of a callback. Its standard deviation
        is over these places; with one place only, over repetitions; with one repetition only, it is None.
    """
    samples: dict[Kernel, list[tuple[float, float]]] = defaultdict(list)
    counts: dict[Kernel, int] = defaultdict(int)
    for network, item, ops_ms in zip(networks, times, ops_without_callbacks(times), strict=True):
        for kernel, op_ms, std_ms in zip(network, ops_ms, item.ops_std_ms, strict=True):
            samples[kernel].append((op_ms, std_ms))
            counts[kernel] += item.n_samples
    entries = {}
    for kernel, places in samples.items():
        times_ms, stds_ms = np.array(places).T
        std_ms = (spread(times_ms) if len(places) > 1 else stds_ms[0]).item()
        entries[kernel] = Entry(
            latency_ms=np.median(times_ms), std_ms=None if np.isnan(std_ms) else std_ms, n_samples=counts[kernel]
        )
    return entries
