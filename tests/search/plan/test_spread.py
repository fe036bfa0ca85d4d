"""One model of errors: plan, estimate, gates and budgets give the same standard deviation."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from math import inf
from zlib import crc32

import numpy as np
import pytest
import torch

from latency_nas.errors import SearchError
from latency_nas.estimate.estimate import KernelEstimate
from latency_nas.kernel.kernel_call import KernelCall
from latency_nas.search.loss.loss import LatencyLoss
from latency_nas.search.plan.cost import Cost, Term
from latency_nas.search.plan.gates import PackedPlan
from latency_nas.search.plan.plan import CostPlan
from latency_nas.search.select.budget import Limit
from latency_nas.search.select.projection import most_probable_within
from latency_nas.search.select.reach import reach
from tests.search.supernet.test_styles import STYLES, TOKENS
from tests.supernets import MadeUp

ERRORS = (None, 0.05)


class PartlyRegressed(MadeUp):
    """As `MadeUp`, with a third of the kernels regressed, and an error of whole networks or none."""

    def __init__(self, expected_error: float | None) -> None:
        super().__init__()
        sheet = replace(self.table.datasheet, expected_error=expected_error)
        self.table = replace(self.table, datasheet=sheet)

    def _price(self, call: KernelCall) -> KernelEstimate:
        item = super()._price(call)
        return replace(item, source="regressed") if crc32(call.kernel.key.encode()) % 3 == 0 else item


@pytest.mark.parametrize(("style", "error"), [(style, ERRORS[n % 2]) for n, style in enumerate(STYLES)])
def test_every_style_has_one_deviation(style: str, error: float | None) -> None:
    make, attach, _ = STYLES[style]
    torch.manual_seed(0)
    net, estimator = make(), PartlyRegressed(error)
    latency = LatencyLoss(estimator)
    attach(latency, net)
    plan, options = latency.plan, getattr(net, "OPTIONS", None)
    packed, random = PackedPlan(plan, [False] * len(plan.choices)), np.random.default_rng(2)
    for _ in range(100):
        drawn = random.integers(0, [len(names) for names in plan.candidates]).tolist()
        architecture = dict(zip(plan.choices, drawn, strict=True))
        config = architecture if options is None else {name: options[name][architecture[name]] for name in options}
        side = config.get("resolution", 8)
        example = TOKENS if style == "AutoFormer" else torch.zeros(1, 3, side, side)
        estimate = estimator.predict(net.subnet(config), example)
        assert estimate.std is not None
        assert estimate.std > 0
        assert plan.std(architecture) == pytest.approx(estimate.std, rel=1e-9)
        gates = torch.from_numpy(plan.one_hot(architecture))
        assert float(packed.std_of(gates)) == pytest.approx(estimate.std, rel=1e-9)
        cost = Limit(plan=plan, max_cost=inf, n_std=2.0).cost(architecture)
        assert cost == pytest.approx(estimate.value + 2 * estimate.std, rel=1e-9)


def random_plan(seed: int, sizes: tuple[int, ...] = (3, 4, 2, 3)) -> CostPlan:
    """A plan with terms, whose costs have errors of all three kinds."""
    random = np.random.default_rng(seed)

    def cost() -> Cost:
        value = float(random.uniform(0.5, 2.0))
        families = tuple((family, float(random.uniform(0.0, 0.3))) for family in random.permutation(["a", "b"])[:1])
        return Cost(value=value, from_table=value / 2, variance=float(random.uniform(0, 0.02)), together=families)

    terms = [Term(candidates=(i, sizes[0] + j), cost=cost()) for i, j in product(range(sizes[0]), range(sizes[1]))]
    return CostPlan(
        choices=tuple("pqrs"), candidates=tuple(tuple(map(str, range(size))) for size in sizes),
        costs=tuple(tuple(cost() for _ in range(size)) for size in sizes), fixed=cost(), terms=tuple(terms),
        expected_error=0.03,
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(6))
def test_most_probable_and_reach_are_those_of_a_complete_search(seed: int) -> None:
    plan, random = random_plan(seed), np.random.default_rng(seed)
    n_std = 1.3
    every = [dict(zip(plan.choices, row, strict=True)) for row in product(*(range(len(c)) for c in plan.candidates))]
    costs = np.array([plan.cost(row) + n_std * (plan.std(row) or 0.0) for row in every])
    lowest, highest = reach(plan, n_std)
    assert lowest == pytest.approx(costs.min(), rel=2e-4)
    assert costs.min() <= highest <= costs.max() + 1e-9
    scores = {
        name: random.normal(size=len(names)).tolist() for name, names in zip(plan.choices, plan.candidates, strict=True)
    }
    totals = np.array([sum(scores[name][index] for name, index in row.items()) for row in every])
    for quantile in (0.1, 0.5, 0.9):
        max_cost = float(np.quantile(costs, quantile))
        min_cost = float(np.quantile(costs, quantile / 2))
        for lower in (-inf, min_cost):
            found = most_probable_within(scores, [Limit(plan=plan, max_cost=max_cost, min_cost=lower, n_std=n_std)])
            within = (costs <= max_cost) & (costs >= lower)
            assert found is not None
            assert sum(scores[name][index] for name, index in found.items()) == pytest.approx(totals[within].max())


def test_a_quantile_that_cannot_be_reached_is_refused_at_once() -> None:
    plan = random_plan(0)
    cheapest = plan.bounds()[0]
    latency = LatencyLoss(MadeUp(), target_ms=cheapest * 1.0001, target_quantile=0.9)
    with pytest.raises(SearchError, match=r"^Expected a target that the supernet can reach, from "):
        latency.attach_plan(plan, lambda: torch.zeros(plan.n_gates))
    LatencyLoss(MadeUp(), target_ms=cheapest * 1.0001).attach_plan(plan, lambda: torch.zeros(plan.n_gates))


def test_a_saved_plan_has_the_same_deviation(tmp_path) -> None:  # type: ignore[no-untyped-def]
    plan = random_plan(1)
    plan.save(tmp_path / "plan.npz")
    architecture = dict.fromkeys(plan.choices, 1)
    assert CostPlan.load(tmp_path / "plan.npz").std(architecture) == plan.std(architecture)
