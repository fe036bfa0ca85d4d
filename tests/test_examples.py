"""Each example in a small form: it runs, and its result is checked in another way."""

from __future__ import annotations

import random

import darts_cells
import fbnet_chain
import ofa_elastic
import plain_loop
import pytest
import torch
import transformer_elastic
from lightning.pytorch import seed_everything

from latency_nas import LatencyLoss, ResourceCounter, Schedule, Targets, options_of
from tests.supernets import MadeUp, set_target


@pytest.fixture(autouse=True)
def _seeded() -> None:
    seed_everything(0, verbose=False)
    random.seed(0)


def test_fbnet_chain_ends_within_the_budget() -> None:
    supernet, latency = fbnet_chain.Supernet(channels=(4, 8)), LatencyLoss(MadeUp(), penalty="inequality")
    latency.attach(supernet, fbnet_chain.EXAMPLE)
    target_ms = set_target(latency)
    callback = fbnet_chain.search(latency, supernet, epochs=3)
    assert latency.n_terms == 3 * 11  # every other of 22 batches
    found = latency.project(within=0.05)
    layers = {name: supernet.get_submodule(name).ops[index] for name, index in found.items()}
    subnet = torch.nn.Sequential(*[layers.get(name, layer) for name, layer in supernet.named_children()])
    price_ms = MadeUp().predict(subnet, fbnet_chain.EXAMPLE).latency_ms
    assert price_ms == pytest.approx(latency.plan.latency_ms(found), rel=1e-9)
    assert 0.95 * target_ms <= price_ms <= target_ms
    assert len(callback.history) == 3


def test_plain_loop_moves_multiplier_and_temperature() -> None:
    supernet = plain_loop.make_supernet(channels=4, n_blocks=3)
    schedule = Schedule(warm_up=0.2, ramp=0.2, final_temperature=0.1)
    latency = LatencyLoss(MadeUp(), penalty="equality", schedule=schedule)
    latency.attach(supernet, plain_loop.EXAMPLE)
    set_target(latency)
    plain_loop.search(supernet, latency, n_steps=30, batch_size=16)
    assert latency.temperature.item() == pytest.approx(0.1 ** (29 / 30), rel=1e-12)
    assert latency.penalty.multiplier.item() != 0


def test_darts_cells_share_their_rows() -> None:
    supernet, latency = darts_cells.Supernet(n_cells=2, channels=4), LatencyLoss(MadeUp(), penalty="equality")
    latency.attach(supernet, darts_cells.EXAMPLE)
    set_target(latency, 0.2)
    before = supernet.alphas.detach().clone()
    callback = darts_cells.search(supernet, latency, epochs=1)
    assert list(latency.plan.choices) == [f"alphas[{row}]" for row in range(darts_cells.N_EDGES)]
    assert not torch.equal(supernet.alphas.detach(), before)
    assert callback.history[-1]["latency/multiplier"] == latency.penalty.multiplier.item() != 0


def test_ofa_elastic_picks_within_the_target() -> None:
    supernet, latency = ofa_elastic.Supernet(), LatencyLoss(MadeUp())
    latency.attach(
        supernet, ofa_elastic.EXAMPLE, choices=options_of(ofa_elastic.OPTIONS, lambda net, c: net.configured(c))
    )
    ofa_elastic.train(supernet, n_steps=5)
    target_ms = set_target(latency)
    _, config = ofa_elastic.pick(supernet, latency, target_ms, n_tried=5)
    price_ms = MadeUp().predict(supernet.configured(config), ofa_elastic.EXAMPLE).latency_ms
    assert latency.price(config).latency_ms == pytest.approx(price_ms, rel=1e-9)
    assert 0.9 * target_ms <= price_ms <= target_ms


def test_transformer_keeps_two_budgets() -> None:
    supernet = transformer_elastic.Supernet()
    losses = {"device": LatencyLoss(MadeUp(), penalty="inequality"), "size": LatencyLoss(ResourceCounter("params"))}
    latency = Targets(losses)
    latency.attach(
        supernet,
        transformer_elastic.EXAMPLE,
        choices=options_of(
            transformer_elastic.OPTIONS, lambda net, config: net.subnet(config), gates=lambda net: net.gates()
        ),
    )
    targets = [set_target(loss, 0.6) for loss in latency.by_name().values()]
    transformer_elastic.search(supernet, latency, n_steps=10, batch_size=16)
    assert all(alpha.grad is not None and bool(alpha.grad.any()) for alpha in supernet.alphas.values())
    found = latency.project()
    config = {name: transformer_elastic.OPTIONS[name][index] for name, index in found.items()}
    network = supernet.subnet(config)
    assert MadeUp().predict(network, transformer_elastic.EXAMPLE).latency_ms <= targets[0] * (1 + 1e-12)
    linear = [module for module in network.modules() if isinstance(module, torch.nn.Linear | torch.nn.LayerNorm)]
    assert sum(p.numel() for module in linear for p in module.parameters()) <= targets[1] * (1 + 1e-12)
