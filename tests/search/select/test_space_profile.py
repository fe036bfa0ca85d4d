"""A space at a glance against all architectures of small spaces."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from latency_nas.errors import SearchError
from latency_nas.kernel import QUANTITIES
from latency_nas.search.plan.cost import Cost
from latency_nas.search.plan.many import Rows, costs_of, stds_of
from latency_nas.search.plan.plan import CostPlan
from latency_nas.search.select import space_distribution
from latency_nas.search.select.budget import Budget
from latency_nas.search.select.space_profile import profile_space
from tests.random_plans import random_plan

SIZES = (4, 3, 5, 2, 3)


def all_rows(sizes: tuple[int, ...] = SIZES) -> Rows:
    return np.indices(sizes).reshape(len(sizes), -1).T


def plans(seed: int = 0) -> tuple[CostPlan, CostPlan]:
    rng = np.random.default_rng(seed)
    first, second = random_plan(rng, SIZES, n_terms=4), random_plan(rng, SIZES, neighbours=True)
    return first, replace(second, quantity=QUANTITIES["energy"])


def test_costs_and_shares_of_one_budget_are_exact() -> None:
    plan, _ = plans()
    costs = np.sort(costs_of(plan, all_rows()))
    budget = Budget(plan, max_cost=float(np.median(costs)), min_cost=float(costs[20]) + 1e-6)
    profile = profile_space(plan, [budget])
    (distribution,) = profile.distributions
    found = [distribution.cheapest, distribution.quantile(0.5), distribution.dearest]
    assert found == pytest.approx([costs[0], costs[len(costs) // 2 - 1], costs[-1]])
    inside = np.count_nonzero((costs >= budget.min_cost) & (costs <= budget.max_cost)) / len(costs)
    ((_, share),) = profile.budgets
    assert share == profile.together
    assert (share.value, share.low, share.high) == pytest.approx((inside,) * 3)
    assert (profile.n_architectures, share.method, share.standard_error, profile.n_samples) == (360, "exact", 0.0, 0)
    assert profile.can_be_met
    assert profile.example is not None
    assert budget.keeps(profile.example)


def test_several_costs_are_sampled_together() -> None:
    plan, other = plans()
    rows = all_rows()
    costs = [costs_of(each, rows) for each in (plan, other)]
    limits = [float(np.quantile(each, 0.6)) for each in costs]
    budgets = [Budget(each, max_cost=limit) for each, limit in zip((plan, other), limits, strict=True)]
    profile = profile_space(plan, budgets, n_samples=20_000, seed=3)
    assert [item.quantity.unit for item in profile.distributions] == ["ms", "mJ"]
    assert [share.method for _, share in profile.budgets] == ["exact", "exact"]
    together = profile.together
    assert together is not None
    kept = [each <= limit for each, limit in zip(costs, limits, strict=True)]
    expected = np.count_nonzero(kept[0] & kept[1]) / len(rows)
    assert (together.method, profile.n_samples) == ("sampled", 20_000)
    assert abs(together.value - expected) < 4 * together.standard_error
    assert together.standard_error == pytest.approx((expected * (1 - expected) / 20_000) ** 0.5, rel=0.1)
    assert profile.example is not None
    assert all(budget.keeps(profile.example) for budget in budgets)
    assert profile_space(plan, budgets, n_samples=20_000, seed=3).together == together
    assert profile_space(plan, budgets, n_samples=20_000, seed=4).together != together


def test_budgets_of_one_cost_together_are_exact() -> None:
    plan, _ = plans()
    costs = costs_of(plan, all_rows())
    low, high = np.quantile(costs, [0.25, 0.5])
    profile = profile_space(plan, [Budget(plan, max_cost=float(high)), Budget(replace(plan), min_cost=float(low))])
    assert len(profile.distributions) == 1
    assert profile.together is not None
    assert profile.together.method == "exact"
    assert profile.together.value == pytest.approx(np.mean((costs >= low) & (costs <= high)))


def test_a_confidence_is_kept_by_each_limit() -> None:
    plan, _ = plans(1)
    rows = all_rows()
    budget = Budget(plan, max_cost=8.0, min_cost=5.0, confidence=0.9)
    stds = stds_of(plan, rows)
    assert stds is not None
    costs, distance = costs_of(plan, rows), 1.2815515655446004 * stds
    expected = np.mean((costs + distance <= 8) & (costs - distance >= 5))
    profile = profile_space(plan, [budget], n_samples=20_000)
    assert profile.together is not None
    assert profile.together.method == "sampled"
    assert abs(profile.together.value - expected) < 4 * profile.together.standard_error
    assert profile.together.low < expected < profile.together.high


def test_whether_rare_budgets_can_be_met_is_exact() -> None:
    """One architecture of 3**14 has the lowest latency, another one the lowest energy."""
    rng = np.random.default_rng(5)
    plan = random_plan(rng, (3,) * 14)
    other = replace(random_plan(rng, (3,) * 14), quantity=QUANTITIES["energy"])
    cheapest = {name: int(np.argmin(row)) for name, row in zip(plan.choices, plan.costs_ms, strict=True)}
    tight = [Budget(plan, max_cost=plan.cost(cheapest) + 1e-6), Budget(other, max_cost=other.cost(cheapest) + 1e-6)]
    profile = profile_space(plan, tight, n_samples=500)
    assert profile.together is not None
    assert profile.together.value == 0
    assert profile.together.standard_error > 0
    assert profile.can_be_met
    assert profile.example == cheapest
    impossible = [tight[0], Budget(other, max_cost=other.cost(cheapest) - 1e-6)]
    profile = profile_space(plan, impossible, n_samples=500)
    assert not profile.can_be_met
    assert str(profile).endswith("cannot be met: no architecture keeps all of them")


def test_sampled_distributions_give_sampled_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(space_distribution, "steps_of", lambda plan: None)
    plan, _ = plans()
    costs = costs_of(plan, all_rows())
    limit = float(np.quantile(costs, 0.3))
    profile = profile_space(plan, [Budget(plan, max_cost=limit)], max_error=0.02)
    assert profile.together is not None
    assert profile.together.method == "sampled"
    assert abs(profile.together.value - np.mean(costs <= limit)) < 4 * profile.together.standard_error


def test_as_text() -> None:
    costs = tuple(Cost(value=value) for value in (1.0, 2.0))
    names = (("3x3", "5x5"),) * 2
    plan = CostPlan(choices=("a", "b"), candidates=names, costs=(costs,) * 2, fixed=Cost(value=4.0))
    size = replace(plan, fixed=Cost(value=2e6), quantity=QUANTITIES["parameters"])
    budgets = [Budget(plan, max_cost=7.0), Budget(size, max_cost=2_000_002)]
    text = str(profile_space(plan, budgets, n_samples=1000, seed=0))
    lines = text.splitlines()
    assert lines[:6] == [
        "4 architectures",
        "",
        "                      cheapest         5%     median        95%    dearest",
        "latency (ms)                 6          6          7          8          8",
        "parameters (params)  2,000,002  2,000,002  2,000,003  2,000,004  2,000,004",
        "",
    ]
    assert lines[6:8] == ["latency, exactly:", f"    6 to 6.125        25 %  {'#' * 20}"]
    assert lines[-4:-2] == [
        "latency of at most 7 ms: 75 % of the architectures",
        "parameters of at most 2,000,002 params: 25 % of the architectures",
    ]
    assert lines[-2].startswith("all of them: 2")
    assert lines[-2].endswith(" %, sampled)")
    assert lines[-1] == "can be met, for example by {'a': 0, 'b': 0}"
    nothing = str(profile_space(plan, [Budget(plan, max_cost=5.0)]))
    assert nothing.splitlines()[-2:] == [
        "latency of at most 5 ms: 0 % of the architectures",
        "cannot be met: no architecture keeps it",
    ]
    assert "9.85e20 architectures" in str(profile_space(random_plan(np.random.default_rng(0), (9,) * 22)))


def test_a_budget_over_other_choices_is_refused() -> None:
    plan, _ = plans()
    other = random_plan(np.random.default_rng(0), (4, 3, 5))
    with pytest.raises(SearchError) as caught:
        profile_space(plan, [Budget(other, max_cost=5.0)])
    assert str(caught.value) == (
        "Expected budgets over the choices of the plan, with as many candidates each, but the plan has `c0` of 4, `c1` "
        "of 3, `c2` of 5, `c3` of 2, `c4` of 3, and a budget's plan of latency has `c0` of 4, `c1` of 3, `c2` of 5."
    )
