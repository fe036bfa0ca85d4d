"""The error of a measured table, from the networks in which its kernels were measured.

The sum over a network's kernels is set against the time of its whole runs, with the kernels' times from the other
networks alone. A single kernel varies little from place to place, but what varies is shared by all kernels of a
network, so that the standard deviations of rows do not say how far a sum is off.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from math import hypot, pi, sqrt
from statistics import fmean, median

from latency_nas.kernel import Kernel
from latency_nas.measure.times import NetworkTimes, ops_without_callbacks

__all__ = ["MIN_NETWORKS", "SESSION_STD", "left_out_error"]

MIN_NETWORKS = 8
"""Number of networks of which an error is stated."""
SESSION_STD = 0.015
"""Standard deviation of the factor by which all times of one session are off those of another.

On a shared machine with two cores that was recorded for four minutes, the times of six networks relative to the
yardstick, each the median of the stable repetitions of 5 s (2.5 s), differed between two such sessions by a common
factor of standard deviation 1.2 % (2.0 %).
"""


def left_out_error(networks: Sequence[Sequence[Kernel]], times: Sequence[NetworkTimes]) -> tuple[float | None, int]:
    """The mean absolute relative error to expect of other networks' predictions, measured in another session.

    Args:
        networks: Kernels that each network runs, in order.
        times: Times of each network, with its ops.

    Returns:
        The error, and the number of networks that it is from: those of two kernels or more, each of which other
        networks run as well. None if there are fewer than `MIN_NETWORKS`.
    """
    places: dict[Kernel, list[tuple[int, float]]] = defaultdict(list)
    for number, (network, ops_ms) in enumerate(zip(networks, ops_without_callbacks(times), strict=True)):
        for kernel, op_ms in zip(network, ops_ms.tolist(), strict=True):
            places[kernel].append((number, op_ms))
    errors = []
    for number, (network, item) in enumerate(zip(networks, times, strict=True)):
        others = {kernel: [ms for place, ms in places[kernel] if place != number] for kernel in network}
        if len(network) > 1 and all(others.values()):
            predicted_ms = sum(count * median(others[kernel]) for kernel, count in Counter(network).items())
            errors.append(abs(predicted_ms / item.latency_ms - 1))
    if len(errors) < MIN_NETWORKS:
        return None, len(errors)
    return hypot(fmean(errors), sqrt(2 / pi) * SESSION_STD), len(errors)
