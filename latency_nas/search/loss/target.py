"""`Target`: the cost that a search has to reach, for the estimate itself or for a quantile of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from statistics import NormalDist

from latency_nas.errors import QuantityError, SearchError
from latency_nas.kernel import LATENCY, Quantity
from latency_nas.search.plan.plan import CostPlan
from latency_nas.search.select.budget import Limit
from latency_nas.search.select.reach import reach, rounded_within

__all__ = ["Target"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The cost to reach.

    Args:
        value: Cost, in the unit of `quantity`; None to minimise it.
        quantile: Quantile of the estimate that has to reach the target, where the estimate is taken to be normal with
            its standard deviation; None for the estimate itself.
        quantity: Quantity that the cost is of.

    Raises:
        SearchError: if the value is not positive, or the quantile not from 0.5 to below 1.
    """

    value: float | None
    quantile: float | None = None
    quantity: Quantity = LATENCY

    def __post_init__(self) -> None:
        if self.value is not None and not self.value > 0:
            name, unit = ("target_ms", "milliseconds") if self.quantity.is_latency else ("target", self.quantity.unit)
            raise SearchError(f"Expected `{name}` to be a positive number of {unit}, but got {self.value}.")
        if self.quantile is not None and not 0.5 <= self.quantile < 1:
            raise SearchError(f"Expected `target_quantile` to be from 0.5 to below 1, but got {self.quantile}.")

    @property
    def n_std(self) -> float:
        """Number of standard deviations that are added to the estimate."""
        return 0.0 if self.quantile is None else NormalDist().inv_cdf(self.quantile)

    def check(self, plan: CostPlan) -> None:
        """Refuse a target outside what a supernet can reach.

        Args:
            plan: Plan of the supernet.

        Raises:
            QuantityError: if the plan is of another quantity.
            SearchError: if the target is out of reach; the message gives both bounds, each rounded to within reach.
        """
        if plan.quantity != self.quantity:
            raise QuantityError(
                f"Expected a plan of {self.quantity.name} in {self.quantity.unit}, but got one of {plan.quantity.name} "
                f"in {plan.quantity.unit}: make the loss with the table or counter that the plan was made with."
            )
        if self.value is None:
            return
        cheapest, dearest = reach(plan, self.n_std)
        if not cheapest <= self.value <= dearest:
            low = rounded_within(self.quantity, cheapest, upwards=True)
            high = rounded_within(self.quantity, dearest, upwards=False)
            raise SearchError(
                f"Expected a target that the supernet can reach, from {low} (its cheapest architecture) to {high} (its "
                f"dearest), but got {self.quantity.rounded(self.value)} {self.quantity.unit}."
            )

    def budget(self, plan: CostPlan, *, within: float | None = None) -> Limit:
        """The target as limits: not above it, and not more than the share `within` below it.

        Raises:
            SearchError: if there is no target.
        """
        if self.value is None:
            name = "target_ms" if self.quantity.is_latency else "target"
            raise SearchError(f"Expected a target for the projection, but `{name}` is None.")
        min_cost = -inf if within is None else self.value * (1 - within)
        return Limit(plan=plan, max_cost=self.value, min_cost=min_cost, n_std=self.n_std)

    def compared_cost(self, plan: CostPlan, architecture: Mapping[str, int]) -> float:
        """The cost of an architecture that is compared with the target: the estimate, or the quantile of it."""
        return Limit(plan=plan, max_cost=inf, n_std=self.n_std).cost(architecture)
