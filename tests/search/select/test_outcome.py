"""Outcomes of many architectures against the rule, applied to one architecture at a time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from latency_nas.errors import SearchError
from latency_nas.kernel import QUANTITIES
from latency_nas.search.plan.cost import Cost, Term
from latency_nas.search.plan.many import costs_of, stds_of
from latency_nas.search.plan.plan import CostPlan
from latency_nas.search.select.budget import Budget
from latency_nas.search.select.outcome import FAILED, PASSED, UNCERTAIN, BudgetFilter
from tests.random_plans import drawn, random_plan

SIZES = {"odd": (3, 2, 4, 5, 9), "even": (4, 3, 2, 7), "wide": (60, 60, 60, 3), "long": (300, 3, 2), "one": (5,)}


def moments(plan: CostPlan, rows: np.ndarray) -> np.ndarray:
    """Cost and standard deviation of each architecture, one at a time, of shape ``(rows, 2)``."""
    architectures = [dict(zip(plan.choices, row, strict=True)) for row in rows.tolist()]
    return np.array([(plan.cost(one), plan.std(one) or 0.0) for one in architectures])


def outcome(budgets: list[Budget], costs: list[tuple[float, float]]) -> int:
    """The rule as it is written down, of one architecture with a cost and a deviation for each budget."""
    passed, failed = [], []
    for budget, (mean, std) in zip(budgets, costs, strict=True):
        low, high = mean - budget.n_std * std, mean + budget.n_std * std
        passed.append(high <= budget.max_cost and low >= budget.min_cost)
        failed.append(low > budget.max_cost or high < budget.min_cost)
    return FAILED if any(failed) else PASSED if all(passed) else UNCERTAIN


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("seed", range(6))
def test_equal_to_the_rule(sizes: tuple[int, ...], seed: int) -> None:
    rng = np.random.default_rng(seed)
    n_terms = 6 * (seed % 3) if len(sizes) > 2 else 0
    neighbours = seed % 2 == 1 and max(sizes) < 60
    plan, other = (random_plan(rng, sizes, n_terms, n_families=n, neighbours=neighbours) for n in (seed, 9 - seed))
    if seed == 3:  # a table of measured kernels alone, whose errors are independent
        plan = replace(plan, expected_error=None)
    rows = np.random.default_rng(seed).integers(0, sizes, (300, len(sizes)), dtype=np.int64)
    known = {id(plan): moments(plan, rows), id(other): moments(other, rows)}
    # no architecture costs exactly as much as a limit, which sums in another order may miss by a rounding error
    middle, second = ((1 + 1e-9) * float(np.median(found[:, 0])) for found in known.values())
    upper = Budget(plan, max_cost=middle, confidence=0.8)
    between = Budget(plan, min_cost=0.9 * middle, max_cost=1.1 * middle, confidence=0.9)
    lower = Budget(other, min_cost=0.8 * second, confidence=0.95)
    estimate = replace(upper, confidence=None)
    for budgets in ([upper], [between], [upper, lower], [lower, between, upper], [estimate, lower]):
        found = BudgetFilter.of(budgets).outcomes(rows)
        costs = zip(*(known[id(budget.plan)].tolist() for budget in budgets), strict=True)
        assert found.tolist() == [outcome(budgets, list(one)) for one in costs]
        assert len(set(found.tolist())) == 3 or budgets != [upper]
    found = BudgetFilter.of([upper]).outcomes(rows[:20])
    assert (found == PASSED).tolist() == [upper.keeps(dict(zip(plan.choices, row, strict=True))) for row in rows[:20]]


def test_moments() -> None:
    plan, other = (random_plan(np.random.default_rng(n), SIZES["odd"], 5, n_families=n) for n in (0, 3))
    rows = drawn(plan, 5000)
    packed = BudgetFilter.of([Budget(plan, 1.0), Budget(other, 1.0, confidence=0.9), Budget(other, min_cost=0.5)])
    (costs, no_stds), (other_costs, stds) = packed.moments(rows)
    assert no_stds is None
    assert stds is not None
    np.testing.assert_allclose(costs, costs_of(plan, rows), rtol=1e-12)
    np.testing.assert_allclose(other_costs, costs_of(other, rows), rtol=1e-12)
    np.testing.assert_allclose(stds, np.asarray(stds_of(other, rows)), rtol=1e-12)


def test_of_any_type_of_integers_and_any_layout() -> None:
    plan = random_plan(np.random.default_rng(0), SIZES["odd"], 4, n_families=2)
    packed = BudgetFilter.of([Budget(plan, max_cost=8.0, confidence=0.9)])
    rows = drawn(plan, 10_000)
    expected = packed.outcomes(rows)
    for dtype in (np.int8, np.uint16, np.int32, np.int64, np.uint64):
        assert (packed.outcomes(rows.astype(dtype)) == expected).all()
    assert (packed.outcomes(np.asfortranarray(rows)) == expected).all()
    assert (packed.outcomes(rows[::-1]) == expected[::-1]).all()
    assert (packed.outcomes(np.repeat(rows, 2, 1)[:, ::2]) == expected).all()
    assert packed.outcomes(rows[:0]).shape == (0,)


@pytest.mark.parametrize("scale", [1.0, 1e-12, 1e15])
def test_next_to_a_limit(scale: float) -> None:
    """A relative distance of 1e-9 decides, far below the resolution of float32."""
    plan = random_plan(np.random.default_rng(1), (5, 6, 4, 3), 5, n_families=2, neighbours=True)
    plan = scaled(plan, scale)
    rows = drawn(plan, 40)
    n_std = Budget(plan, 1.0, confidence=0.9).n_std
    for number, (mean, std) in enumerate(moments(plan, rows)):
        low, high = mean - n_std * std, mean + n_std * std
        cases = {PASSED: high * (1 + 1e-9), UNCERTAIN: high * (1 - 1e-9), FAILED: low * (1 - 1e-9)}
        for expected, limit in cases.items():
            found = BudgetFilter.of([Budget(plan, max_cost=limit, confidence=0.9)]).outcomes(rows)
            assert found[number] == expected
        for expected, limit in {PASSED: low * (1 - 1e-9), FAILED: high * (1 + 1e-9)}.items():
            found = BudgetFilter.of([Budget(plan, min_cost=limit, confidence=0.9)]).outcomes(rows)
            assert found[number] == expected


def scaled(plan: CostPlan, scale: float) -> CostPlan:
    def of(cost: Cost) -> Cost:
        return Cost(
            value=cost.value * scale,
            from_table=cost.from_table * scale,
            variance=(cost.variance or 0.0) * scale**2,
            together=tuple((family, std * scale) for family, std in cost.together),
        )

    return replace(
        plan,
        costs=tuple(tuple(map(of, costs)) for costs in plan.costs),
        fixed=of(plan.fixed),
        terms=tuple(replace(term, cost=of(term.cost)) for term in plan.terms),
    )


def test_counts_that_equal_the_limit_pass() -> None:
    """Counts have no error and are compared exactly, with or without a confidence."""
    costs = tuple(tuple(Cost(value=float(10**8 + 3 * n)) for n in range(4)) for _ in range(3))
    plan = CostPlan(
        choices=("a", "b", "c"),
        candidates=(tuple("wxyz"),) * 3,
        costs=costs,
        fixed=Cost(value=7.0),
        quantity=QUANTITIES["parameters"],
    )
    rows = drawn(plan, 500)
    for confidence in (None, 0.9):
        budget = Budget(plan, max_cost=3 * 10**8 + 7 + 12, min_cost=3 * 10**8 + 7 + 6, confidence=confidence)
        expected = (rows.sum(1) <= 4) & (rows.sum(1) >= 2)
        assert (BudgetFilter.of([budget]).outcomes(rows) == np.where(expected, PASSED, FAILED)).all()


def test_limits_far_from_all_costs() -> None:
    plan = random_plan(np.random.default_rng(0), (3, 2), 1)
    rows = drawn(plan, 20)
    assert (BudgetFilter.of([Budget(plan, max_cost=1e300, min_cost=-1e300)]).outcomes(rows) == PASSED).all()
    assert (BudgetFilter.of([Budget(plan, max_cost=-1e300)]).outcomes(rows) == FAILED).all()


def test_terms_of_one_choice_of_none_and_of_two_candidates_of_one() -> None:
    costs = tuple((Cost(value=1.0), Cost(value=2.0)) for _ in range(2))
    terms = (
        Term(candidates=(), cost=Cost(value=10.0)),
        Term(candidates=(1,), cost=Cost(value=100.0)),
        Term(candidates=(0, 1), cost=Cost(value=5000.0)),
        Term(candidates=(2, 2), cost=Cost(value=1000.0)),
    )
    names = (("x", "y"),) * 2
    plan = CostPlan(choices=("a", "b"), candidates=names, costs=costs, fixed=Cost(value=0.0), terms=terms)
    rows = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.uint8)
    for limit in (12.0, 13.0, 113.0, 114.0, 1012.0, 1112.0, 1113.0):
        expected = [PASSED if mean <= limit else FAILED for mean, _ in moments(plan, rows)]
        assert BudgetFilter.of([Budget(plan, max_cost=limit)]).outcomes(rows).tolist() == expected


def test_rows_of_no_candidate() -> None:
    plan = random_plan(np.random.default_rng(0), (3, 2))
    packed = BudgetFilter.of([Budget(plan, max_cost=3.0)])
    rows = drawn(plan, 5000)
    for wrong in (2, 255):
        rows[4321, 1] = wrong
        with pytest.raises(SearchError) as caught:
            packed.outcomes(rows)
        assert str(caught.value) == f"Expected candidates of `c1` from 0 to 1, but got 0 to {wrong}."
    signed = drawn(plan, 5000).astype(np.int16)
    signed[17, 0] = -1
    with pytest.raises(SearchError) as caught:
        packed.outcomes(signed)
    assert str(caught.value) == "Expected candidates of `c0` from 0 to 2, but got -1 to 2."
    with pytest.raises(SearchError, match=r"of shape \(architectures, 2\), but got the shape \(4, 3\) of int64"):
        packed.outcomes(np.zeros((4, 3), np.int64))
