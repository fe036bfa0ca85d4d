"""`SingleTerm`: a latency term with one target."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from latency_nas.estimate.estimate import Estimate
from latency_nas.kernel import Quantity
from latency_nas.search.loss.latency_term import LatencyTerm
from latency_nas.search.plan.plan import CostPlan

__all__ = ["SingleTerm"]


class SingleTerm(LatencyTerm):
    """A latency term with one target.

    Names that end in ``_ms`` are for latencies: they raise `QuantityError` for what is not measured in milliseconds.
    """

    @property
    @abstractmethod
    def plan(self) -> CostPlan:
        """What each candidate costs.

        Raises:
            SearchError: before `attach`.
        """

    @property
    @abstractmethod
    def quantity(self) -> Quantity:
        """The quantity that the cost is of: by default a latency in milliseconds."""

    @property
    @abstractmethod
    def target(self) -> float | None:
        """The cost to reach, in the unit of `quantity`."""

    @target.setter
    @abstractmethod
    def target(self, value: float | None) -> None: ...

    @abstractmethod
    def expected(self) -> Any:
        """E[LAT], a float64 scalar, differentiable with respect to the architecture parameters."""

    @abstractmethod
    def std(self) -> Any:
        """One standard deviation of the estimate at the gates: a float64 scalar, differentiable."""

    def price(self, architecture: Mapping[str, Any]) -> Estimate:
        """The estimate of one architecture or configuration: see `LatencyTerm.price`."""
        return self._estimate(architecture, self.plan)

    def random(
        self, max_ms: float | None = None, *, max_cost: float | None = None, seed: int | None = None
    ) -> dict[str, Any]:
        """A random configuration within a budget; all within it are equally likely (but see `random_within`).

        Args:
            max_ms: Upper limit of the latency, in milliseconds; None for the target.
            max_cost: Upper limit in the unit of `quantity`, instead of `max_ms`.
            seed: Seed of the random numbers; None for others each time.

        Returns:
            Choice -> option; choice -> index of the candidate, for choices among modules.

        Raises:
            QuantityError: if `max_ms` is given for what is not a latency.
            SearchError: if there is no limit, or no architecture keeps it; the message says what can be reached.
        """
        if max_ms is not None:
            self.quantity.check_latency("max_ms", "max_cost")
            max_cost = max_ms
        target, plan = self._first().goal()
        goal = target if max_cost is None else replace(target, value=max_cost)
        return self._random([goal.budget(plan)], seed)

    def argmax_cost(self) -> float:
        """The cost of `architecture`."""
        return self.plan.cost(self.architecture())

    @property
    def target_ms(self) -> float | None:
        """`target` of a latency, in milliseconds; it can be set at any time."""
        self.quantity.check_latency("target_ms", "target")
        return self.target

    @target_ms.setter
    def target_ms(self, target_ms: float | None) -> None:
        self.quantity.check_latency("target_ms", "target")
        self.target = target_ms

    def expected_ms(self) -> Any:
        """`expected` of a latency, in milliseconds."""
        self.quantity.check_latency("expected_ms", "expected")
        return self.expected()

    def std_ms(self) -> Any:
        """`std` of a latency, in milliseconds."""
        self.quantity.check_latency("std_ms", "std")
        return self.std()

    def argmax_ms(self) -> float:
        """`argmax_cost` of a latency, in milliseconds."""
        self.quantity.check_latency("argmax_ms", "argmax_cost")
        return self.argmax_cost()
