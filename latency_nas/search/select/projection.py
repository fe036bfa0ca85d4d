"""The last step of a search under a hard budget: the most probable architecture that keeps it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain

from latency_nas.errors import SearchError
from latency_nas.search.plan.architecture import Architecture
from latency_nas.search.plan.cost import Cost
from latency_nas.search.plan.limits import LimitRow
from latency_nas.search.plan.plan import CostPlan
from latency_nas.search.select.budget import Limit
from latency_nas.search.select.program import Factors
from latency_nas.search.select.reach import factors_of, sizes_of
from latency_nas.search.select.refusal import unreachable
from latency_nas.search.select.solve import Solver

__all__ = ["most_probable_within", "nearest_within", "project"]

_MAX_GAP = 1e-6  # share by which the dearest architecture may be cheaper than the bound that was proved


def most_probable_within(
    log_probabilities: Mapping[str, Sequence[float]], budgets: Sequence[Limit], limits: Sequence[LimitRow] = ()
) -> Architecture | None:
    """The architecture with the largest sum of log-probabilities within all budgets; None if none keeps them.

    Args:
        log_probabilities: Choice -> the logarithm of each candidate's probability.
        budgets: Budgets over the same choices. The limits that their plans have on choices are kept, too.
        limits: Further limits on choices.

    Returns:
        Choice -> the index of its candidate.
    """
    sizes = {name: len(values) for name, values in log_probabilities.items()}
    flat = chain.from_iterable(log_probabilities.values())
    scores: dict[Factors, float] = {((number,),): score for number, score in enumerate(flat)}
    found = Solver(sizes, scores, budgets, rows=limits).solve()
    return None if found is None else found.architecture


def project(log_probabilities: Mapping[str, Sequence[float]], budgets: Sequence[Limit]) -> Architecture:
    """As `most_probable_within`, but raise an error if no architecture keeps the budgets and limits.

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
        kept = " within its limits on choices" if any(budget.plan.limits for budget in budgets) else ""
        raise SearchError(f"Expected an architecture of a cost {limits}, but the supernet has none{kept}.")
    return found


def nearest_within(
    start: Mapping[str, int], budgets: Sequence[Limit], log_probabilities: Mapping[str, Sequence[float]] | None = None
) -> Architecture:
    """The architecture within all budgets that differs from another one in the fewest choices.

    Of several such architectures, the one with the largest sum of log-probabilities is given; without probabilities,
    the one that costs most by the first budget's plan, and is so the nearest in cost.

    Args:
        start: Choice -> the index of its candidate. Choices that are left out may have any.
        budgets: Budgets over the same choices.
        log_probabilities: Choice -> the logarithm of each candidate's probability.

    Returns:
        Choice -> the index of its candidate.

    Raises:
        SearchError: if no architecture keeps the budgets; the message says what can be reached.

    Example:
        >>> costs = tuple(Cost(value=value) for value in (1.0, 2.0, 4.0))
        >>> names = ("3x3", "5x5", "7x7")
        >>> plan = CostPlan(choices=("a", "b"), candidates=(names,) * 2, costs=(costs,) * 2, fixed=Cost(value=0.0))
        >>> nearest_within({"a": 2, "b": 1}, [Limit(plan=plan, max_cost=4.5)])
        {'a': 1, 'b': 1}
    """
    changes = _changes(start, budgets[0].plan)
    nearest = most_probable_within({name: [-cost.value for cost in row] for name, row in
                                    zip(changes.choices, changes.costs, strict=True)}, budgets)  # fmt: skip
    if nearest is None:
        raise unreachable(budgets, budgets[0].plan)
    fewest = changes.cost(nearest)
    if fewest == 0 and len(start) == len(nearest):
        return nearest
    limits = [*budgets, Limit(plan=changes, max_cost=fewest + 0.5)]
    if log_probabilities is not None:
        return most_probable_within(log_probabilities, limits) or nearest
    dearest = Solver(sizes_of(changes), factors_of(budgets[0].plan), limits, max_gap=_MAX_GAP).solve()
    return nearest if dearest is None else dearest.architecture


def _changes(start: Mapping[str, int], plan: CostPlan) -> CostPlan:
    """A plan whose costs are the number of choices that differ from `start`."""
    return CostPlan(
        choices=plan.choices,
        candidates=plan.candidates,
        costs=tuple(
            tuple([Cost(value=float(index != start.get(name, index))) for index in range(len(names))])
            for name, names in zip(plan.choices, plan.candidates, strict=True)
        ),
        fixed=Cost(value=0.0),
    )
