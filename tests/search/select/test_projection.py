"""The knapsack against every architecture of small spaces."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import milp

from latency_nas.errors import SearchError
from latency_nas.search.plan.cost import Cost
from latency_nas.search.plan.plan import CostPlan
from latency_nas.search.select.budget import Limit
from latency_nas.search.select.projection import most_probable_within, nearest_within, project
from tests.random_plans import random_plan
from tests.supernets import ChainNet, all_architectures, loss_of


def random_scores(rng: np.random.Generator, plan: CostPlan) -> dict[str, list[float]]:
    return {
        name: np.log(rng.dirichlet(np.ones(len(costs)))).tolist()
        for name, costs in zip(plan.choices, plan.costs_ms, strict=True)
    }


def by_brute_force(scores: dict[str, list[float]], budgets: list[Limit]) -> dict[str, int] | None:
    picks = itertools.product(*(range(len(values)) for values in scores.values()))
    architectures = [dict(zip(scores, pick, strict=True)) for pick in picks]
    kept = [item for item in architectures if all(budget.keeps(item) for budget in budgets)]
    return max(kept, key=lambda item: sum(scores[name][index] for name, index in item.items()), default=None)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("n_budgets", [1, 2])
def test_the_most_probable_of_all_that_keep_the_budgets(seed: int, n_budgets: int) -> None:
    rng = np.random.default_rng(seed)
    plans = [random_plan(rng, (4, 3, 5, 2)) for _ in range(n_budgets)]
    scores = random_scores(rng, plans[0])
    for share in (0.15, 0.4, 0.8):
        limits = [bounds[0] + share * (bounds[1] - bounds[0]) for bounds in (plan.bounds_ms() for plan in plans)]
        budgets = [Limit(plan=plan, max_cost=limit) for plan, limit in zip(plans, limits, strict=True)]
        assert most_probable_within(scores, budgets) == by_brute_force(scores, budgets)
        narrow = [replace(budget, min_cost=0.97 * budget.max_cost) for budget in budgets]
        assert most_probable_within(scores, narrow) == by_brute_force(scores, narrow)


@pytest.mark.parametrize("seed", range(6))
def test_terms_of_several_choices_and_the_spread_count(seed: int) -> None:
    rng = np.random.default_rng(seed)
    plan = random_plan(rng, (4, 3, 5, 2), n_terms=8)
    scores = random_scores(rng, plan)
    cheapest, dearest = plan.bounds_ms()
    for n_std in (0.0, 1.28):
        for share in (0.3, 0.6):
            budget = Limit(plan=plan, max_cost=cheapest + share * (dearest - cheapest), n_std=n_std)
            assert most_probable_within(scores, [budget]) == by_brute_force(scores, [budget])
            narrow = [replace(budget, min_cost=0.97 * budget.max_cost)]
            assert most_probable_within(scores, narrow) == by_brute_force(scores, narrow)


def test_exactly_on_the_budget_is_within_it_and_a_hair_above_is_not() -> None:
    """Closer than any solver's tolerance."""
    plan = random_plan(np.random.default_rng(0), (3, 3))
    scores = {name: [0.0, -1.0, -2.0] for name in plan.choices}
    best = {"c0": 0, "c1": 0}
    limit = plan.latency_ms(best)
    assert most_probable_within(scores, [Limit(plan=plan, max_cost=limit)]) == best
    below = [Limit(plan=plan, max_cost=float(np.nextafter(limit, 0)))]
    assert most_probable_within(scores, below) == by_brute_force(scores, below) != best


def test_only_the_cheapest_architecture_keeps_its_own_cost() -> None:
    plan = random_plan(np.random.default_rng(1), (4, 4, 4))
    scores = random_scores(np.random.default_rng(1), plan)
    cheapest = {name: int(np.argmin(costs)) for name, costs in zip(plan.choices, plan.costs_ms, strict=True)}
    assert project(scores, [Limit(plan=plan, max_cost=plan.bounds_ms()[0])]) == cheapest


def test_a_quantile_needs_a_spread() -> None:
    plan = replace(random_plan(np.random.default_rng(2), (2, 2)), fixed=Cost(value=1.0, variance=None))
    with pytest.raises(SearchError) as caught:
        Limit(plan=plan, max_cost=1.0, n_std=1.0)
    assert str(caught.value) == (
        "Expected a table with an expected error, or with standard deviations, to keep a quantile of the estimate."
    )


def test_nothing_keeps_the_budget() -> None:
    plan = random_plan(np.random.default_rng(2), (2, 2))
    with pytest.raises(SearchError) as caught:
        project(random_scores(np.random.default_rng(2), plan), [Limit(plan=plan, max_cost=0.01)])
    assert str(caught.value) == "Expected an architecture of a cost up to 0.01, but the supernet has none."


def test_a_large_space_takes_few_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nodes of branch and bound; 9^22 architectures are too many to look at each."""
    counts = []

    def counted(*args: Any, **options: Any) -> Any:
        result = milp(*args, **options)
        counts.append(result.mip_node_count)
        return result

    monkeypatch.setattr("latency_nas.search.select.solve.milp", counted)
    rng = np.random.default_rng(3)
    plan = random_plan(rng, (9,) * 22)
    scores = random_scores(rng, plan)
    limit = sum(plan.bounds_ms()) / 2 * 0.8
    found = project(scores, [Limit(plan=plan, max_cost=limit)])
    assert sum(counts) < 1000
    assert 0.97 * limit < plan.latency_ms(found) <= limit


# --- at the end of a search


def test_a_loss_projects_onto_its_target() -> None:
    supernet = ChainNet()
    loss = loss_of(supernet, at=0.5)
    with torch.no_grad():
        for number, alpha in enumerate(supernet.alphas()):
            alpha.mul_(-1 - 0.1 * number)  # no two architectures are equally likely
    assert loss.argmax_ms() > loss.target_ms
    found = loss.project()
    assert found == by_brute_force(loss.log_probabilities(), [loss.budget()])
    assert loss.plan.latency_ms(found) <= loss.target_ms
    probabilities = [sum(np.exp(row)) for row in loss.log_probabilities().values()]
    assert probabilities == pytest.approx([1.0] * 3)


def test_without_architectures_near_the_target_all_below_it_count() -> None:
    loss = loss_of(ChainNet(), at=0.5)
    assert loss.project(within=1e-9) == loss.project(within=None)


def test_a_projection_needs_a_target() -> None:
    loss = loss_of(ChainNet())
    loss.target_ms = None
    with pytest.raises(SearchError) as caught:
        loss.project()
    assert str(caught.value) == "Expected a target for the projection, but `target_ms` is None."


def test_discretizing_makes_the_projection_the_argmax() -> None:
    supernet = ChainNet((3, 2, 4))
    latency = loss_of(supernet, at=0.9)
    assert latency.target_ms is not None
    before = {name: value.detach().clone() for name, value in supernet.named_parameters()}
    kept = latency.architecture()
    found = latency.discretize(within=0.2)
    scores = {name: before[f"{name}.alpha"].log_softmax(0) for name in found}
    fitting = [
        architecture
        for architecture in all_architectures({name: len(row) for name, row in scores.items()})
        if 0.8 <= latency.plan.latency_ms(architecture) / latency.target_ms <= 1
    ]
    assert found == max(fitting, key=lambda each: sum(float(scores[name][index]) for name, index in each.items()))
    assert latency.architecture() == found != kept
    for name, value in supernet.named_parameters():
        choice = name.removesuffix(".alpha")
        assert torch.equal(value, before[name]) == (choice == name or kept[choice] == found[choice])


def test_discretizing_needs_parameters() -> None:
    supernet = ChainNet((3, 2, 4))
    latency = loss_of(supernet)
    weights = torch.zeros(latency.plan.n_gates)
    latency.attach_plan(latency.plan, lambda: weights)
    with pytest.raises(SearchError) as raised:
        latency.discretize(within=0.5)
    assert str(raised.value) == (
        "Expected a supernet whose architecture parameters can be moved, but the weights were given with a plan: take "
        "the architecture that latency.project() gives."
    )


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("n_given", [5, 3])
def test_the_nearest_of_all_that_keep_the_budgets(seed: int, n_given: int) -> None:
    """The fewest of the given choices are changed; then the most probable of the others, or the dearest."""
    rng = np.random.default_rng(seed)
    plans = [random_plan(rng, (4, 3, 5, 2, 3), n_terms=8) for _ in range(2)]
    sizes = {name: len(names) for name, names in zip(plans[0].choices, plans[0].candidates, strict=True)}
    start = {name: int(rng.integers(size)) for name, size in list(sizes.items())[:n_given]}
    scores = None if n_given == len(sizes) else random_scores(rng, plans[0])
    for share in (0.05, 0.2, 0.5):
        budgets = [Limit(plan=plan, max_cost=np.quantile(plan.bounds_ms(), share)) for plan in plans]
        kept = [item for item in all_architectures(sizes) if all(budget.keeps(item) for budget in budgets)]
        if not kept:
            with pytest.raises(SearchError, match="Expected budgets that an architecture keeps together"):
                nearest_within(start, budgets, scores)
            continue
        found = nearest_within(start, budgets, scores)
        n_changed = [sum(item[name] != index for name, index in start.items()) for item in kept]
        nearest = [item for item, n in zip(kept, n_changed, strict=True) if n == min(n_changed)]
        assert found in nearest
        if scores is None and min(n_changed):
            assert plans[0].cost(found) == pytest.approx(max(map(plans[0].cost, nearest)), rel=1e-6)
        elif scores is not None:
            assert found == max(nearest, key=lambda item: sum(scores[name][item[name]] for name in scores))
