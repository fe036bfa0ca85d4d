"""The ± of estimates against measurements of the simulated device, whose errors come from no model of this library."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import darts_cells
import fbnet_chain
import numpy as np
import pytest
import supernet
import torch
from torch import nn

from latency_nas import (
    LatencyEstimator,
    LatencyTable,
    check_table,
    covering_architectures,
    measure_networks,
    measure_table,
    random_architectures,
    read_supernet,
)
from latency_nas.engine import fuse
from latency_nas.estimate.calibration import NetworkTime, calibrate
from latency_nas.estimate.uncertainty import Z90
from latency_nas.graph import OpGraph
from tests.simulation import moment, simulated_device

# supernet, shape of an image: a chain of inverted bottlenecks, one with a residual around each, and DARTS's cells
SPACES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "digits": (supernet.Supernet, (1, 1, 32, 32)),
    "chain": (lambda: fbnet_chain.Supernet(channels=(16, 32, 64), n_blocks=3), (1, 1, 32, 32)),
    "cells": (lambda: darts_cells.Supernet(n_cells=4, channels=16), (1, 1, 16, 16)),
}
# Rounds of the recording at which a table is metered. Of its windows of 2.5 to 5 s, 5 to 10 % are slow throughout.
MOMENTS = ((0, "mixed"), (600, "mixed"), (1300, "mixed"), (1900, "mixed"), (300, "fast"), (100, "slow"))
N_CHECKED, N_LATER = 12, 15


@dataclass(frozen=True)
class Trial:
    """A table, and networks that were measured later.

    Args:
        measured_ms: of each network.
        metered: Estimates and half-widths of their 90 % intervals by the table as it was metered.
        checked: The same by the table after a check.
        calibrated: The same by the table calibrated by the networks of that check.
    """

    measured_ms: np.ndarray
    metered: tuple[np.ndarray, np.ndarray]
    checked: tuple[np.ndarray, np.ndarray]
    calibrated: tuple[np.ndarray, np.ndarray]


@cache
def networks_of(space: str) -> tuple[list[OpGraph], list[OpGraph]]:
    """Networks in which each candidate stands four times, and others that run the same kernels."""
    make, shape = SPACES[space]
    torch.manual_seed(0)
    graph, _ = read_supernet(make(), torch.zeros(shape))
    plan = covering_architectures(graph.choices, times=4)
    metered, others = (
        [graph.extract(architecture) for architecture in some]
        for some in (plan, random_architectures(graph.choices, 150, seed=9, unlike=plan))
    )
    known = {call.kernel for network in metered for call in fuse(network, "simulated")}
    return metered, [item for item in others if known.issuperset(call.kernel for call in fuse(item, "simulated"))]


def trial(space: str, row: int, regime: str) -> Trial:
    """Meter a table at one moment, check it at a second, and measure other networks at a third."""
    metered, others = networks_of(space)
    n = N_CHECKED + N_LATER
    networks = [others[number] for number in np.random.default_rng(row).permutation(len(others))[:n]]
    with moment(row, regime):
        table = measure_table(metered, engine="simulated", rounds=4)
    with moment((row + 777) % 2400):
        checked, accuracy = check_table(table, networks[:N_CHECKED], rounds=4)
    runs = [
        NetworkTime(name=f"network {number}", kernels=fuse(network, "simulated"), latency_ms=ms)
        for number, (network, ms) in enumerate(zip(networks[:N_CHECKED], accuracy.measured_ms, strict=True))
    ]
    with moment((row + 1555) % 2400):
        times, _ = measure_networks(
            networks[N_CHECKED:], engine="simulated", rounds=6, yardstick_ms=table.datasheet.yardstick_ms
        )

    def estimates(table: LatencyTable) -> tuple[np.ndarray, np.ndarray]:
        estimator = LatencyEstimator(table)
        found = [estimator.predict(network) for network in networks[N_CHECKED:]]
        return np.array([item.latency_ms for item in found]), Z90 * np.array([item.std_ms for item in found])

    measured_ms = np.array([item.latency_ms for item in times])
    return Trial(measured_ms, *map(estimates, (table, checked, calibrate(table, runs)[0])))


@pytest.fixture(scope="module")
def trials(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Trial]]:
    with simulated_device(tmp_path_factory.mktemp("site")):
        yield [trial(space, *when) for space in SPACES for when in MOMENTS]


@pytest.mark.parametrize("which", ["metered", "checked", "calibrated"])
def test_the_interval_holds_nine_tenths_and_is_no_wider_than_it_must_be(which: str, trials: list[Trial]) -> None:
    """Beside it stands a perfect model: what 90 % of the networks of each trial are truly off by."""
    inside, widths = [], []
    for item in trials:
        predicted_ms, half_ms = getattr(item, which)
        errors = np.abs(item.measured_ms - predicted_ms) / predicted_ms
        inside.append(errors <= half_ms / predicted_ms)
        widths.append(half_ms / predicted_ms / np.quantile(errors, 0.9))
    assert sum(map(len, inside)) >= 200
    assert 0.85 <= np.concatenate(inside).mean() <= 0.95
    assert np.median(np.concatenate(widths)) <= 2.0
