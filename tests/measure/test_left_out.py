"""The error of a measured table from its own networks: by hand, and by tables made anew without each of them."""

from __future__ import annotations

from math import hypot, pi, sqrt

import numpy as np
import pytest

from latency_nas.kernel import Kernel
from latency_nas.measure.left_out import MIN_NETWORKS, SESSION_STD, left_out_error
from latency_nas.measure.times import NetworkTimes, entries_of

KERNELS = [Kernel.of("relu", [(1, n)], [(1, n)]) for n in range(1, 9)]
SESSION = sqrt(2 / pi) * SESSION_STD


def times_of(ops_ms: list[float], whole_ms: float | None = None) -> NetworkTimes:
    """Of a network whose profiling costs nothing, unless the whole is given."""
    ops = np.array(ops_ms)
    return NetworkTimes(
        latency_ms=whole_ms or sum(ops_ms), std_ms=0.0, raw_ms=1.0, ops_ms=ops, ops_std_ms=0 * ops, n_samples=1
    )


def test_by_hand() -> None:
    """Seven networks are twice the same kernel, at 1 ms each; the eighth, at 1.5 ms, is a half above the others."""
    networks = [KERNELS[:1] * 2] * 8
    times = [times_of([1.0, 1.0])] * 7 + [times_of([1.5, 1.5])]
    error, n_networks = left_out_error(networks, times)
    assert n_networks == 8
    assert error == pytest.approx(hypot((7 * 0 + 1 / 3) / 8, SESSION))


def test_by_tables_without_each_network() -> None:
    rng = np.random.default_rng(0)
    networks = [[KERNELS[number] for number in rng.integers(0, 8, 12)] for _ in range(20)]
    times = []
    for network in networks:  # profiles without overhead, so that each table subtracts the same of an op, nothing
        ops_ms = [kernel.inputs[0][1] * float(rng.uniform(0.9, 1.1)) for kernel in network]
        times.append(times_of(ops_ms, sum(ops_ms) * float(rng.uniform(1.0, 1.1))))
    errors = []
    for number, (network, item) in enumerate(zip(networks, times, strict=True)):
        rest = [index for index in range(20) if index != number]
        table = entries_of([networks[index] for index in rest], [times[index] for index in rest])
        errors.append(abs(sum(table[kernel].latency_ms for kernel in network) / item.latency_ms - 1))
    assert left_out_error(networks, times) == (pytest.approx(hypot(np.mean(errors), SESSION)), 20)


@pytest.mark.parametrize(
    ("networks", "n_usable"),
    [
        ([KERNELS[:2]] * (MIN_NETWORKS - 1), MIN_NETWORKS - 1),
        ([KERNELS[:1]] * 20, 0),  # one kernel: nothing is summed
        ([[kernel, KERNELS[0]] for kernel in KERNELS], 1),  # each runs a kernel that no other runs
    ],
    ids=["few", "single kernels", "kernels of their own"],
)
def test_nothing_is_said_from_too_little(networks: list[list[Kernel]], n_usable: int) -> None:
    times = [times_of([1.0] * len(network)) for network in networks]
    assert left_out_error(networks, times) == (None, n_usable)
