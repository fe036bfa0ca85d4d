"""The best architectures within budgets, against every architecture of small spaces."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from latency_nas.errors import SearchError
from latency_nas.kernel import QUANTITIES
from latency_nas.search.plan.cost import Cost
from latency_nas.search.plan.plan import CostPlan
from latency_nas.search.select import solve
from latency_nas.search.select.best import best
from latency_nas.search.select.budget import Budget
from tests.random_plans import random_plan

SIZES = (4, 3, 5, 2)


def every(plan: CostPlan) -> list[dict[str, int]]:
    """All architectures."""
    rows = itertools.product(*(range(len(names)) for names in plan.candidates))
    return [dict(zip(plan.choices, row, strict=True)) for row in rows]


def score_of(scores: Mapping[Any, Any], architecture: Mapping[str, int]) -> float:
    total = 0.0
    for key, values in scores.items():
        names = key if isinstance(key, tuple) else (key,)
        total += float(np.asarray(values)[tuple(architecture[name] for name in names)])
    return total


def by_brute_force(plan: CostPlan, scores: Mapping[Any, Any], budgets: Sequence[Budget]) -> list[dict[str, int]]:
    """All architectures within the budgets, best first."""
    kept = [row for row in every(plan) if all(budget.keeps(row) for budget in budgets)]
    return sorted(kept, key=lambda row: -score_of(scores, row))


def random_scores(rng: np.random.Generator, plan: CostPlan, *, pairs: bool = False) -> dict[Any, NDArray[np.float64]]:
    sizes = {name: len(names) for name, names in zip(plan.choices, plan.candidates, strict=True)}
    scores: dict[Any, NDArray[np.float64]] = {name: rng.normal(size=size) for name, size in sizes.items()}
    if pairs:
        first, second, third, *_ = plan.choices
        scores[first, second] = rng.normal(size=(sizes[first], sizes[second]))
        scores[third, first] = rng.normal(size=(sizes[third], sizes[first])) * (rng.random((sizes[third], 1)) < 0.5)
    return scores


def in_order(plan: CostPlan, order: Sequence[int]) -> CostPlan:
    """The same plan (without terms) with its choices in another order."""
    return replace(
        plan,
        choices=tuple(plan.choices[number] for number in order),
        candidates=tuple(plan.candidates[number] for number in order),
        costs=tuple(plan.costs[number] for number in order),
    )


def between(plan: CostPlan, share: float) -> float:
    """The cost at a share of the range."""
    cheapest, dearest = plan.bounds()
    return cheapest + share * (dearest - cheapest)


CASES = list(itertools.product(range(4), (0, 8), (False, True), (None, 0.9), (0.05, None)))


@pytest.mark.parametrize(("seed", "n_terms", "pairs", "confidence", "error"), CASES)
def test_best_of_all_within_budgets_of_both_signs(
    seed: int, n_terms: int, pairs: bool, confidence: float | None, error: float | None
) -> None:
    rng = np.random.default_rng(seed)
    plan, memory = (replace(random_plan(rng, SIZES, n_terms, n_families=2), expected_error=error) for _ in range(2))
    scores = random_scores(rng, plan, pairs=pairs)
    for low, high in ((0.0, 0.5), (0.35, 0.6), (0.5, 1.0)):
        budgets = [
            Budget(plan, max_cost=between(plan, high), min_cost=between(plan, low), confidence=confidence),
            Budget(memory, min_cost=between(memory, 0.3), confidence=confidence),
            Budget(memory, max_cost=between(memory, 0.8)),
        ]
        expected = by_brute_force(plan, scores, budgets)
        if not expected:
            with pytest.raises(SearchError):
                best(plan, scores, budgets)
            continue
        [found] = best(plan, scores, budgets)
        assert found.architecture == expected[0]
        assert found.score == pytest.approx(score_of(scores, expected[0]))
        assert (found.bound, found.gap) == (found.score, 0.0)
        assert found.cost.value == plan.cost(expected[0])
        assert [(cost.value, cost.std) for cost in found.costs] == [
            (budget.plan.cost(expected[0]), budget.plan.std(expected[0])) for budget in budgets
        ]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("min_difference", [1, 2, 3])
def test_each_of_the_k_best_is_the_best_that_differs_enough(seed: int, min_difference: int) -> None:
    rng = np.random.default_rng(seed)
    plan = random_plan(rng, SIZES, 4)
    scores = random_scores(rng, plan, pairs=True)
    budgets = [Budget(plan, max_cost=between(plan, 0.6), confidence=0.8)]
    expected: list[dict[str, int]] = []
    for row in by_brute_force(plan, scores, budgets):
        far = [sum(row[name] != other[name] for name in row) >= min_difference for other in expected]
        if all(far) and len(expected) < 10:
            expected.append(row)
    found = best(plan, scores, budgets, k=10, min_difference=min_difference)
    assert [solution.architecture for solution in found] == expected
    assert (len(found) == 10) == (min_difference < 3)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("max_gap", [0.0, 0.02])
@pytest.mark.parametrize("pairs", [False, True])
def test_each_bound_is_proved_where_lists_are_too_short(
    monkeypatch: pytest.MonkeyPatch, seed: int, max_gap: float, pairs: bool
) -> None:
    monkeypatch.setattr(solve, "_LISTED", (10, 100, 400))
    rng = np.random.default_rng(seed)
    plan, memory = random_plan(rng, (4,) * 6, 4 * pairs), random_plan(rng, (4,) * 6)
    scores = random_scores(rng, plan, pairs=pairs)
    budgets = [Budget(plan, max_cost=between(plan, 0.5)), Budget(memory, min_cost=between(memory, 0.4))]
    left = by_brute_force(plan, scores, budgets)
    found = best(plan, scores, budgets, k=8, min_difference=2, max_gap=max_gap)
    assert len(found) == 8
    for solution in found:
        assert solution.architecture in left
        assert solution.gap <= max_gap + 1e-9
        if not max_gap:
            assert solution.score == pytest.approx(score_of(scores, left[0]))
            far = solution.architecture
            left = [row for row in left if sum(row[name] != far[name] for name in row) >= 2]
    assert score_of(scores, by_brute_force(plan, scores, budgets)[0]) <= max(each.bound for each in found) + 1e-9


def test_scores_by_name_and_plans_with_choices_in_another_order() -> None:
    rng = np.random.default_rng(5)
    plan = random_plan(rng, SIZES)
    memory = in_order(random_plan(rng, SIZES), [2, 0, 3, 1])
    scores = random_scores(rng, plan, pairs=True)
    named: dict[Any, Any] = {
        name: dict(zip(names, scores[name].tolist(), strict=True))
        for name, names in zip(plan.choices, plan.candidates, strict=True)
    }
    named["c0", "c1"] = dict(zip(plan.candidates[0], scores["c0", "c1"], strict=True))
    named["c2", "c0"] = scores["c2", "c0"].tolist()
    budgets = [Budget(memory, max_cost=between(memory, 0.4)), Budget(plan, max_cost=between(plan, 0.6))]
    [found] = best(plan, named, budgets)
    assert found == best(plan, scores, budgets)[0]
    assert found.architecture == by_brute_force(plan, scores, budgets)[0]
    assert list(found.architecture) == list(plan.choices)


def test_without_budgets_the_best_candidates_and_one_budget_needs_no_list() -> None:
    plan = random_plan(np.random.default_rng(1), SIZES)
    scores = random_scores(np.random.default_rng(1), plan)
    [found] = best(plan, scores)
    assert found.architecture == {name: int(values.argmax()) for name, values in scores.items()}
    assert found.costs == ()
    budget = Budget(plan, max_cost=between(plan, 0.4))
    assert best(plan, scores, budget) == best(plan, scores, [budget])


@pytest.mark.parametrize("max_gap", [0.3, 0.02])
def test_a_gap_is_proved(max_gap: float) -> None:
    rng = np.random.default_rng(7)
    plan = random_plan(rng, (5,) * 6, 6)
    scores = random_scores(rng, plan, pairs=True)
    budgets = [Budget(plan, max_cost=between(plan, 0.3))]
    optimum = best(plan, scores, budgets)[0].score
    [found] = best(plan, scores, budgets, max_gap=max_gap)
    assert found.score <= optimum <= found.bound + 1e-9
    assert found.gap == pytest.approx((found.bound - found.score) / abs(found.score))
    assert found.gap <= max_gap + 1e-9


def test_time_that_runs_out_ends_the_search_with_the_gap_that_was_proved() -> None:
    rng = np.random.default_rng(8)
    plan = random_plan(rng, (30,) * 60)
    scores = {
        name: [cost.value * rng.normal(1, 0.01) for cost in costs]
        for name, costs in zip(plan.choices, plan.costs, strict=True)
    }
    budget = Budget(plan, max_cost=between(plan, 0.5))
    with pytest.raises(SearchError) as caught:
        best(plan, scores, budget, time_limit_s=1e-9)
    assert str(caught.value) == (
        "Expected enough time to find an architecture, but 1e-09 s were not: raise `time_limit_s`."
    )
    found = best(plan, scores, budget, k=10_000, min_difference=5, time_limit_s=3.0)
    assert 1 <= len(found) < 10_000
    assert all(solution.gap < 0.1 and budget.keeps(solution.architecture) for solution in found)


# --- budgets that cannot be kept


def small(quantity: str, *costs: tuple[float, ...]) -> CostPlan:
    return CostPlan(
        choices=("a", "b"),
        candidates=(("3x3", "5x5"),) * 2,
        costs=tuple(tuple(Cost(value=cost, variance=(cost / 10) ** 2) for cost in row) for row in costs),
        fixed=Cost(value=0.0),
        quantity=QUANTITIES[quantity],
    )


LATENCY, PARAMETERS = small("latency", (1.0, 2.0), (1.0, 3.0)), small("parameters", (9_000, 1_000), (8_000, 2_000))
SCORES = {"a": [0.0, 1.0], "b": [0.0, 1.0]}


@pytest.mark.parametrize(
    ("budgets", "message"),
    [
        (
            [Budget(LATENCY, max_cost=1.5)],
            "Expected a budget that an architecture keeps, but got latency of at most 1.5 ms (the least is 2 ms).",
        ),
        (
            [Budget(LATENCY, max_cost=2.1, confidence=0.9)],
            (
                "Expected a budget that an architecture keeps, but got latency of at most 2.1 ms at a confidence of "
                "0.9 (the least is 2.182 ms)."
            ),
        ),
        (
            [Budget(PARAMETERS, min_cost=17_000, confidence=0.9)],
            (
                "Expected a budget that an architecture keeps, but got parameters of at least 17,000 params at a "
                "confidence of 0.9 (the most is 15,456 params)."
            ),
        ),
        (
            [Budget(LATENCY, max_cost=1.5), Budget(PARAMETERS, max_cost=3_000)],
            (
                "Expected budgets that an architecture keeps together, but got latency of at most 1.5 ms (the least is "
                "2 ms); parameters of at most 3,000 params (the least is 3,000 params)."
            ),
        ),
        (
            [Budget(LATENCY, max_cost=3.0), Budget(PARAMETERS, max_cost=8_000)],
            (
                "Expected budgets that an architecture keeps together, but got latency of at most 3 ms (the least is "
                "2 ms, and 5 ms within the others); parameters of at most 8,000 params (the least is 3,000 "
                "params, and 9,000 params within the others)."
            ),
        ),
    ],
)
def test_budgets_that_cannot_be_kept_are_refused_with_what_can(budgets: list[Budget], message: str) -> None:
    with pytest.raises(SearchError) as caught:
        best(LATENCY, SCORES, budgets)
    assert str(caught.value) == message
