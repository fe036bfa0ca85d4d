"""`Solution`: an architecture that the solver found, with its score, its costs and how far it can be from the best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

from latency_nas.kernel import Quantity
from latency_nas.search.plan.architecture import Architecture
from latency_nas.search.plan.plan import CostPlan
from latency_nas.search.select.budget import Budget

__all__ = ["Solution", "SolutionCost"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SolutionCost:
    """One cost of a solution.

    Args:
        value: Cost, in the unit of `quantity`.
        std: One standard deviation of it; None where it is not known.
        quantity: Quantity that the cost is of.
    """

    value: float
    std: float | None
    quantity: Quantity

    @classmethod
    def of(cls, plan: CostPlan, architecture: Architecture) -> SolutionCost:
        """The cost of an architecture by a plan."""
        return cls(value=plan.cost(architecture), std=plan.std(architecture), quantity=plan.quantity)

    def __str__(self) -> str:
        return self.quantity.figure(self.value, self.std)


@dataclass(frozen=True, slots=True, kw_only=True)
class Solution:
    """An architecture within budgets.

    Args:
        architecture: Choice -> the index of its candidate.
        score: Sum of the scores of its candidates and pairs.
        bound: Score that is proved not to be exceeded by any architecture within the budgets, those of earlier
            solutions and too near to them excluded. It is the score itself where that is proved to be the best.
        cost: Cost by the plan.
        costs: Cost for each budget, in their order.
    """

    architecture: Architecture
    score: float
    bound: float
    cost: SolutionCost
    costs: tuple[SolutionCost, ...]

    @classmethod
    def of(
        cls, architecture: Architecture, score: float, bound: float, plan: CostPlan, budgets: Sequence[Budget]
    ) -> Solution:
        """The solution with its costs by a plan and by budgets."""
        costs = tuple(SolutionCost.of(budget.plan, architecture) for budget in budgets)
        return cls(
            architecture=architecture,
            score=score,
            bound=bound,
            cost=SolutionCost.of(plan, architecture),
            costs=costs,
        )

    @property
    def gap(self) -> float:
        """How much better another architecture can be at most: (bound - score) / abs(score), 0 where it is the best.

        The score is as the user gave it. It is not shifted, so that a gap of scores around 0 is large.
        """
        if self.bound <= self.score:
            return 0.0
        return (self.bound - self.score) / abs(self.score) if self.score else inf
