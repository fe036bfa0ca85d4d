"""What was decided of a family: which form of regression prices it, and how far that errs."""

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
    """What was decided for a family: enough to fit it again at once.

    Args:
        form: one of `FORMS`.
        covariance: of its process.
        near_error: mean absolute relative error of single rows that were left out.
        far_error: the same where all rows of a shape were left out.
        near_within: the share of the single rows within 10 %.
        near_covered: the share of the single rows in intervals that rest on the others; 0.9 is aimed at.
        far_covered: the same where all rows of a shape were left out, each shape counting as one.
        near_edges: of kernels whose shape is among the rows, bounds between difficulties, each of which has an interval
            of its own.
        near_widths: of each difficulty, the 90 % quantile of the errors of single rows, in stated deviations.
        far_edges: as `near_edges`, of kernels of another shape.
        far_widths: as `near_widths`, of whole shapes that were left out.
        farthest: the difficulty that 1 % of the left-out rows exceed.
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
        if selection.form not in FORMS or not selection._is_whole():
            raise ValueError(f"Expected a form and its widths, but got {selection.form!r}.")
        return selection

    def _is_whole(self) -> bool:
        pairs = ((self.near_edges, self.near_widths), (self.far_edges, self.far_widths))
        return all(len(widths) == len(edges) + 1 for edges, widths in pairs)

    def deviation(self, variance: Floats, latency_ms: Floats, seen: NDArray[np.bool_]) -> Floats:
        """One standard deviation of log latencies.

        Args:
            variance: of the process, ``(kernels,)``.
            latency_ms: as predicted.
            seen: whether the kernel's shape is among the rows.
        """
        hard = self.difficulty(variance)
        near = np.asarray(self.near_widths)[np.searchsorted(self.near_edges, hard)]
        far = np.asarray(self.far_widths)[np.searchsorted(self.far_edges, hard)]
        width = np.where(seen, near, np.maximum(near, far))
        return np.asarray(width * stated_deviation(self.covariance, variance, latency_ms) / Z90)

    def difficulty(self, variance: Floats) -> Floats:
        """How little the rows say of a kernel: 0 for one that stands among them, 1 for one far from all."""
        return difficulty(self.covariance, variance)


def _numbers(value: Any) -> Any:
    if isinstance(value, dict):
        return value
    return tuple(map(float, value)) if isinstance(value, list) else float(value)


def difficulty(covariance: Covariance, variance: Floats) -> Floats:
    """How little the rows say of kernels: 0 for one that stands among them, 1 for one far from all."""
    return np.asarray(variance / covariance.prior)


def stated_deviation(covariance: Covariance, variance: Floats, latency_ms: Floats) -> Floats:
    """The deviation of log latencies that the process states, noise included."""
    return np.sqrt(variance + covariance.noise(latency_ms))
