"""How errors of kernels add up to the error of a network: one model for estimates, cost plans, gates and budgets.

There are three kinds of errors, which are assumed to be independent of each other:

1. The table's shared error. Where the error of whole networks is known (a datasheet's `expected_error`), all kernels
   from the table have one common relative error. Its standard deviation e is sqrt(pi/2) times the mean absolute error.
2. Own errors. Where that is not known, each kernel from the table has its own independent error, whose standard
   deviation is its row's.
3. Regressed kernels. The errors of a family, which come from one regression, are fully correlated; those of different
   families are independent.

So the variance of a network is (e sum_table t)^2 + sum_own s^2 + sum_families (sum_family s)^2, where t are costs and s
standard deviations. Full correlation is the cautious choice: the errors of a family cannot add up to more.

References:
    JCGM 100:2008 (GUM), section 5.2: the law of propagation of uncertainty with correlated inputs, eq. 13, with
    correlations of 1 within a family and 0 between families.
"""

from __future__ import annotations

from math import pi, sqrt
from typing import Any

__all__ = ["MAE_TO_STD", "Z90", "family_of", "network_variance"]

Z90 = 1.645  # standard deviations of a normal distribution within which 90 % of it lies
MAE_TO_STD = sqrt(pi / 2)  # standard deviation of a normal distribution over its mean absolute error


def network_variance(from_table: Any, own: Any, together: Any, expected_error: float | None) -> Any:
    """The variance of a network's cost; takes floats, NumPy arrays or tensors.

    Args:
        from_table: Sum of the costs from the table.
        own: Sum of the variances of own errors.
        together: Sum of the standard deviations of each family of regressed kernels, of shape ``(families,)``.
        expected_error: Mean absolute relative error of the table's whole networks; None where it is not known.

    Example:
        >>> import numpy as np
        >>> float(network_variance(10.0, 0.0, np.array([3.0, 4.0]), None))
        25.0
    """
    shared = (expected_error or 0.0) * MAE_TO_STD * from_table
    return shared**2 + own + (together**2).sum()


def family_of(kernel: Any) -> str:
    """The family whose regressed costs are correlated: kernels of one family and one type of numbers."""
    return f"{kernel.family} {kernel.dtype}"
