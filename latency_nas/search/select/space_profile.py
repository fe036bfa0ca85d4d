"""`profile_space`: a space at a glance: its size, what its architectures cost, and how many keep the budgets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np
from numpy.typing import NDArray

from latency_nas.errors import SearchError
from latency_nas.search.plan.architecture import Architecture
from latency_nas.search.plan.many import Rows
from latency_nas.search.plan.plan import CostPlan
from latency_nas.search.select.budget import Budget, as_budgets, check_plan
from latency_nas.search.select.distribution import Distribution
from latency_nas.search.select.outcome import PASSED, BudgetFilter
from latency_nas.search.select.projection import most_probable_within
from latency_nas.search.select.sampling import sample_architectures
from latency_nas.search.select.space_distribution import distribution_of
from latency_nas.search.select.space_profile_text import profile_text

__all__ = ["Share", "SpaceProfile", "profile_space"]

_N_FOR_EXAMPLE = 2000  # architectures to draw before a solver is asked


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """The share of a space's architectures that keep limits.

    Args:
        value: Share, from 0 to 1.
        low: Lower bound; of a sampled share, it is lower by two standard errors.
        high: Upper bound; of a sampled share, it is higher by two standard errors.
        method: Way in which it was found: ``"exact"``, ``"grid"`` or ``"sampled"``, as `Distribution.method`.
        standard_error: Standard error of a sampled share; 0 for others, whose bounds hold for certain.
    """

    value: float
    low: float
    high: float
    method: str
    standard_error: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SpaceProfile:
    """A space at a glance; ``print`` shows it as text.

    Args:
        n_architectures: Number of architectures of the space.
        distributions: Distribution of each cost: of the plan, then of the other plans that budgets limit.
        budgets: Budgets, with the share of the space that keeps each.
        together: Share of the space that keeps all budgets; None without budgets.
        example: An architecture that keeps all budgets; None if there is none, or no budget.
        n_samples: Number of architectures that were drawn for sampled shares; 0 if none was.
    """

    n_architectures: int
    distributions: tuple[Distribution, ...]
    budgets: tuple[tuple[Budget, Share], ...] = ()
    together: Share | None = None
    example: Architecture | None = None
    n_samples: int = 0

    @property
    def can_be_met(self) -> bool:
        """Whether an architecture keeps all budgets, exactly."""
        return not self.budgets or self.example is not None

    def __str__(self) -> str:
        return profile_text(self)


def profile_space(
    plan: CostPlan,
    budgets: Budget | Sequence[Budget] = (),
    *,
    max_error: float = 1e-3,
    n_samples: int = 500_000,
    seed: int = 0,
) -> SpaceProfile:
    """The size of a plan's space, the distribution of each cost, and how much of the space keeps the budgets.

    The share within a budget comes from the distribution of its cost. Shares within a budget with a confidence, and
    within budgets of several costs together, are estimated from random architectures. Whether all budgets can be met is
    exact in any case: where no drawn architecture keeps them, a solver looks for one (`most_probable_within`).

    Args:
        plan: Plan that says what the candidates cost.
        budgets: Budgets over the same choices, of this plan or of others.
        max_error: Error of the distribution functions to reach, as in `distribution_of`.
        n_samples: Number of architectures to draw for shares that need it.
        seed: Seed of the random numbers.

    Raises:
        SearchError: if a budget is over other choices.

    Example:
        >>> from latency_nas.search.plan.cost import Cost
        >>> costs = (Cost(value=1.0), Cost(value=2.5))
        >>> names = (("3x3", "5x5"),) * 2
        >>> plan = CostPlan(choices=("a", "b"), candidates=names, costs=(costs,) * 2, fixed=Cost(value=4.0))
        >>> profile = profile_space(plan, [Budget(plan, max_cost=8.0)])
        >>> profile.together.value, profile.can_be_met, profile.distributions[0].quantile(0.5)
        (0.75, True, 7.5)
    """
    check_plan(plan)
    budgets = as_budgets(budgets)
    for budget in budgets:
        _check_space(plan, budget.plan)
    plans = _different([plan, *(budget.plan for budget in budgets)])
    distributions = [distribution_of(item, max_error=max_error, seed=seed) for item in plans]
    shares = [_of_distribution([budget], plans, distributions) for budget in budgets]
    together = _of_distribution(budgets, plans, distributions)
    is_known = together is not None and None not in shares
    rows = sample_architectures(plan, _N_FOR_EXAMPLE if is_known else n_samples, seed=seed)
    kept = [BudgetFilter.of([budget]).outcomes(rows) == PASSED for budget in budgets]
    all_kept = np.logical_and.reduce(kept)
    return SpaceProfile(
        n_architectures=prod(len(names) for names in plan.candidates),
        distributions=tuple(distributions),
        budgets=tuple(
            (budget, share or _sampled(row)) for budget, share, row in zip(budgets, shares, kept, strict=True)
        ),
        together=(together or _within_each(_sampled(all_kept), shares)) if budgets else None,
        example=_example(plan, budgets, rows[all_kept]) if budgets else None,
        n_samples=n_samples if budgets and not is_known else 0,
    )


def _example(plan: CostPlan, budgets: Sequence[Budget], kept: Rows) -> Architecture | None:
    """An architecture that keeps all budgets, of those that were drawn, or by the solver; None if there is none."""
    if len(kept):
        return Architecture(zip(plan.choices, kept[0].tolist(), strict=True))
    scores = {name: [0.0] * len(names) for name, names in zip(plan.choices, plan.candidates, strict=True)}
    return most_probable_within(scores, [limit for budget in budgets for limit in budget.limits()])


def _check_space(plan: CostPlan, other: CostPlan) -> None:
    if (plan.choices, [*map(len, plan.candidates)]) != (other.choices, [*map(len, other.candidates)]):
        raise SearchError(
            f"Expected budgets over the choices of the plan, with as many candidates each, but the plan has "
            f"{_space_text(plan)}, and a budget's plan of {other.quantity.name} has {_space_text(other)}."
        )


def _space_text(plan: CostPlan) -> str:
    sizes = [f"`{choice}` of {len(names)}" for choice, names in zip(plan.choices, plan.candidates, strict=True)]
    return ", ".join(sizes[:6]) + (f" and {len(sizes) - 6} more" if len(sizes) > 6 else "")


def _different(plans: Sequence[CostPlan]) -> list[CostPlan]:
    different: list[CostPlan] = []
    for plan in plans:
        if plan not in different:
            different.append(plan)
    return different


def _of_distribution(
    budgets: Sequence[Budget], plans: Sequence[CostPlan], distributions: Sequence[Distribution]
) -> Share | None:
    """The share within budgets of one cost, which its distribution gives; None for others."""
    if not budgets or any(budget.plan != budgets[0].plan or budget.n_std for budget in budgets):
        return None
    found = distributions[plans.index(budgets[0].plan)]
    limits = max(budget.min_cost for budget in budgets), min(budget.max_cost for budget in budgets)
    low, high = found.share_bounds(*limits)
    value = found.share(*limits)
    if not found.n_samples:
        return Share(value=value, low=low, high=high, method=found.method)
    return _estimated(value * found.n_samples, found.n_samples)


def _sampled(kept: NDArray[np.bool_]) -> Share:
    return _estimated(float(np.count_nonzero(kept)), len(kept))


def _within_each(together: Share, shares: Sequence[Share | None]) -> Share:
    """A share within several budgets, which is at most that within each of them."""
    most = min([together.high, *(share.high for share in shares if share is not None)])
    return replace(together, value=min(together.value, most), low=min(together.low, most), high=most)


def _estimated(n_kept: float, n: int) -> Share:
    """The share that a sample estimates; its error is that of one success and one failure more, so never 0."""
    value, cautious = n_kept / n, (n_kept + 1) / (n + 2)
    error = (cautious * (1 - cautious) / n) ** 0.5
    low, high = max(value - 2 * error, 0.0), min(value + 2 * error, 1.0)
    return Share(value=value, low=low, high=high, method="sampled", standard_error=error)
