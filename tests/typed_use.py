"""Uses every public name, for type checkers: `tests/test_public_names.py` runs ``mypy --strict`` on this. Never run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, assert_type

import numpy as np
import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn

import latency_nas as nas


class Ratio(nas.Factor):
    def __call__(self, cost: Tensor, target: float | None) -> Tensor:
        return cost / (target or 1.0)


class DualAscent(nas.Constraint):
    def forward(self, cost: Tensor, target: float) -> Tensor:
        return self.multiplier * (cost / target - 1)

    def _update(self, violation: float) -> None:
        self.multiplier += violation


class MyEngine(nas.Engine):
    """An engine of another package."""


def tables(folder: Path) -> nas.LatencyTable:
    table = nas.load_table("SD865")
    assert_type(table, nas.LatencyTable)
    sheet: nas.Datasheet = table.datasheet
    target: nas.Target = sheet.target
    kernel = nas.Kernel.of("relu", [(1, 8, 4, 4)], [(1, 8, 4, 4)])
    print(nas.named_tables(), sheet.device, target.threads, table[kernel].latency_ms, nas.get_engine("mnn").title)
    nas.save_table(table, folder / "table.parquet")
    nas.export_table(table, folder / "table.csv")
    imported, report = nas.import_table(folder / "table.csv")
    print(report, nas.import_paddleslim)
    return imported


def blocks(path: Path, logits: Tensor) -> nas.LatencyLoss:
    table = nas.load_block_table(path, unit="ms", device="Example phone")
    assert_type(table, nas.BlockTable)
    plan = nas.plan_of_candidates(table.groups, fixed=table["head"], expected_error=0.05)
    latency = nas.LatencyLoss(table, target_ms=20)
    latency.attach_plan(plan, lambda: logits)
    return latency


def measuring(net: nn.Module, x: Tensor) -> nas.LatencyTable:
    graph: nas.OpGraph = nas.read_model(net, x)
    supergraph, choices = nas.read_supernet(net, x)
    first: nas.Choice = choices[0]
    networks = [supergraph.extract(one) for one in nas.covering_architectures(supergraph.choices, times=2)]
    with nas.progress_bar("metering") as progress:
        table = nas.measure_table(networks, on_progress=progress)
    times, drift = nas.measure_networks([graph])
    print(times[0].latency_ms, drift, first.names)
    assert_type(nas.measure_supernet(net, x), nas.LatencyTable)
    return table


def estimating(net: nn.Module, x: Tensor, table: nas.LatencyTable) -> nas.Estimate:
    estimate = nas.LatencyEstimator(Path("table.parquet"), on_missing="regress").predict(net, x)
    assert_type(estimate, nas.Estimate)
    assert_type(estimate.latency_ms, float)
    assert_type(estimate.std_ms, float | None)
    print(nas.breakdown_table(estimate), nas.ResourceCounter("params").predict(net, x).value)
    measured, accuracy = nas.check_table(table, [nas.read_model(net, x)])
    found: nas.Accuracy = accuracy
    quantity: nas.Quantity = estimate.quantity
    time = nas.NetworkTime(name="net", kernels=nas.LatencyEstimator(table).fuse(nas.read_model(net, x)), latency_ms=3.0)
    calibrated = nas.calibrate(table, [time], other_device=True)
    print(measured, found.mean_error, quantity.unit, calibrated)
    return estimate


def searching(net: nn.Module, x: Tensor, table: nas.LatencyTable) -> nas.CostPlan:
    constraint = nas.AugmentedLagrangian("equality")
    latency = nas.LatencyLoss(table, target_ms=2.0, penalty=constraint, schedule=nas.Schedule(discretization=0.4))

    def gates(net: Any) -> Mapping[str, Tensor]:
        return {"first": net.alpha.softmax(-1)}

    groups = nas.groups_of({"first": net.children()}, gates=gates)
    options = nas.options_of({"depth": (2, 3, 4)}, lambda net, config: net.subnet(**config))
    limits = [
        nas.SumLimit({"depth": (2, 3, 4)}, at_most=3),
        nas.UnlikeLimit(("first", "depth")),
        nas.CountLimit(("first",), other_than=0, at_most=2),
    ]
    plan = latency.attach(net, x, choices=[groups, options, *nas.find_choices(net)], limits=limits, check=8)
    assert_type(plan, nas.CostPlan)
    assert_type(latency.price(latency.project()), nas.Estimate)
    assert_type(latency.argmax_ms(), float)
    config = latency.random(max_ms=2.0, seed=0)
    latency.use_config(config)
    assert_type(latency.project(config), dict[str, Any])
    loss: Tensor = latency.combine(torch.zeros(())) + latency()
    loss.backward()  # type: ignore[no-untyped-call]
    latency.step(0.5)
    print(latency.discretize(), latency.summary(), plan.expected(np.zeros(plan.n_gates)))
    several = nas.Targets({"phone": latency, "size": nas.LatencyLoss(nas.ResourceCounter("params"), penalty=Ratio())})
    assert_type(several.price({"first": 0}), dict[str, nas.Estimate])
    Trainer(callbacks=[nas.LatencyCallback(several, stop_after=3)])
    nas.LatencyLoss(table, penalty=DualAscent())
    return plan


def evolving(net: nn.Module, plan: nas.CostPlan, batches: list[Tensor]) -> nas.Evolution:
    scores = nas.score_replacements(net, lambda net, batch: net(batch).mean(), batches, path="scores.jsonl")
    assert_type(scores, dict[str, list[float]])

    def accuracy(architecture: Mapping[str, int]) -> float:
        return sum(scores[name][index] for name, index in architecture.items())

    found = nas.evolve(plan, accuracy, n_evaluations=1000, seed=1)
    assert_type(found, nas.Evolution)
    assert_type(found.accuracy, float)
    print(found.best, found.estimate, found.front, nas.ArchitectureProblem(plan, accuracy))
    print(nas.suggest_architecture, nas.set_constraints, nas.constraints_func(plan, ()))
    return found


def in_paddle(net: Any, x: Any) -> nas.Estimate:
    latency = nas.PaddleLatencyLoss("SD865", target_ms=20.0)
    assert_type(latency.attach(net, x), nas.CostPlan)
    print(nas.PaddleLatencyCallback(latency), latency.discretize())
    return latency.price(latency.project())


def verdict(net: nn.Module, x: Tensor, table: nas.LatencyTable, folder: Path) -> None:
    found = nas.verify(net, x, table, target_ms=2.0, file=folder / "network.mnn")
    assert_type(found, nas.Verdict)
    candidates = nas.random_architectures({"first": 3}, n=10, seed=0)
    print(found.measured.latency_ms, candidates, nas.write_page)


def space(plan: nas.CostPlan) -> nas.StratifiedSample:
    profile = nas.profile_space(plan)
    assert_type(profile, nas.SpaceProfile)
    distribution: nas.Distribution = nas.distribution_of(plan)
    print(profile, profile.can_be_met, distribution.quantile(0.5), nas.sample_architectures(plan, 10, seed=0))
    return nas.stratified_architectures(plan, 10, seed=0)


def filtering(plan: nas.CostPlan, params: nas.CostPlan, folder: Path) -> nas.Filtered:
    rows = nas.sample_architectures(plan, 1000, seed=0)
    filtered = nas.filter_by_budget(rows, plan, max_ms=20.0, budgets=[nas.Budget(params, max_cost=3e6)])
    assert_type(filtered, nas.Filtered)
    nas.write_candidates(folder / "within.parquet", plan, rows[filtered.passed])
    print(filtered.n_uncertain, nas.read_candidates(folder, plan).shape)
    return nas.filter_by_budget(folder, plan, max_ms=20.0, output=folder / "within.parquet")


def select(plan: nas.CostPlan) -> list[nas.Solution]:
    scores = {name: [0.0] * len(names) for name, names in zip(plan.choices, plan.candidates, strict=True)}
    budget = nas.Budget(plan, max_cost=20.0, confidence=0.9)
    found = nas.best(plan, scores, budget, k=2, min_difference=2, max_gap=0.001)
    print(nas.non_dominated([solution.cost.value for solution in found], [solution.gap for solution in found]))
    return nas.front(plan, scores, [budget], n=10)
