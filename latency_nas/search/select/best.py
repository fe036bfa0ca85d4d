"""`best`: the architectures with the highest score within budgets, exactly."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from math import isfinite

from latency_nas.errors import SearchError, short_repr
from latency_nas.search.plan.plan import CostPlan
from latency_nas.search.select.budget import Budget, Limit, as_budgets, check_plan
from latency_nas.search.select.reach import sizes_of
from latency_nas.search.select.refusal import unreachable
from latency_nas.search.select.scores import Scores, read_scores
from latency_nas.search.select.solution import Solution
from latency_nas.search.select.solve import Solver

__all__ = ["best", "check_budgets", "limits_of"]


def best(
    plan: CostPlan,
    scores: Scores,
    budgets: Budget | Sequence[Budget] = (),
    *,
    k: int = 1,
    min_difference: int = 1,
    max_gap: float = 0.0,
    time_limit_s: float | None = None,
) -> list[Solution]:
    """The `k` architectures with the highest scores within budgets, best first.

    The score of an architecture is the sum of the scores of its candidates, and of the pairs of its candidates that
    have one. Architectures keep the limits on choices that the plan has. Each solution is the best of all that differ
    from each solution before it in at least `min_difference` choices. It is proved by a mixed-integer program over the
    few candidates that a bound leaves (`latency_nas.search.select.solve`), to the solver's tolerance: 1e-9 of the range
    of the scores.

    Args:
        plan: Plan that has the choices.
        scores: Choice -> a score for each candidate, higher is better: numbers in the order of the candidates, or
            candidate -> number. A pair of choices -> a score for each pair of their candidates: an array of shape
            ``(candidates of the first, candidates of the second)``.
        budgets: Budgets that each architecture has to keep, over plans of the same choices.
        k: Number of architectures. There are fewer in the result if no more keep the budgets, or time ran out.
        min_difference: Number of choices in which each two of them differ at least.
        max_gap: Share of the score by which a solution may be below the bound, such as 0.001; 0 for the best itself.
        time_limit_s: Time in seconds after which the search ends; `Solution.gap` says what was proved until then.

    Raises:
        SearchError: if scores are missing or not finite, budgets are of other choices, no architecture keeps the
            budgets (the message says what can be reached), or none was found in time.

    Example:
        >>> from latency_nas.search.plan.cost import Cost
        >>> costs = (Cost(value=1.0), Cost(value=2.5))
        >>> plan = CostPlan(choices=("a", "b"), candidates=(("3x3", "5x5"),) * 2, costs=(costs,) * 2,
        ...                 fixed=Cost(value=4.0))
        >>> scores = {"a": [0.5, 0.9], "b": {"3x3": 0.4, "5x5": 0.7}}
        >>> [found] = best(plan, scores, Budget(plan, max_cost=8.0))
        >>> found.architecture, found.score, found.gap
        ({'a': 1, 'b': 0}, 1.3, 0.0)
        >>> [solution.score for solution in best(plan, scores, Budget(plan, max_cost=8.0), k=3)]
        [1.3, 1.2, 0.9]
    """
    _check_arguments(k, min_difference, max_gap, time_limit_s)
    budgets = check_budgets(plan, budgets)
    limits = limits_of(budgets)
    given = sizes_of(plan), read_scores(scores, plan), limits
    solver = Solver(*given, rows=plan.limits, max_gap=max_gap, time_limit_s=time_limit_s)
    solutions: list[Solution] = []
    while len(solutions) < k and (found := solver.solve()):
        solutions.append(Solution.of(found.architecture, found.score, found.bound, plan, budgets))
        solver.exclude(found.architecture, min_difference)
    if solver.out_of_time and not solutions:
        raise SearchError(f"Expected enough time to find an architecture, but {time_limit_s} s were not: raise "
                          "`time_limit_s`.")  # fmt: skip
    if not solutions:
        raise unreachable(limits, plan)
    return sorted(solutions, key=lambda solution: -solution.score)


def _check_arguments(k: int, min_difference: int, max_gap: float, time_limit_s: float | None) -> None:
    for name, number in (("k", k), ("min_difference", min_difference)):
        if type(number) is not int or number < 1:
            raise SearchError(f"Expected `{name}` to be a positive integer, but got {short_repr(number)}.")
    if not 0 <= max_gap < 1:
        raise SearchError(f"Expected `max_gap` to be a share from 0 to below 1, but got {max_gap}.")
    if time_limit_s is not None and not (time_limit_s > 0 and isfinite(time_limit_s)):
        raise SearchError(f"Expected `time_limit_s` to be a positive number of seconds, but got {time_limit_s}.")


def check_budgets(plan: CostPlan, budgets: Budget | Sequence[Budget]) -> tuple[Budget, ...]:
    """Budgets as a tuple.

    Raises:
        SearchError: if `plan` is no plan, one is no budget, or its plan has other choices or candidates than `plan`.
    """
    check_plan(plan)
    given = as_budgets(budgets)
    candidates = dict(zip(plan.choices, plan.candidates, strict=True))
    for budget in given:
        others = dict(zip(budget.plan.choices, budget.plan.candidates, strict=True))
        differing = [name for name in {**candidates, **others} if candidates.get(name) != others.get(name)]
        if differing:
            raise SearchError(
                f"Expected budgets over plans of the same choices and candidates, but `{differing[0]}` differs in the "
                f"plan of {budget}."
            )
    return given


def limits_of(budgets: Sequence[Budget]) -> tuple[Limit, ...]:
    """The limits of all budgets."""
    return tuple(chain.from_iterable(budget.limits() for budget in budgets))
