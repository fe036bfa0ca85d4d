"""Small evolutions, in a module that processes of tests import quickly: neither torch nor pytest is needed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from latency_nas.search.plan.plan import CostPlan
from latency_nas.search.select.budget import Budget
from latency_nas.search.select.evolution import Evolution, evolve
from tests.random_plans import random_plan


def budget_at(plan: CostPlan, share: float, **more: Any) -> Budget:
    """The budget at `share` of the way from the cheapest to the dearest architecture."""
    cheapest, dearest = plan.bounds()
    return Budget(plan, max_cost=cheapest + share * (dearest - cheapest), **more)


def quick(accuracy: Callable[[Any], Any], **more: Any) -> Evolution:
    """A short evolution over 390,625 architectures."""
    rng = np.random.default_rng(5)
    plan = random_plan(rng, [5] * 8)
    arguments = {"n_evaluations": 120, "population": 20, "budgets": budget_at(plan, 0.6), "seed": 3} | more
    return evolve(plan, accuracy, **arguments)


def some_accuracy(architecture: Mapping[str, int]) -> float:
    """An accuracy that is the same in every process."""
    return sum(index / (1 + number) for number, index in enumerate(architecture.values()))


def equal(one: Evolution, other: Evolution) -> bool:
    """Whether both evaluated the same architectures in the same order, with the same accuracies."""
    return np.array_equal(one.rows, other.rows) and np.array_equal(one.accuracies, other.accuracies)
