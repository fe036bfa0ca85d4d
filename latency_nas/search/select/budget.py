"""`Budget`: the limits that an architecture has to keep; `Limit`: one side of it, as the solver takes it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, isnan
from numbers import Real
from statistics import NormalDist

from latency_nas.errors import SearchError, short_repr
from latency_nas.search.plan.plan import CostPlan

__all__ = ["Budget", "Limit", "as_budgets", "check_plan", "fingerprint"]


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits of one cost of an architecture: of its latency on one device, of its parameters, of its memory.

    Args:
        plan: Plan that says what the candidates cost.
        max_cost: Upper limit, in the unit of the plan's quantity.
        min_cost: Lower limit, in the unit of the plan's quantity.
        confidence: Probability with which each limit has to be kept, where the true cost is taken to be normal with the
            mean and the standard deviation of its estimate; None compares the estimate itself.

    Raises:
        SearchError: if there is no limit or the limits contradict each other, the confidence is not from 0.5 to below
            1, or the plan does not know how sure it is.

    Example:
        >>> from latency_nas.search.plan.cost import Cost
        >>> costs = (Cost(value=1.0), Cost(value=2.5))
        >>> plan = CostPlan(choices=("a",), candidates=(("3x3", "5x5"),), costs=(costs,), fixed=Cost(value=4.0))
        >>> Budget(plan, max_cost=6.0).keeps({"a": 0}), Budget(plan, max_cost=6.0).keeps({"a": 1})
        (True, False)
    """

    plan: CostPlan
    max_cost: float = inf
    min_cost: float = -inf
    confidence: float | None = None

    def __post_init__(self) -> None:
        check_plan(self.plan)
        for name in ("max_cost", "min_cost", "confidence"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, Real | None):
                raise SearchError(f"Expected `{name}` to be a number, but got {short_repr(value)}.")
        if isnan(self.max_cost) or isnan(self.min_cost) or not self.min_cost <= self.max_cost:
            raise SearchError(
                f"Expected limits from a lower one to an upper one, but got {self.min_cost} to {self.max_cost}."
            )
        if self.max_cost == -inf or self.min_cost == inf:
            raise SearchError(f"Expected limits that a cost can keep, but got {self.min_cost} to {self.max_cost}.")
        if self.max_cost == inf and self.min_cost == -inf:
            raise SearchError("Expected a budget to have `max_cost`, `min_cost` or both, but got neither.")
        if self.confidence is not None and not 0.5 <= self.confidence < 1:
            raise SearchError(f"Expected `confidence` to be from 0.5 to below 1, but got {self.confidence}.")
        _check_spread(self.plan, self.n_std)

    @property
    def n_std(self) -> float:
        """Number of standard deviations by which the estimate has to keep its distance from each limit."""
        return 0.0 if self.confidence is None else NormalDist().inv_cdf(self.confidence)

    def limits(self) -> tuple[Limit, ...]:
        """The upper limit and the lower one, of those that there are."""
        upper = Limit(plan=self.plan, max_cost=self.max_cost, n_std=self.n_std)
        lower = Limit(plan=self.plan, min_cost=self.min_cost, n_std=-self.n_std)
        return (upper,) * bool(self.max_cost < inf) + (lower,) * bool(self.min_cost > -inf)

    def identity(self) -> list[str | float | None]:
        """Everything that the budget's outcomes depend on, of types that JSON has; the plan by its hash."""
        return [fingerprint(self.plan), repr(float(self.max_cost)), repr(float(self.min_cost)), self.confidence]

    def keeps(self, architecture: Mapping[str, int | str]) -> bool:
        """Whether an architecture is within the limits, with the asked confidence, and keeps the plan's on choices.

        Args:
            architecture: Choice -> the index of its candidate, or its name.
        """
        return all(limit.keeps(architecture) for limit in self.limits())

    def __str__(self) -> str:
        quantity = self.plan.quantity
        upper = f"at most {quantity.rounded(self.max_cost)}" if self.max_cost < inf else ""
        lower = f"at least {quantity.rounded(self.min_cost)}" if self.min_cost > -inf else ""
        sure = "" if self.confidence is None else f" at a confidence of {self.confidence:g}"
        return f"{quantity.name} of {' and '.join(filter(None, (lower, upper)))} {quantity.unit}{sure}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """Limits of one quantile of an architecture's cost: of the estimate + `n_std` standard deviations.

    Args:
        plan: Plan that says what the candidates cost.
        max_cost: Upper limit, in the plan's unit.
        min_cost: Lower limit, in the plan's unit.
        n_std: Number of standard deviations that are added to the estimate before it is compared; it may be negative.

    Raises:
        SearchError: if standard deviations are to be added, and the plan has none.
    """

    plan: CostPlan
    max_cost: float = inf
    min_cost: float = -inf
    n_std: float = 0.0

    def __post_init__(self) -> None:
        _check_spread(self.plan, self.n_std)

    def cost(self, architecture: Mapping[str, int | str]) -> float:
        """The cost that is compared with the limits: with `n_std` standard deviations."""
        cost = self.plan.cost(architecture)
        return cost + self.n_std * (self.plan.std(architecture) or 0.0) if self.n_std else cost

    def keeps(self, architecture: Mapping[str, int | str]) -> bool:
        """Whether an architecture is within the limits, exactly, and keeps those that the plan has on choices."""
        return self.plan.allows(architecture) and self.min_cost <= self.cost(architecture) <= self.max_cost


def check_plan(plan: object) -> None:
    """Refuse what is no plan.

    Raises:
        SearchError: if it is a loss, or anything else.
    """
    if not isinstance(plan, CostPlan):
        raise SearchError(f"Expected a plan, such as `latency.plan` of an attached loss, but got {short_repr(plan)}.")


def as_budgets(budgets: Budget | Sequence[Budget]) -> tuple[Budget, ...]:
    """One budget or several as a tuple.

    Raises:
        SearchError: if one is no budget.
    """
    given = (budgets,) if isinstance(budgets, Budget) else tuple(budgets)
    for budget in given:
        if not isinstance(budget, Budget):
            raise SearchError(f"Expected budgets, such as `Budget(plan, max_cost=20)`, but got {short_repr(budget)}.")
    return given


def fingerprint(plan: CostPlan) -> str:
    """A hash of everything that a plan's costs and errors are computed from."""
    return hashlib.sha256(repr(plan).encode()).hexdigest()


def _check_spread(plan: CostPlan, n_std: float) -> None:
    if n_std and plan.spread is None:
        raise SearchError(
            "Expected a table with an expected error, or with standard deviations, to keep a quantile of the estimate."
        )
