"""The last step of a search under a hard budget: the most probable architecture that keeps it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain

from latency_nas.errors import SearchError
from latency_nas.search.plan.architecture import Architecture
from latency_nas.search.select.budget import Limit
from latency_nas.search.select.program import Factors
from latency_nas.search.select.solve import Solver

__all__ = ["most_probable_within", "project"]


def most_probable_within(
    log_probabilities: Mapping[str, Sequence[float]], budgets: Sequence[Limit]
) -> Architecture | None:
    """The architecture with the largest sum of log-probabilities within all budgets; None if none keeps them.

    Args:
        log_probabilities: Choice -> the logarithm of each candidate's probability.
        budgets: Budgets over the same choices.

    Returns:
        Choice -> the index of its candidate.
    """
    sizes = {name: len(values) for name, values in log_probabilities.items()}
    flat = chain.from_iterable(log_probabilities.values())
    scores: dict[Factors, float] = {((number,),): score for number, score in enumerate(flat)}
    found = Solver(sizes, scores, budgets).solve()
    return None if found is None else found.architecture


def project(log_probabilities: Mapping[str, Sequence[float]], budgets: Sequence[Limit]) -> Architecture:
    """As `most_probable_within`, but raise an error if no architecture keeps the budgets.

    Args:
        log_probabilities: Choice -> the logarithm of each candidate's probability.
        budgets: Budgets over the same choices.

    Raises:
        SearchError: if no architecture keeps the budgets.

    Example:
        >>> from latency_nas.search.plan.cost import Cost
        >>> from latency_nas.search.plan.plan import CostPlan
        >>> costs = (Cost(value=1.0), Cost(value=2.5))
        >>> plan = CostPlan(choices=("a",), candidates=(("3x3", "5x5"),), costs=(costs,), fixed=Cost(value=4.0))
        >>> project({"a": [-2.3, -0.1]}, [Limit(plan=plan, max_cost=6.0)])
        {'a': 0}
    """
    found = most_probable_within(log_probabilities, budgets)
    if found is None:
        limits = " and ".join(f"up to {budget.max_cost:.6g}" for budget in budgets)
        raise SearchError(f"Expected an architecture of a cost {limits}, but the supernet has none.")
    return found
