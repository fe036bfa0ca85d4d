"""Optuna itself searches made-up spaces under budgets, and a digits supernet for a front."""

from __future__ import annotations

import random
from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import ofa_elastic
import optuna
import optuna_front
import pytest
from optuna.trial import FixedTrial

from latency_nas import LatencyLoss, options_of
from latency_nas.errors import SearchError
from latency_nas.integrate.optuna import constraints_func, set_constraints, suggest_architecture
from latency_nas.search.plan.plan import CostPlan
from latency_nas.search.select.budget import Budget
from tests.random_plans import random_plan
from tests.supernets import MadeUp


@pytest.fixture(autouse=True)
def _quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def plan_and_budgets() -> tuple[CostPlan, list[Budget]]:
    rng = np.random.default_rng(0)
    plan, other = random_plan(rng, (4, 3, 5, 2), n_terms=4), random_plan(rng, (4, 3, 5, 2))
    (low, high), (other_low, other_high) = plan.bounds(), other.bounds()
    return plan, [
        Budget(plan, max_cost=low + 0.6 * (high - low), min_cost=low + 0.2 * (high - low), confidence=0.7),
        Budget(other, max_cost=(other_low + other_high) / 2),
    ]


def accuracy(architecture: Mapping[str, int]) -> float:
    return float(sum(architecture.values()))


def test_a_trial_suggests_candidates_by_name() -> None:
    plan, _ = plan_and_budgets()
    trial = FixedTrial({"c0": "c0.3", "c1": "c1.0", "c2": "c2.4", "c3": "c3.1"})
    assert suggest_architecture(trial, plan) == {"c0": 3, "c1": 0, "c2": 4, "c3": 1}


def test_trials_are_feasible_if_and_only_if_they_keep_the_budgets() -> None:
    plan, budgets = plan_and_budgets()

    def objective(trial: optuna.Trial) -> tuple[float, float]:
        architecture = suggest_architecture(trial, plan)
        set_constraints(trial, architecture, budgets)
        return accuracy(architecture), plan.cost(architecture)

    study = optuna.create_study(directions=["maximize", "minimize"], sampler=optuna.samplers.NSGAIISampler(seed=0))
    study.optimize(objective, n_trials=150)
    constraints = constraints_func(plan, budgets)
    kept = []
    for trial in study.trials:
        values = list(trial.constraints.values())
        assert tuple(values) == constraints(trial)
        assert len(values) == 3
        kept.append(all(budget.keeps(trial.params) for budget in budgets))
        assert kept[-1] == all(value <= 0 for value in values)
    assert 0 < sum(kept) < len(kept)
    assert study.best_trials
    assert all(budget.keeps(trial.params) for trial in study.best_trials for budget in budgets)


def test_a_sampler_takes_the_function_of_constraints() -> None:
    plan, budgets = plan_and_budgets()
    with pytest.warns(FutureWarning, match="constraints_func"):
        sampler = optuna.samplers.NSGAIISampler(constraints_func=constraints_func(plan, budgets), seed=0)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.optimize(lambda trial: accuracy(suggest_architecture(trial, plan)), n_trials=150)
    assert all(budget.keeps(study.best_trial.params) for budget in budgets)


def test_budgets_of_other_choices_are_refused() -> None:
    plan, _ = plan_and_budgets()
    budget = Budget(random_plan(np.random.default_rng(0), (4, 3)), max_cost=2.0)
    with pytest.raises(SearchError) as caught:
        constraints_func(plan, budget)
    assert str(caught.value) == (
        "Expected budgets over plans of the same choices and candidates, but `c2` differs in the plan of latency of at "
        "most 2 ms."
    )


def test_the_example_gives_a_front_within_the_budget() -> None:
    random.seed(0)
    supernet, latency = ofa_elastic.Supernet(), LatencyLoss(MadeUp())
    options = options_of(ofa_elastic.OPTIONS, lambda net, config: net.configured(config))
    plan = latency.attach(supernet, ofa_elastic.EXAMPLE, choices=options)
    ofa_elastic.train(supernet, n_steps=5)
    cheapest_ms, dearest_ms = plan.bounds_ms()
    front = optuna_front.search(supernet, latency, Budget(plan, max_cost=(cheapest_ms + dearest_ms) / 2), n_trials=30)
    assert front
    assert front == sorted(front, key=lambda point: point[1])
    for (one, one_ms, config), (other, other_ms, _) in pairwise(front):
        assert one < other or (one, one_ms) == (other, other_ms)
        assert one_ms == pytest.approx(latency.price(config).latency_ms, rel=1e-9)
        assert one_ms <= (cheapest_ms + dearest_ms) / 2
