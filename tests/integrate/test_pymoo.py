"""pymoo itself solves small spaces, whose fronts are known from every architecture."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from math import nan
from typing import Any

import numpy as np
import pytest
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.operators.crossover.sbx import SBX
from pymoo.operators.mutation.pm import PM
from pymoo.operators.repair.rounding import RoundingRepair
from pymoo.operators.sampling.rnd import IntegerRandomSampling
from pymoo.optimize import minimize

from latency_nas.errors import SearchError
from latency_nas.integrate.pymoo import ArchitectureProblem
from latency_nas.search.select.budget import Budget
from tests.random_plans import random_plan

PLAN = random_plan(np.random.default_rng(0), (4, 3, 5, 2), n_terms=4)
EVERY = [dict(zip(PLAN.choices, row, strict=True)) for row in itertools.product(range(4), range(3), range(5), range(2))]
LOW, HIGH = PLAN.bounds()
BUDGET = Budget(PLAN, max_cost=LOW + 0.6 * (HIGH - LOW), min_cost=LOW + 0.1 * (HIGH - LOW), confidence=0.7)


def accuracy(architecture: Mapping[str, int]) -> float:
    return float(sum(np.sqrt(index + number) for number, index in enumerate(architecture.values())))


def nsga2() -> NSGA2:
    repair = RoundingRepair()
    return NSGA2(
        pop_size=40,
        sampling=IntegerRandomSampling(),
        crossover=SBX(vtype=float, repair=repair),
        mutation=PM(vtype=float, repair=repair),
        eliminate_duplicates=True,
    )


def front_by_hand() -> set[tuple[float, float]]:
    points = [(accuracy(one), PLAN.cost(one)) for one in EVERY if BUDGET.keeps(one)]
    return {
        (score, cost)
        for score, cost in points
        if not any(other >= score and less <= cost and (other, less) != (score, cost) for other, less in points)
    }


@pytest.mark.parametrize("batch", [False, True])
def test_it_finds_the_front_within_the_budget(batch: bool) -> None:
    function: Any = (lambda many: list(map(accuracy, many))) if batch else accuracy
    problem = ArchitectureProblem(PLAN, function, BUDGET, batch=batch)
    result = minimize(problem, nsga2(), ("n_gen", 20), seed=0)
    found = {(round(-score, 9), round(cost, 9)) for score, cost in result.F}
    assert found == {(round(score, 9), round(cost, 9)) for score, cost in front_by_hand()}


def test_objectives_and_constraints_of_every_architecture() -> None:
    problem = ArchitectureProblem(PLAN, accuracy, [BUDGET])
    out = problem.evaluate(np.array([list(one.values()) for one in EVERY]), return_as_dictionary=True)
    assert out["F"].tolist() == [[-accuracy(one), pytest.approx(PLAN.cost(one))] for one in EVERY]
    assert (out["G"] <= 0).all(1).tolist() == [BUDGET.keeps(one) for one in EVERY]
    assert problem.n_ieq_constr == 2


def test_without_budgets_there_are_no_constraints() -> None:
    assert ArchitectureProblem(PLAN, accuracy).n_ieq_constr == 0
    assert len(minimize(ArchitectureProblem(PLAN, accuracy), nsga2(), ("n_gen", 2), seed=0).F) > 0


def test_an_accuracy_that_is_no_number_is_refused() -> None:
    with pytest.raises(SearchError) as caught:
        ArchitectureProblem(PLAN, lambda _: nan).evaluate(np.zeros((1, 4)))
    assert str(caught.value).startswith(
        "Expected the accuracy of {'c0': 0, 'c1': 0, 'c2': 0, 'c3': 0} to be a finite number, but got nan."
    )
