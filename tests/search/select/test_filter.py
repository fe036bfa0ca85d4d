"""`filter_by_budget` on arrays, tensors, architectures, configurations and models."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from latency_nas import LatencyEstimator, LatencyLoss, LatencyTable, ResourceCounter, Targets
from latency_nas.errors import QuantityError, SearchError
from latency_nas.graph.torch.reader import read_torch
from latency_nas.kernel import QUANTITIES
from latency_nas.search.plan.architecture import Architecture
from latency_nas.search.plan.plan import CostPlan
from latency_nas.search.select import filter as filter_module
from latency_nas.search.select.budget import Budget
from latency_nas.search.select.filter import filter_by_budget
from latency_nas.search.select.outcome import PASSED, UNCERTAIN
from latency_nas.search.select.sampling import sample_architectures
from tests.random_plans import drawn, random_plan
from tests.search.supernet.test_styles import ofa
from tests.styles import Ofa
from tests.supernets import EXAMPLE, ChainNet, MadeUp, all_architectures


@pytest.fixture
def plan() -> CostPlan:
    return random_plan(np.random.default_rng(0), (3, 2, 4, 5), 4, n_families=2)


def architectures_of(plan: CostPlan, rows: np.ndarray) -> list[dict[str, int]]:
    return [dict(zip(plan.choices, row, strict=True)) for row in rows.tolist()]


def test_an_array(plan: CostPlan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filter_module, "_CHUNK", 100)
    rows, limit, progress = drawn(plan, 1050), sum(plan.bounds()) / 2, list[tuple[int, int]]()
    filtered = filter_by_budget(rows, plan, max_ms=limit, on_progress=lambda *args: progress.append(args))
    budget = Budget(plan, max_cost=limit, confidence=0.9)
    assert filtered.budgets == (budget,)
    keeps = [budget.keeps(architecture) for architecture in architectures_of(plan, rows)]
    assert filtered.passed.tolist() == np.flatnonzero(keeps).tolist()
    assert filtered.n_passed == len(filtered.passed) > 0
    assert filtered.n_uncertain == len(filtered.uncertain) > 0
    assert filtered.n == 1050
    assert progress == [(min(n, 1050), 1050) for n in range(100, 1101, 100)]
    for threads in (1, 3):
        again = filter_by_budget(torch.from_numpy(rows).long(), plan, max_ms=limit, threads=threads)
        assert again.outcomes is not None
        assert again.outcomes.tolist() == filtered.outcomes.tolist()  # type: ignore[union-attr]
    assert filter_by_budget(rows[:0], plan, max_ms=limit).n == 0


def test_as_text(plan: CostPlan) -> None:
    other = replace(random_plan(np.random.default_rng(1), (3, 2, 4, 5)), quantity=QUANTITIES["parameters"])
    budgets = [Budget(other, max_cost=5000.0, min_cost=0.0, confidence=0.75)]
    filtered = filter_by_budget(drawn(plan, 1000), plan, max_ms=1e3, min_ms=0.5, budgets=budgets)
    assert str(filtered) == (
        "1,000 candidates: 1,000 passed (100.0%), 0 failed (0.0%), 0 uncertain (0.0%)\n"
        "latency of at least 0.5 and at most 1000 ms at a confidence of 0.9\n"
        "parameters of at least 0 and at most 5,000 params at a confidence of 0.75"
    )


def test_without_confidence_nothing_is_uncertain(plan: CostPlan) -> None:
    rows, limit = drawn(plan, 500), sum(plan.bounds()) / 2
    unsure = replace(plan, fixed=replace(plan.fixed, variance=None))
    for one in (plan, unsure):
        filtered = filter_by_budget(rows, one, max_ms=limit, confidence=None)
        costs = [plan.cost(architecture) for architecture in architectures_of(plan, rows)]
        assert filtered.passed.tolist() == np.flatnonzero(np.array(costs) <= limit).tolist()
        assert filtered.n_uncertain == 0
    with pytest.raises(SearchError) as caught:
        filter_by_budget(rows, unsure, max_ms=limit)
    assert str(caught.value) == (
        "Expected a plan whose table gives errors where `confidence` is 0.9, but it gives none: pass "
        "confidence=None to compare the estimates alone."
    )


def test_architectures_by_index_and_by_name(plan: CostPlan) -> None:
    rows, limit = drawn(plan, 300), sum(plan.bounds()) / 2
    expected = filter_by_budget(rows, plan, max_ms=limit)
    assert expected.outcomes is not None
    architectures = architectures_of(plan, rows)
    names = dict(zip(plan.choices, plan.candidates, strict=True))
    by_name = [{choice: names[choice][index] for choice, index in one.items()} for one in architectures]
    for candidates in (architectures, iter(architectures), by_name, (Architecture(one) for one in architectures)):
        filtered = filter_by_budget(candidates, plan, max_ms=limit)
        assert filtered.outcomes is not None
        assert filtered.outcomes.tolist() == expected.outcomes.tolist()
    assert filter_by_budget([], plan, max_ms=limit).n == 0


def test_configurations_of_a_loss_with_options() -> None:
    torch.manual_seed(0)
    latency = LatencyLoss(MadeUp())
    ofa(latency, Ofa())
    rows = sample_architectures(latency.plan, 60, seed=0)
    limit = float(np.median([latency.plan.cost(one) for one in architectures_of(latency.plan, rows)]))
    expected = filter_by_budget(rows, latency, max_ms=limit)
    configs = [latency.config(one) for one in architectures_of(latency.plan, rows)]
    filtered = filter_by_budget((config for config in configs), latency, max_ms=limit)
    assert filtered.outcomes is not None
    assert expected.outcomes is not None
    assert filtered.outcomes.tolist() == expected.outcomes.tolist()
    assert set(expected.outcomes.tolist()) > {PASSED}
    with pytest.raises(SearchError, match="Expected one of the options 3, 5 of `kernel0`, but got 1"):
        filter_by_budget([{**configs[0], "kernel0": 1}], latency, max_ms=limit)


def test_several_targets_and_counted_quantities() -> None:
    net = ChainNet()
    losses = {"phone": LatencyLoss(MadeUp()), "size": LatencyLoss(ResourceCounter("params"))}
    targets = Targets(losses)
    targets.attach(net, EXAMPLE)
    plans = targets.plan
    choices = dict(zip(plans["size"].choices, map(len, plans["size"].candidates), strict=True))
    every = list(all_architectures(choices))
    sizes = [plans["size"].cost(one) for one in every]
    limit = float(np.median(sizes))
    filtered = filter_by_budget(every, targets, budgets=[Budget(plans["size"], max_cost=limit)])
    assert filtered.passed.tolist() == np.flatnonzero(np.array(sizes) <= limit).tolist()
    assert filtered.n_uncertain == 0  # a count has no error
    with pytest.raises(SearchError) as caught:
        filter_by_budget(every, targets, max_ms=1.0)
    assert str(caught.value) == (
        "Expected a plan of a latency where `max_ms` or `min_ms` is given, but got none or several: give "
        "budgets=[Budget(plan, max_cost=...), ...]."
    )
    with pytest.raises(QuantityError, match="Expected a latency where `min_ms` is used, but got parameters"):
        filter_by_budget(every, plans["size"], min_ms=1.0)


def test_models(tmp_path: Any) -> None:
    from latency_nas.graph.torch.onnx_export import export_onnx

    estimator = MadeUp()
    models: list[Any] = [nn.Conv2d(3, width, 3) for width in (4, 8, 16, 32)]
    shape = (1, 3, 8, 8)
    estimates = [estimator.predict(model, input_shape=shape) for model in models]
    models[1] = read_torch(models[1], input_shape=shape)
    export_onnx(models[2], torch.zeros(shape), tmp_path / "net.onnx")
    models[2] = str(tmp_path / "net.onnx")
    limit = sorted(estimate.value for estimate in estimates)[1]
    progress: list[tuple[int, int]] = []
    filtered = filter_by_budget(
        models, estimator, max_ms=limit, confidence=None, input_shape=shape, on_progress=lambda *a: progress.append(a)
    )
    assert filtered.passed.tolist() == [n for n, estimate in enumerate(estimates) if estimate.value <= limit]
    assert progress == [(n, 4) for n in (1, 2, 3, 4)]


def test_models_by_a_table_with_errors(plan: CostPlan) -> None:
    estimator = LatencyEstimator("SD865")
    models = [nn.Conv2d(16, width, 3) for width in (16, 32, 64)]
    estimates = [estimator.predict(model, input_shape=(1, 16, 28, 28)) for model in models]
    middle = estimates[1]
    assert middle.std is not None
    for limit in (middle.value + 1.28 * middle.std, middle.value + 1.29 * middle.std):
        filtered = filter_by_budget(models, estimator.table, max_ms=limit, input_shape=(1, 16, 28, 28))
        assert filtered.outcomes is not None
        assert filtered.outcomes[1] == (PASSED if limit > middle.value + 1.285 * middle.std else UNCERTAIN)
    assert isinstance(estimator.table, LatencyTable)
    assert filter_by_budget([], "SD865", max_ms=1.0).n == 0


def test_arguments_that_do_not_fit(plan: CostPlan) -> None:
    rows = drawn(plan, 5)
    other = random_plan(np.random.default_rng(0), (3, 2, 4))

    def message(*args: Any, **options: Any) -> str:
        with pytest.raises(SearchError) as caught:
            filter_by_budget(*args, **options)
        return str(caught.value)

    assert message(rows, plan) == "Expected `max_ms`, `min_ms` or `budgets`, but got no limit."
    assert message(rows, max_ms=1.0).startswith("Expected a plan of a latency where `max_ms` or `min_ms` is given")
    assert message(rows, 3, max_ms=1.0) == (
        "Expected a plan or an attached loss (for models an estimator or a table), but got 3."
    )
    assert message(rows, LatencyLoss(MadeUp()), max_ms=1.0) == (
        "Expected the loss to be attached: call latency.attach(supernet, example_input) first."
    )
    assert message(rows, plan, max_ms=1.0, budgets=[Budget(other, 1.0)]) == (
        "Expected budgets over the same choices and candidates, but those of the plans differ."
    )
    assert message(rows, plan, max_ms=1.0, min_ms=2.0) == (
        "Expected limits from a lower one to an upper one, but got 2.0 to 1.0."
    )
    assert message(rows, plan, max_ms=1.0, confidence=1.5) == (
        "Expected `confidence` to be from 0.5 to below 1, but got 1.5."
    )
    assert message(rows, plan, max_ms=1.0, output="a.parquet") == (
        "Expected candidates from a Parquet file where `output` or `keep_uncertain` is given; others are written by "
        "write_candidates(output, plan, rows[filtered.passed])."
    )
    assert message([nn.ReLU()], plan, max_ms=1.0) == (
        "Expected architectures (choice -> candidate), an array of indices or a file, but got ReLU(); for models give "
        "an estimator or a table."
    )
    assert message([{"c0": 0}], plan, max_ms=1.0) == (
        "Expected an architecture with a candidate for each choice and no more, but c1, c2, c3 differ."
    )
    assert message(rows[:, :3], plan, max_ms=1.0) == (
        "Expected rows of indices of candidates, of shape (architectures, 4), but got the shape (5, 3) of uint8."
    )
    assert message(rows.astype(float), plan, max_ms=1.0) == (
        "Expected rows of indices of candidates, of shape (architectures, 4), but got the shape (5, 4) of float64."
    )
