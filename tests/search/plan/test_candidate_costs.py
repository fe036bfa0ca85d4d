"""Plans of candidates' own costs, held against sums by hand."""

from __future__ import annotations

import itertools
import random
from math import fsum
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from latency_nas import BlockTable, Budget, CostPlan, Datasheet, LatencyLoss, best, load_block_table, plan_of_candidates
from latency_nas.errors import QuantityError, SearchError, TableError
from latency_nas.kernel import QUANTITIES

KERNELS, RATIOS = (3, 5, 7), (3, 6)
STAGES = [(112, 16, 24, 2), (56, 24, 40, 2), (28, 40, 40, 1), (28, 40, 80, 2), (14, 80, 80, 1)]
STEM, HEAD = "Conv-input:224x224x3-output:112x112x16", "Logits-input:7x7x80-output:1000"
BLOCKS = BlockTable({"x": 1.0}, Datasheet(device="Example", engine="MNN", method="imported"), name="blocks")


def key(layer: int, kernel: int, ratio: int) -> str:
    size, c_in, c_out, stride = STAGES[layer]
    out = size // stride
    return (
        f"expanded_conv-input:{size}x{size}x{c_in}-output:{out}x{out}x{c_out}-expand:{ratio}-kernel:{kernel}-"
        f"stride:{stride}-idskip:{int(stride == 1 and c_in == c_out)}"
    )


def table_file(folder: Path) -> tuple[Path, dict[str, float]]:
    """A table of ProxylessNAS's form, and its numbers."""
    drawn = random.Random(7)
    keys = [key(layer, *op) for layer in range(len(STAGES)) for op in itertools.product(KERNELS, RATIOS)]
    times = {name: drawn.uniform(0.3, 9.0) for name in (STEM, *keys, HEAD)}
    path = folder / "phone.yaml"
    path.write_text("".join(f"{name}: {{count: 9, mean: {ms!r}, var: 0.1}}\n" for name, ms in times.items()))
    return path, times


def plan_of(path: Path) -> CostPlan:
    blocks = load_block_table(path, unit="ms")
    layers = {
        f"layer {layer}": {
            f"{kernel}x{kernel} e{ratio}": blocks[key(layer, kernel, ratio)] for kernel in KERNELS for ratio in RATIOS
        }
        for layer in range(len(STAGES))
    }
    skip = {name: {**group, "skip": 0.0} if "idskip:1" in key(row, 3, 3) else group
            for row, (name, group) in enumerate(layers.items())}  # fmt: skip
    return plan_of_candidates(skip, fixed=blocks[STEM] + blocks[HEAD])


def test_sampled_architectures_cost_what_the_file_says(tmp_path: Path) -> None:
    path, times = table_file(tmp_path)
    plan = plan_of(path)
    drawn = random.Random(1)
    for _ in range(50):
        chosen: dict[str, str] = {}
        rows = [STEM, HEAD]
        for layer in range(len(STAGES)):
            kernel, ratio = drawn.choice(KERNELS), drawn.choice(RATIOS)
            skipped = layer in (2, 4) and drawn.random() < 0.3
            chosen[f"layer {layer}"] = "skip" if skipped else f"{kernel}x{kernel} e{ratio}"
            rows += [] if skipped else [key(layer, kernel, ratio)]
        assert plan.latency_ms(chosen) == pytest.approx(fsum(times[row] for row in rows), abs=1e-9)
        assert plan.std_ms(chosen) is None
    assert "unknown" in plan.table()
    assert plan.table().splitlines()[0].split() == ["choice", "candidate", "ms", "±", "source"]


def test_a_loss_takes_the_plan_and_moves_what_it_is_given(tmp_path: Path) -> None:
    path, times = table_file(tmp_path)
    plan = plan_of(path)
    logits = nn.Parameter(torch.zeros(plan.n_gates, dtype=torch.float64))
    latency = LatencyLoss(load_block_table(path, unit="ms"), target_ms=20.0)
    latency.attach_plan(plan, lambda: logits)
    means = [
        fsum(times[key(layer, *op)] for op in itertools.product(KERNELS, RATIOS)) / (7 if layer in (2, 4) else 6)
        for layer in range(len(STAGES))
    ]
    assert float(latency.expected().detach()) == pytest.approx(times[STEM] + times[HEAD] + fsum(means), abs=1e-9)
    latency().backward()
    assert logits.grad is not None
    assert float(logits.grad.abs().min()) > 0


def test_the_best_within_a_budget_is_that_of_all(tmp_path: Path) -> None:
    plan = plan_of(table_file(tmp_path)[0])
    drawn = np.random.default_rng(0)
    scores = {
        choice: drawn.normal(size=len(names)) for choice, names in zip(plan.choices, plan.candidates, strict=True)
    }
    budget = sum(plan.bounds_ms()) / 2
    architectures = [
        dict(zip(plan.choices, picks, strict=True)) for picks in itertools.product(*map(range, (6, 6, 7, 6, 7)))
    ]
    kept = [one for one in architectures if plan.cost(one) <= budget]
    most = max(fsum(scores[choice][index] for choice, index in one.items()) for one in kept)
    assert best(plan, scores, Budget(plan, max_cost=budget))[0].score == pytest.approx(most)


def test_the_error_of_a_plan_is_what_the_user_knows() -> None:
    costs = {"a": [1.0, 2.0], "b": [3.0, 0.0]}
    sure = plan_of_candidates(costs, fixed=4.0, expected_error=0.05)
    # a mean absolute error is sqrt(2 / pi) standard deviations of a normal distribution
    assert sure.std_ms({"a": 1, "b": 0}) == pytest.approx(9.0 * 0.05 * (np.pi / 2) ** 0.5)
    latency = LatencyLoss(BLOCKS, target_ms=6.0, target_quantile=0.9)
    with pytest.raises(SearchError) as caught:
        latency.attach_plan(plan_of_candidates(costs), lambda: torch.zeros(4))
    assert str(caught.value) == (
        "Expected a table with an expected error, or with standard deviations, to keep a quantile of the estimate."
    )
    with pytest.raises(SearchError) as caught:
        plan_of_candidates(costs).estimate({"a": 0, "b": 0})
    assert str(caught.value) == ("Expected a plan that knows its kernels, but it has costs alone: use cost and std.")


def test_plans_of_other_quantities_are_not_in_milliseconds(tmp_path: Path) -> None:
    plan = plan_of_candidates({"a": [10.0, 30.0]}, fixed=5.0, quantity=QUANTITIES["energy"])
    assert plan.bounds() == (15.0, 35.0)
    with pytest.raises(QuantityError):
        plan.bounds_ms()
    plan.save(tmp_path / "plan.npz")
    assert CostPlan.load(tmp_path / "plan.npz") == plan


def test_a_table_of_blocks_prices_no_model() -> None:
    latency = LatencyLoss(BLOCKS, target_ms=1.0)
    with pytest.raises(TableError) as caught:
        latency.estimator.price([])
    assert str(caught.value) == (
        "Expected a table of kernels to price a model, but blocks holds whole blocks: make a plan of them by "
        "plan_of_candidates, and give it to attach_plan."
    )


@pytest.mark.parametrize(
    ("costs", "message"),
    [
        ({}, "Expected at least one choice, but got none."),
        ({"a": [1.0]}, "Expected at least two candidates of `a`, but got 1."),
        ({"a": [1.0, -1.0]}, "Expected the cost of `a=1` to be a finite number >= 0, but got -1.0."),
        ({"a": {"x": 1.0, "y": float("nan")}}, "Expected the cost of `a=y` to be a finite number >= 0, but got nan."),
        ({"a": {"x": 1.0, "y": "2"}}, "Expected the cost of `a=y` to be a finite number >= 0, but got '2'."),
    ],
)
def test_costs_that_make_no_plan_are_named(costs: dict[str, list[float]], message: str) -> None:
    with pytest.raises(SearchError) as caught:
        plan_of_candidates(costs)
    assert str(caught.value) == message
