"""The example of a chain on a simulated device: a constraint with a schedule ends on its target by itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import fbnet_chain
import pytest
import torch
from lightning.pytorch import seed_everything

from latency_nas import AugmentedLagrangian, LatencyEstimator, LatencyLoss, LatencyTable, measure_supernet, verify
from tests.simulation import moment, simulated_device
from tests.supernets import set_target


@pytest.fixture(scope="module", autouse=True)
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with simulated_device(tmp_path_factory.mktemp("site")):
        yield


def make_supernet() -> fbnet_chain.Supernet:
    seed_everything(0, verbose=False)
    return fbnet_chain.Supernet(channels=(8, 16, 32))


@pytest.fixture(scope="module")
def table(installed: None) -> LatencyTable:
    with moment(300):
        return measure_supernet(make_supernet(), fbnet_chain.EXAMPLE, times=4, engine="simulated")


@pytest.mark.parametrize("share", [0.3, 0.6])
def test_a_constraint_with_a_schedule_ends_within_the_bound_and_stays_there(
    share: float, table: LatencyTable, tmp_path: Path
) -> None:
    """The argmax by itself, through the discretization term; then after the final step, as predicted and measured."""
    supernet = make_supernet()
    latency = LatencyLoss(table, penalty=AugmentedLagrangian("inequality", rho=0.3, every=1))
    latency.attach(supernet, fbnet_chain.EXAMPLE)
    target_ms = set_target(latency, share)
    fbnet_chain.search(latency, supernet, epochs=12)
    assert 0.97 * target_ms <= latency.argmax_ms() <= target_ms
    found = latency.discretize(within=0.03)
    assert latency.architecture() == found
    layers = {name: supernet.get_submodule(name).ops[index] for name, index in found.items()}
    network = torch.nn.Sequential(*[layers.get(name, layer) for name, layer in supernet.named_children()]).eval()
    estimate = LatencyEstimator(table).predict(network, fbnet_chain.EXAMPLE)
    assert estimate.latency_ms == pytest.approx(latency.argmax_ms(), rel=1e-9)
    assert 0.97 * target_ms <= estimate.latency_ms <= target_ms
    with moment(1800):
        verdict = verify(network, fbnet_chain.EXAMPLE, table, target_ms=target_ms, file=tmp_path / "network.simulated")
    assert estimate.std_ms is not None
    assert abs(verdict.measured.latency_ms - estimate.latency_ms) <= 3 * estimate.std_ms  # one in ten is outside 1.6
    assert abs(verdict.off_target) < 0.10
