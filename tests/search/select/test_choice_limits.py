"""All that searches a plan keeps its limits on choices: against every architecture of small spaces."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from latency_nas import (
    Budget,
    CountLimit,
    SumLimit,
    UnlikeLimit,
    best,
    distribution_of,
    evolve,
    filter_by_budget,
    front,
    sample_architectures,
    stratified_architectures,
)
from latency_nas.errors import SearchError
from latency_nas.search.loss.target import Target
from latency_nas.search.plan.limits import ChoiceLimit, limit_rows
from latency_nas.search.plan.plan import CostPlan
from latency_nas.search.select.budget import Limit
from latency_nas.search.select.projection import most_probable_within, project
from latency_nas.search.select.reach import reach, sizes_of
from tests.random_plans import random_plan
from tests.supernets import all_architectures

SIZES = (4, 3, 5, 2, 3)
NAMES = tuple(f"c{number}" for number in range(5))
LIMITS: dict[str, tuple[ChoiceLimit, ...]] = {
    "edges": (CountLimit(NAMES[:3], other_than=0, at_most=2), CountLimit(NAMES[3:], other_than=0, at_most=1)),
    "unlike": (UnlikeLimit(NAMES),),
    "depth": (SumLimit({"c0": (0, 1, 2, 3), "c1": (0, 1, 2), "c4": (2, 3, 4)}, at_most=5, at_least=5),),
}


def limited(name: str, *, seed: int = 0, n_terms: int = 6) -> tuple[CostPlan, list[dict[str, int]]]:
    """A plan with limits, and the architectures that keep them."""
    plan = random_plan(np.random.default_rng(seed), SIZES, n_terms)
    rows = limit_rows(LIMITS[name], sizes_of(plan))
    allowed = [one for one in all_architectures(sizes_of(plan)) if all(row.keeps(one) for row in rows)]
    return replace(plan, limits=rows), allowed


def random_scores(plan: CostPlan, seed: int = 0) -> dict[str, list[float]]:
    rng = np.random.default_rng(seed)
    return {name: np.log(rng.dirichlet(np.ones(n))).tolist() for name, n in sizes_of(plan).items()}


def total(scores: dict[str, list[float]], one: dict[str, int]) -> float:
    return sum(scores[name][index] for name, index in one.items())


@pytest.mark.parametrize("name", LIMITS)
@pytest.mark.parametrize("n_std", [0.0, 1.28])
def test_projection_and_reach(name: str, n_std: float) -> None:
    plan, allowed = limited(name)
    scores = random_scores(plan)
    unlimited = Limit(plan=plan, n_std=n_std)
    lowest, highest = reach(plan, n_std)
    costs = [unlimited.cost(one) for one in allowed]
    assert lowest == pytest.approx(min(costs), rel=1e-4)
    assert highest == pytest.approx(max(costs), rel=0.02 if n_std else 1e-12)
    for share in (0.2, 0.7):
        limit = Limit(plan=plan, max_cost=lowest + share * (highest - lowest), n_std=n_std)
        within = [one for one in allowed if unlimited.cost(one) <= limit.max_cost]
        assert project(scores, [limit]) == max(within, key=lambda one: total(scores, one))
    assert most_probable_within(scores, [], plan.limits) == max(allowed, key=lambda one: total(scores, one))
    with pytest.raises(SearchError) as caught:
        project(scores, [Limit(plan=plan, max_cost=0.99 * min(costs), n_std=n_std)])
    assert str(caught.value).endswith("but the supernet has none within its limits on choices.")


@pytest.mark.parametrize(("name", "n_terms"), [("edges", 0), ("edges", 6), ("unlike", 6), ("depth", 0)])
def test_best_front_and_samples(name: str, n_terms: int) -> None:
    plan, allowed = limited(name, n_terms=n_terms)
    scores = random_scores(plan)
    order = sorted(allowed, key=lambda one: -total(scores, one))
    assert [found.architecture for found in best(plan, scores, k=4)] == order[:4]
    budget = Budget(plan, max_cost=float(np.median([plan.cost(one) for one in allowed])))
    within = [one for one in order if budget.keeps(one)]
    assert [found.architecture for found in best(plan, scores, budget, k=3)] == within[:3]
    points = [(plan.cost(one), total(scores, one)) for one in allowed]
    efficient = sorted(p for p in points if not any(q != p and q[0] <= p[0] and q[1] >= p[1] for q in points))
    assert [(point.cost.value, point.score) for point in front(plan, scores)] == [
        (pytest.approx(cost), pytest.approx(score)) for cost, score in efficient
    ]
    drawn = sample_architectures(plan, 500, seed=0)
    assert {tuple(row) for row in drawn.tolist()} <= {tuple(one.values()) for one in allowed}
    strata = stratified_architectures(plan, 5, bins=3, seed=0)
    assert sum(strata.counts) > 5
    assert {tuple(row) for row in strata.rows.tolist()} <= {tuple(one.values()) for one in allowed}


def test_an_evolution_stays_within_the_limits() -> None:
    plan, allowed = limited("edges")
    scores = random_scores(plan)
    budget = Budget(plan, max_cost=float(np.median([plan.cost(one) for one in allowed])))
    within = {tuple(one.values()): total(scores, one) for one in allowed if budget.keeps(one)}
    found = evolve(plan, lambda one: total(scores, one), budget, n_evaluations=len(within) + 10, population=20)
    assert {tuple(row): value for row, value in zip(found.rows.tolist(), found.accuracies, strict=True)} == within


def test_the_target_is_within_reach_of_the_limits() -> None:
    plan, allowed = limited("depth")
    costs = [plan.cost(one) for one in allowed]
    cheapest, _ = replace(plan, limits=()).bounds()
    assert cheapest < min(costs) - 0.01, "the limits exclude the cheapest architecture"
    Target(value=min(costs) + 0.01).check(plan)
    with pytest.raises(SearchError) as caught:
        Target(value=(cheapest + min(costs)) / 2).check(plan)
    assert str(caught.value).startswith("Expected a target that the supernet can reach, from ")


def test_what_takes_all_combinations_refuses_limits() -> None:
    plan, _ = limited("depth")
    rest = (
        "but it has a sum from 5 to 5 over `c0`, `c1`, `c4`: take `dataclasses.replace(plan, limits=())` for all "
        "combinations of candidates, or draw architectures within the limits by `sample_architectures`."
    )
    with pytest.raises(SearchError) as caught:
        distribution_of(plan)
    assert str(caught.value) == (
        f"Expected a plan without limits on its choices for a distribution over its space, {rest}"
    )
    with pytest.raises(SearchError) as caught:
        filter_by_budget(np.zeros((1, 5), int), plan, max_ms=3)
    assert str(caught.value) == (
        f"Expected a plan without limits on its choices for a filter, which takes any combination of candidates, {rest}"
    )
