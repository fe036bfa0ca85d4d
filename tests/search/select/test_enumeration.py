"""Listings of architectures near the bound, against all architectures."""

from __future__ import annotations

from math import inf

import numpy as np
import pytest

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
        assert listing is not None
        assert listing.floor == relaxation.bound - width
        expected = [row for row in kept if score_of(scores, row) > listing.floor + 1e-9]
        assert [listing.architecture(number) for number in range(len(expected))] == expected
        assert listing.scores[: len(expected)] == pytest.approx([score_of(scores, row) for row in expected])
    assert list_within(program, relaxation, inf, max_listed=10) is None


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
