"""`Spread`: how far the costs of a plan may be off, packed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latency_nas.estimate.uncertainty import MAE_TO_STD, network_variance
from latency_nas.search.plan.cost import Cost

__all__ = ["Spread"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """The parts of a plan's variance (see `latency_nas.estimate.uncertainty`), of what is fixed and of each summand.

    The first number of each array is of what is fixed, then come candidates and terms: ``summands`` in all.

    Args:
        expected_error: Error of the table's whole networks; None where it is not known.
        from_table: Costs that the table holds, of shape ``(summands,)``.
        variance: Variances of what errs on its own, of shape ``(summands,)``.
        together: Sums of standard deviations that err together, of shape ``(families, summands)``.
    """

    expected_error: float | None
    from_table: NDArray[np.float64]
    variance: NDArray[np.float64]
    together: NDArray[np.float64]

    @classmethod
    def of(cls, costs: Sequence[Cost], expected_error: float | None) -> Spread | None:
        """The spread of a plan's costs, what is fixed first; None where one of them is not known."""
        if any(cost.variance is None for cost in costs):
            return None
        families = list(dict.fromkeys(family for cost in costs for family, _ in cost.together))
        together = np.zeros((len(families), len(costs)))
        for column, cost in enumerate(costs):
            for family, std in cost.together:
                together[families.index(family), column] = std
        return cls(
            expected_error=expected_error,
            from_table=np.array([cost.from_table for cost in costs], np.float64),
            variance=np.array([cost.variance for cost in costs], np.float64),
            together=together,
        )

    def std(self, weights: Any) -> Any:
        """One standard deviation of the sum with these weights, of shape ``(summands,)``; NumPy's or a tensor."""
        parts: list[Any] = [self.from_table, self.variance, self.together]
        if not isinstance(weights, np.ndarray):  # a tensor, on whatever device
            parts = [weights.new_tensor(part) for part in parts]
        from_table, variance, together = (part @ weights for part in parts)
        return network_variance(from_table, variance, together, self.expected_error) ** 0.5

    def support(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """A linear bound of `std` from below for all weights from 0 to 1, exact where `weights` are 0 and 1.

        With s_i^2 w_i^2 for the own variances, which changes nothing where weights are 0 and 1, the deviation is a
        norm, and a norm is above each of its tangents.

        Args:
            weights: Where the tangent touches, of shape ``(summands,)``.

        Returns:
            A slope of shape ``(summands,)``: ``slope @ w <= std(w)``.
        """
        shared = (self.expected_error or 0.0) * MAE_TO_STD
        own = np.maximum(self.variance, 0.0)
        families = self.together @ weights
        norm = np.sqrt((shared * self.from_table @ weights) ** 2 + own @ weights**2 + families @ families)
        if not norm > 0:
            return np.zeros_like(weights)
        slope = shared**2 * (self.from_table @ weights) * self.from_table + own * weights
        return np.asarray((slope + families @ self.together) / norm)
