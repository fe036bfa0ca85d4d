"""`SoftmaxRow`: the numbers of a parameter whose softmax a function's gates are, known by the gates' slopes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["SoftmaxRow", "elements_of_softmax"]

_TOLERANCE = 1e-3  # share by which slopes and gates may differ from those of a softmax, in half precision too


@dataclass(frozen=True, slots=True, eq=False)
class SoftmaxRow:
    """Architecture parameters that a function of the user's reads.

    Args:
        tensor: Parameter, or another leaf of the framework's autograd.
        elements: Number of each gate's element in the flat tensor.
    """

    tensor: Any
    elements: tuple[int, ...]


def elements_of_softmax(gates: ArrayLike, slopes: ArrayLike) -> tuple[int, ...] | None:
    """The numbers that gates are the softmax of, from the gates and their slopes where all numbers are zero.

    There g = softmax(z / T) is 1 / n, and dg_i / dz_j = (delta_ij / n - 1 / n^2) / T.

    Args:
        gates: Gates, of shape ``(n,)``.
        slopes: Slope of each gate in each number, of shape ``(n, numbers)``.

    Returns:
        The number of each gate; None where the gates are not the softmax of as many numbers.

    Example:
        >>> elements_of_softmax([0.5, 0.5], [[0.0, -0.25, 0.25], [0.0, 0.25, -0.25]])
        (2, 1)
    """
    weights, jacobian = np.asarray(gates, np.float64), np.asarray(slopes, np.float64)
    n, used = len(weights), np.flatnonzero(np.asarray(slopes).any(0))
    if len(used) != n or not np.allclose(weights, 1 / n, rtol=_TOLERANCE):
        return None
    order = jacobian[:, used].argmax(1)
    inverse_temperature = jacobian[np.arange(n), used[order]].mean() * n**2 / (n - 1)
    expected = inverse_temperature * (np.eye(n) / n - 1 / n**2)
    if len(set(order.tolist())) < n or not np.allclose(
        jacobian[:, used[order]], expected, rtol=_TOLERANCE, atol=_TOLERANCE * abs(expected).max()
    ):
        return None
    return tuple(used[order].tolist())
