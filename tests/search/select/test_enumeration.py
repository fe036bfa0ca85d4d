"""Listings of architectures near the bound, against all architectures."""

from __future__ import annotations

from math import inf

import numpy as np
import pytest

from latency_nas.search.select.best import limits_of
from latency_nas.search.select.budget import Budget
from latency_nas.search.select.enumeration import list_within, width_of
from latency_nas.search.select.relaxation import relax
from latency_nas.search.select.scores import read_scores
from latency_nas.search.select.solve import Solver
from tests.random_plans import random_plan
from tests.search.select.test_best import SIZES, between, by_brute_force, random_scores, score_of


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("pairs", [False, True])
def test_a_listing_has_every_architecture_above_its_floor(seed: int, pairs: bool) -> None:
    rng = np.random.default_rng(seed)
    plan = random_plan(rng, SIZES, 4 * pairs)
    scores = random_scores(rng, plan, pairs=pairs)
    budget = Budget(plan, max_cost=between(plan, 0.5))
    sizes = dict(zip(plan.choices, SIZES, strict=True))
    program = Solver(sizes, read_scores(scores, plan), budget.limits()).program
    relaxation = relax(program)
    assert relaxation is not None
    kept = by_brute_force(plan, scores, [budget])
    assert relaxation.bound >= score_of(scores, kept[0]) - 1e-9
    for width in (0.5, 2.0, inf):
        listing = list_within(program, relaxation, width, max_listed=1000)
        assert listing.floor == relaxation.bound - width
        expected = [row for row in kept if score_of(scores, row) > listing.floor + 1e-9]
        assert [listing.architecture(number) for number in range(len(expected))] == expected
        assert listing.scores[: len(expected)] == pytest.approx([score_of(scores, row) for row in expected])


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("pairs", [False, True])
def test_a_listing_that_would_be_too_long_has_every_architecture_above_a_higher_floor(seed: int, pairs: bool) -> None:
    rng = np.random.default_rng(seed)
    plan, memory = random_plan(rng, (4,) * 6, 4 * pairs), random_plan(rng, (4,) * 6)
    scores = random_scores(rng, plan, pairs=pairs)
    budgets = [Budget(plan, max_cost=between(plan, 0.5)), Budget(memory, min_cost=between(memory, 0.5))]
    solver = Solver(dict.fromkeys(plan.choices, 4), read_scores(scores, plan), limits_of(budgets))
    kept = by_brute_force(plan, scores, budgets)
    for excluded in (kept[0], kept[7]):
        solver.exclude(excluded, 3)
        kept = [row for row in kept if sum(row[name] != excluded[name] for name in row) >= 3]
    relaxation = relax(solver.program)
    assert relaxation is not None
    n_above = []
    for max_listed in (1, 50, 500, 5000, 10**6):
        listing = list_within(solver.program, relaxation, inf, max_listed=max_listed)
        above = [row for row in kept if score_of(scores, row) > listing.floor + 1e-9]
        listed = [listing.architecture(number) for number in range(len(listing.rows))]
        assert listed[: len(above)] == above
        assert all(row in kept for row in listed)
        n_above.append(len(above))
    assert n_above == sorted(n_above)
    assert n_above[0] < n_above[-1] == len(kept)


@pytest.mark.parametrize("n_choices", [2, 30])
def test_a_listing_of_equal_scores_ends(n_choices: int) -> None:
    plan = random_plan(np.random.default_rng(0), (3,) * n_choices)
    program = Solver(dict.fromkeys(plan.choices, 3), {((0,),): 0.0}, ()).program
    relaxation = relax(program)
    assert relaxation is not None
    listing = list_within(program, relaxation, 1.0, max_listed=100)
    assert 0 < len(listing.rows) <= 100
    assert listing.scores.tolist() == [0.0] * len(listing.rows)


def test_a_width_is_exceeded_by_all_but_so_many_architectures() -> None:
    rng = np.random.default_rng(0)
    plan = random_plan(rng, (6,) * 7)
    scores = random_scores(rng, plan)
    program = Solver(dict.fromkeys(plan.choices, 6), read_scores(scores, plan), ()).program
    relaxation = relax(program)
    assert relaxation is not None
    sums = np.zeros(1)
    for regrets in relaxation.regrets.reshape(7, 6):
        sums = np.add.outer(sums, regrets).ravel()
    for n in (1, 100, 10_000):
        width = width_of(relaxation, (6,) * 7, n)
        assert (sums < width).sum() <= n
        assert n == 1 or (sums < 1.5 * width).sum() > n / 2
    assert width_of(relaxation, (6,) * 7, 6**7) == inf
