"""Budgets: what is refused, and what stands for one or several."""

from __future__ import annotations

from math import inf, nan
from typing import Any

import numpy as np
import pytest

from latency_nas.errors import SearchError
from latency_nas.search.select.best import best
from latency_nas.search.select.budget import Budget
from latency_nas.search.select.filter import filter_by_budget
from latency_nas.search.select.sampling import sample_architectures
from latency_nas.search.select.space_profile import profile_space
from tests.random_plans import random_plan

PLAN = random_plan(np.random.default_rng(1), (3, 4, 5), 3, n_families=2)


@pytest.mark.parametrize(
    "limits",
    [
        {"max_cost": -inf},
        {"min_cost": inf},
        {},
        {"max_cost": nan},
        {"max_cost": 1.0, "min_cost": 2.0},
        {"max_cost": "3"},
        {"max_cost": True},
        {"max_cost": 3.0, "confidence": "0.9"},
        {"max_cost": 3.0, "confidence": 0.4},
        {"max_cost": 3.0, "confidence": 1.0},
    ],
)
def test_limits_that_are_none(limits: dict[str, Any]) -> None:
    with pytest.raises(SearchError, match="Expected"):
        Budget(PLAN, **limits)


def test_one_budget_is_taken_wherever_several_are() -> None:
    budget = Budget(PLAN, max_cost=sum(PLAN.bounds()) / 2)
    rows = sample_architectures(PLAN, 50, seed=0)
    one, several = (filter_by_budget(rows, budgets=given) for given in (budget, [budget]))
    assert (one.outcomes == several.outcomes).all()
    shares = [profile_space(PLAN, given).together for given in (budget, [budget])]
    assert shares[0] == shares[1]
    scores = {name: [0.0] * len(names) for name, names in zip(PLAN.choices, PLAN.candidates, strict=True)}
    assert best(PLAN, scores, budget)[0].score == 0


@pytest.mark.parametrize("budgets", [[5], [PLAN]])
def test_what_is_no_budget(budgets: Any) -> None:
    for use in (profile_space, lambda plan, given: filter_by_budget(np.zeros((1, 3), int), plan, budgets=given)):
        with pytest.raises(SearchError, match="Expected budgets, such as"):
            use(PLAN, budgets)


def test_what_is_no_plan() -> None:
    for use in (lambda: profile_space(None), lambda: best("plan.npz", {}), lambda: Budget("plan.npz", 3.0)):  # type: ignore[arg-type]
        with pytest.raises(SearchError, match="Expected a plan"):
            use()


def test_a_joint_share_is_at_most_each_of_its_parts() -> None:
    other = random_plan(np.random.default_rng(2), (3, 4, 5))
    budgets = [Budget(PLAN, max_cost=sum(PLAN.bounds()) / 2), Budget(other, max_cost=other.bounds()[1])]
    profile = profile_space(PLAN, budgets, n_samples=1000)
    assert profile.together is not None
    assert profile.together.value <= min(share.value for _, share in profile.budgets)


def test_the_table_of_a_plan_has_the_errors_of_regressed_costs() -> None:
    lines = PLAN.table().splitlines()[1:]
    errors = [float(line.split()[-2]) for line in lines]
    assert min(errors) > 0
