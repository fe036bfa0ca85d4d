"""How errors of kernels add up to that of a network: the one model of estimates, plans, gates and budgets.

Three kinds of errors are taken to be independent of each other:

1. The table's shared error. Where the error of whole networks is known (a datasheet's `expected_error`), all kernels
   from the table err by one common factor, of the standard deviation e = sqrt(pi/2) x that mean absolute error.
2. Own errors. Where it is not known, each kernel from the table errs on its own, by its row's standard deviation.
3. Regressed kernels. Those of one family come from one regression, and err together; families err on their own.

So the variance of a network is (e sum_table t)^2 + sum_own s^2 + sum_families (sum_family s)^2, where t are costs and s
standard deviations. To err together is the cautious case: it is the most that the errors of a family can add up to.

References:
    JCGM 100:2008 (GUM), section 5.2: the law of propagation of uncertainty with correlated inputs, eq. 13, with
    correlations of 1 within a family and 0 between families.
"""

from __future__ import annotations

from math import pi, sqrt
from typing import Any

__all__ = ["MAE_TO_STD", "Z90", "family_of", "network_variance"]

Z90 = 1.645  # 90 % of a normal distribution lies within so many standard deviations
MAE_TO_STD = sqrt(pi / 2)  # its standard deviation, in mean absolute errors


def network_variance(from_table: Any, own: Any, together: Any, expected_error: float | None) -> Any:
    """The variance of a network's cost, of floats, NumPy arrays or tensors alike.

    Args:
        from_table: Sum of the costs that the table holds.
        own: Sum of the variances of what errs on its own.
        together: Sums of the standard deviations of the families that err together, of shape ``(families,)``.
        expected_error: Mean absolute relative error of the table's whole networks; None where it is not known.

    Example:
        >>> import numpy as np
        >>> float(network_variance(10.0, 0.0, np.array([3.0, 4.0]), None))
        25.0
    """
    shared = (expected_error or 0.0) * MAE_TO_STD * from_table
    return shared**2 + own + (together**2).sum()


def family_of(kernel: Any) -> str:
    """What kernels share whose regressed costs err together: their family and their type of numbers."""
    return f"{kernel.family} {kernel.dtype}"
