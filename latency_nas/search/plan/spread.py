"""`Spread`: the standard deviation of a plan's cost, at any gates.

The model of errors is that of `latency_nas.estimate.uncertainty`. Let w be the weights of a cost's summands: 1 for what
is fixed, the gates of the candidates, and the products of gates of the terms. A summand i has the cost t_i from the
table, the own variance v_i, and for each family f of regressed kernels the sum s_fi of their standard deviations. Then

    variance(w) = (e sum_i w_i t_i)^2 + sum_i w_i v_i + sum_f (sum_i w_i s_fi)^2,

where e is the standard deviation of the table's shared relative error. At an architecture, whose weights are 0 and 1,
this is the variance of its estimate. In between, the own variances are averaged over the architectures that independent
gates draw.

References:
    JCGM 100:2008 (GUM), section 5.2.2: eq. 16 for correlated inputs, and eq. 17, the linear sum for full correlation.
"""

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
    """The errors of a plan's summands: of what is fixed, then of the candidates, then of the terms.

    Args:
        expected_error: Mean absolute relative error of the table's whole networks; None where it is not known.
        from_table: Costs t from the table, of shape ``(summands,)``.
        variance: Own variances v, of shape ``(summands,)``.
        together: Sums s of the standard deviations of each family, of shape ``(families, summands)``.
    """

    expected_error: float | None
    from_table: NDArray[np.float64]
    variance: NDArray[np.float64]
    together: NDArray[np.float64]

    @classmethod
    def of(cls, costs: Sequence[Cost], expected_error: float | None) -> Spread | None:
        """The spread of a plan's costs, in the order of the summands; None where the error of one is not known."""
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
        """One standard deviation of the cost.

        Args:
            weights: Weights w of the summands, a NumPy array or a tensor of shape ``(summands,)``.
        """
        parts: list[Any] = [self.from_table, self.variance, self.together]
        if not isinstance(weights, np.ndarray):  # a tensor, on whatever device
            parts = [weights.new_tensor(part) for part in parts]
        from_table, variance, together = (part @ weights for part in parts)
        return network_variance(from_table, variance, together, self.expected_error) ** 0.5

    def support(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """A linear lower bound of `std` for all weights from 0 to 1, which is exact at `weights` of 0 and 1.

        Replace w_i v_i by w_i^2 v_i: this changes nothing where the weights are 0 and 1, and lowers the deviation in
        between. It is then a norm of w, which is convex, so that each of its tangents is a lower bound.

        Args:
            weights: Weights at which the tangent touches, of shape ``(summands,)``.

        Returns:
            The slope of the tangent, of shape ``(summands,)``: ``slope @ w <= std(w)``.
        """
        shared = (self.expected_error or 0.0) * MAE_TO_STD
        own = np.maximum(self.variance, 0.0)
        families = self.together @ weights
        norm = np.sqrt((shared * self.from_table @ weights) ** 2 + own @ weights**2 + families @ families)
        if not norm > 0:
            return np.zeros_like(weights)
        slope = shared**2 * (self.from_table @ weights) * self.from_table + own * weights
        return np.asarray((slope + families @ self.together) / norm)
