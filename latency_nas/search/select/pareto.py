"""`front`: the exact trade-off of a score against a cost, by the solver.

The best score is found, then the least cost with this score; then the same below this cost, and so on down to the
cheapest architecture (the epsilon-constraint method). No point between two found ones is missed.

References:
    Haimes, Lasdon and Wismer, On a bicriterion formulation of the problems of integrated system identification and
    system optimization, IEEE Transactions on Systems, Man, and Cybernetics 1, 1971.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from math import inf, nextafter

import numpy as np

from latency_nas.errors import SearchError, short_repr
from latency_nas.kernel import Quantity
from latency_nas.search.plan.architecture import Architecture
from latency_nas.search.plan.cost import Cost, Term
from latency_nas.search.plan.plan import CostPlan
from latency_nas.search.select.best import check_budgets, limits_of
from latency_nas.search.select.budget import Budget, Limit
from latency_nas.search.select.program import Factors
from latency_nas.search.select.reach import factors_of, sizes_of
from latency_nas.search.select.refusal import unreachable
from latency_nas.search.select.scores import Scores, read_scores
from latency_nas.search.select.solution import Solution
from latency_nas.search.select.solve import Optimum, Solver

__all__ = ["front"]

_SCORE = Quantity(name="score", unit="points")


def front(
    plan: CostPlan, scores: Scores, budgets: Budget | Sequence[Budget] = (), *, n: int | None = None
) -> list[Solution]:
    """The architectures within budgets of which no other one has a higher score at no higher cost, cheapest first.

    Args:
        plan: Plan of the cost, and of the choices.
        scores: Scores of the candidates and of pairs of them, as `best` takes them.
        budgets: Budgets that each architecture has to keep, over plans of the same choices.
        n: Number of points at most, from 2: the cheapest, that of the best score, and the best ones within costs that
            are spread evenly over the range; None for all of them, each of which takes two solutions.

    Returns:
        A solution for each point. Of architectures with the same cost and score it has one.

    Raises:
        SearchError: as `best`, or if `n` is below 2.

    Example:
        >>> from latency_nas.search.plan.cost import Cost
        >>> costs = (Cost(value=1.0), Cost(value=2.5))
        >>> plan = CostPlan(choices=("a", "b"), candidates=(("3x3", "5x5"),) * 2, costs=(costs,) * 2,
        ...                 fixed=Cost(value=4.0))
        >>> for point in front(plan, {"a": [0.5, 0.9], "b": [0.4, 0.7]}):
        ...     print(f"{point.cost.value} ms", f"{point.score:.1f}")
        6.0 ms 0.9
        7.5 ms 1.3
        9.0 ms 1.6
    """
    if n is not None and (type(n) is not int or n < 2):
        raise SearchError(f"Expected `n` to be an integer from 2, or None, but got {short_repr(n)}.")
    budgets = check_budgets(plan, budgets)
    search = _Search(plan, read_scores(scores, plan), limits_of(budgets))
    found = search.every_point() if n is None else search.spread_points(n)
    return [Solution.of(row, search.score(row), search.score(row), plan, budgets) for row in reversed(found)]


class _Search:
    """Points of the front, each by two solutions: the best score within a cost, then the least cost with this score."""

    def __init__(self, plan: CostPlan, scores: dict[Factors, float], limits: Sequence[Limit]) -> None:
        self.plan, self.scores, self.limits = plan, scores, limits
        self.savings = {factors: -cost for factors, cost in factors_of(plan).items()}
        self.score_plan = _score_plan(plan, scores)

    def solve(self, scores: dict[Factors, float], *limits: Limit) -> Optimum | None:
        return Solver(sizes_of(self.plan), scores, [*self.limits, *limits], rows=self.plan.limits).solve()

    def score(self, architecture: Architecture) -> float:
        return self.score_plan.cost(architecture)

    def every_point(self) -> list[Architecture]:
        """All points, dearest first."""
        points: list[Architecture] = []
        max_cost = inf
        while point := self.point(max_cost):
            points.append(point)
            max_cost = nextafter(self.plan.cost(point), -inf)
        return points or self.refuse()

    def spread_points(self, n: int) -> list[Architecture]:
        """At most `n` points over the range of costs, dearest first."""
        cheapest = self.solve(self.savings)
        dearest = self.point(inf)
        if cheapest is None or dearest is None:
            return self.refuse()
        costs = np.linspace(self.plan.cost(cheapest.architecture), self.plan.cost(dearest), n)
        points = [dearest]
        for max_cost in costs[-2::-1]:
            if self.plan.cost(points[-1]) > max_cost and (point := self.point(float(max_cost))):
                points.append(point)
        return points

    def point(self, max_cost: float) -> Architecture | None:
        """The best architecture within a cost, and of those with its score the cheapest."""
        within = [Limit(plan=self.plan, max_cost=max_cost)] if max_cost < inf else []
        best = self.solve(self.scores, *within)
        if best is None:
            return None
        as_good = Limit(plan=self.score_plan, min_cost=self.score(best.architecture))
        cost = Limit(plan=self.plan, max_cost=self.plan.cost(best.architecture))
        cheapest = self.solve(self.savings, cost, as_good)
        return best.architecture if cheapest is None else cheapest.architecture

    def refuse(self) -> list[Architecture]:
        raise unreachable(self.limits, self.plan)


def _score_plan(plan: CostPlan, scores: dict[Factors, float]) -> CostPlan:
    """The scores as a plan, so that they can be limited."""
    costs = tuple(
        tuple(Cost(value=scores.get(((number,),), 0.0)) for number in range(begin, end))
        for begin, end in pairwise(plan.offsets.tolist())
    )
    terms = tuple(
        Term(candidates=factors, cost=Cost(value=score)) for factors, score in scores.items() if len(factors) > 1
    )
    return replace(
        plan, costs=costs, terms=terms, fixed=Cost(value=0.0), expected_error=None, quantity=_SCORE, n_checked=0
    )
