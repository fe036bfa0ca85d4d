"""The front of score against cost, against every architecture of small spaces."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from latency_nas.errors import SearchError
from latency_nas.search.plan.cost import Cost
from latency_nas.search.plan.plan import CostPlan
from latency_nas.search.select.budget import Budget
from latency_nas.search.select.non_dominated import non_dominated
from latency_nas.search.select.pareto import front
from tests.random_plans import random_plan
from tests.search.select.test_best import SIZES, between, by_brute_force, random_scores, score_of


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("n_terms", [0, 6])
@pytest.mark.parametrize("counts", [False, True])
def test_every_point_of_the_front(seed: int, n_terms: int, counts: bool) -> None:
    """Counts make many architectures equal in cost, in score, or in both."""
    rng = np.random.default_rng(seed)
    plan, memory = random_plan(rng, SIZES, n_terms), random_plan(rng, SIZES)
    scores = random_scores(rng, plan, pairs=bool(n_terms))
    if counts:
        plan = rounded(plan)
        scores = {name: np.round(values) for name, values in scores.items()}
    budgets = [Budget(memory, max_cost=between(memory, 0.6), confidence=0.8)]
    kept = by_brute_force(plan, scores, budgets)
    points = np.array([(plan.cost(row), score_of(scores, row)) for row in kept])
    expected = points[non_dominated(points[:, 0], points[:, 1].round(9), keep_equal=False)]
    expected = expected[np.argsort(expected[:, 0])]
    found = front(plan, scores, budgets)
    assert [point.cost.value for point in found] == pytest.approx(expected[:, 0].tolist())
    assert [point.score for point in found] == pytest.approx(expected[:, 1].tolist())
    assert all(point.gap == 0 and budgets[0].keeps(point.architecture) for point in found)
    assert [point.costs[0].value for point in found] == [memory.cost(point.architecture) for point in found]


def rounded(plan: CostPlan) -> CostPlan:
    costs = tuple(tuple(Cost(value=float(round(4 * cost.value))) for cost in row) for row in plan.costs)
    terms = tuple(replace(term, cost=Cost(value=float(round(4 * term.cost.value)))) for term in plan.terms)
    return replace(plan, costs=costs, terms=terms, fixed=Cost(value=1.0))


@pytest.mark.parametrize("n", [2, 5])
def test_some_points_spread_over_the_range(n: int) -> None:
    rng = np.random.default_rng(3)
    plan = random_plan(rng, (4,) * 6, 4)
    scores = random_scores(rng, plan)
    every, some = front(plan, scores), front(plan, scores, n=n)
    assert len(some) <= n < len(every)
    assert {tuple(point.architecture.items()) for point in some} <= {
        tuple(point.architecture.items()) for point in every
    }
    assert (some[0], some[-1]) == (every[0], every[-1])
    costs = np.array([point.cost.value for point in every])
    for limit in np.linspace(costs[0], costs[-1], n):
        within = every[int(np.searchsorted(costs, limit + 1e-12, side="right")) - 1]
        assert within in some


def test_a_front_needs_two_points_and_budgets_that_can_be_kept() -> None:
    plan = random_plan(np.random.default_rng(0), (2, 2))
    scores = {name: [0.0, 1.0] for name in plan.choices}
    with pytest.raises(SearchError) as caught:
        front(plan, scores, n=1)
    assert str(caught.value) == "Expected `n` to be an integer from 2, or None, but got 1."
    for n in (None, 3):
        with pytest.raises(SearchError, match=r"^Expected a budget that an architecture keeps, but got latency of at "):
            front(plan, scores, Budget(plan, max_cost=0.01), n=n)
