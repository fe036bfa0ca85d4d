"""Products of gates, for terms of several choices."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["leave_one_out"]


def leave_one_out(factors: NDArray[np.float64]) -> NDArray[np.float64]:
    """For each factor of each row, the product of the row's others.

    Example:
        >>> leave_one_out(np.array([[2.0, 3.0, 5.0]])).tolist()
        [[15.0, 10.0, 6.0]]
    """
    before, after = np.ones_like(factors), np.ones_like(factors)
    np.cumprod(factors[:, :-1], axis=1, out=before[:, 1:])
    after[:, :-1] = np.cumprod(factors[:, :0:-1], axis=1)[:, ::-1]
    product: NDArray[np.float64] = before * after
    return product
