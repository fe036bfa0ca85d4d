"""`FormSelection`: the form of regression that was selected for a family, and its errors."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latency_nas.estimate.regressor.covariance import Covariance, Floats
from latency_nas.estimate.regressor.forms import FORMS
from latency_nas.estimate.uncertainty import Z90

__all__ = ["FormSelection", "difficulty", "stated_deviation"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FormSelection:
    """The selected form of a family, its errors, and the widths of its intervals.

    "Near" is for kernels whose shape is among the rows: its errors are those of rows that were left out one by one.
    "Far" is for kernels of another shape: its errors are those of rows that were left out with all rows of their shape.
    Kernels are sorted into bins by their difficulty (`difficulty`); each bin has its own width.

    Args:
        form: Selected form, one of `FORMS`.
        covariance: Covariance of the Gaussian process.
        near_error: Mean absolute relative error of near rows.
        far_error: Mean absolute relative error of far rows.
        near_within: Share of near rows within 10 %.
        near_covered: Share of near rows in 90 % intervals that were computed from other rows; it should be 0.9.
        far_covered: Share of far rows in 90 % intervals that were computed from other shapes; each shape has the same
            weight.
        near_edges: Difficulties between the bins of near kernels.
        near_widths: Width of each bin of near kernels: the 90 % quantile of errors over stated deviations.
        far_edges: Difficulties between the bins of far kernels.
        far_widths: Width of each bin of far kernels.
        farthest: Difficulty that 1 % of the left-out rows exceed.
    """

    form: str
    covariance: Covariance
    near_error: float
    far_error: float
    near_within: float
    near_covered: float
    far_covered: float
    near_edges: tuple[float, ...]
    near_widths: tuple[float, ...]
    far_edges: tuple[float, ...]
    far_widths: tuple[float, ...]
    farthest: float

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> FormSelection:
        """The inverse of `to_dict`.

        Raises:
            ValueError: if a part is missing or of another kind.
        """
        try:
            covariance = {name: _numbers(value) for name, value in data["covariance"].items()}
            parts = {name: value if name == "form" else _numbers(value) for name, value in data.items()}
            selection = cls(**parts | {"covariance": Covariance(**covariance)})
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"Expected the parts of a selection, but got {data!r:.80}.") from error
        if selection.form not in FORMS or not selection._is_consistent():
            raise ValueError(f"Expected a form and its widths, but got {selection.form!r}.")
        return selection

    def _is_consistent(self) -> bool:
        pairs = ((self.near_edges, self.near_widths), (self.far_edges, self.far_widths))
        return all(len(widths) == len(edges) + 1 for edges, widths in pairs)

    def deviation(self, variance: Floats, latency_ms: Floats, seen: NDArray[np.bool_]) -> Floats:
        """Standard deviation of log latencies, ``(kernels,)``.

        Args:
            variance: Variance of the process, ``(kernels,)``.
            latency_ms: Predicted latency, ``(kernels,)``.
            seen: Whether the kernel's shape is among the rows, ``(kernels,)``.
        """
        hard = self.difficulty(variance)
        near = np.asarray(self.near_widths)[np.searchsorted(self.near_edges, hard)]
        far = np.asarray(self.far_widths)[np.searchsorted(self.far_edges, hard)]
        width = np.where(seen, near, np.maximum(near, far))
        return np.asarray(width * stated_deviation(self.covariance, variance, latency_ms) / Z90)

    def difficulty(self, variance: Floats) -> Floats:
        """The difficulty of each kernel, by the function of this name."""
        return difficulty(self.covariance, variance)


def _numbers(value: Any) -> Any:
    if isinstance(value, dict):
        return value
    return tuple(map(float, value)) if isinstance(value, list) else float(value)


def difficulty(covariance: Covariance, variance: Floats) -> Floats:
    """Variance of the process over its prior: 0 for a kernel that is among the rows, 1 for one far from all rows."""
    return np.asarray(variance / covariance.prior)


def stated_deviation(covariance: Covariance, variance: Floats, latency_ms: Floats) -> Floats:
    """Standard deviation of log latencies by the process, noise included."""
    return np.sqrt(variance + covariance.noise(latency_ms))
