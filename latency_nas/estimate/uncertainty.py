"""How errors of kernels add up to the error of a network: one model for estimates, cost plans, gates and budgets.

There are three kinds of errors, which are assumed to be independent of each other:

1. The table's shared error. Where the error of whole networks is known (a datasheet's `expected_error`), all kernels
   from the table have one common relative error, with the standard deviation e. The datasheet gives the mean absolute
   error m; for a normal distribution e = sqrt(pi/2) m. A measured table has m from its own networks, each left out
   (`latency_nas.measure.left_out`), until `check_table` replaces it.
2. Own errors. Where the error of whole networks is not known, each kernel from the table has an independent error with
   the standard deviation of its row.
3. Errors of regressed kernels. Those of one family come from one regression and are taken to be fully correlated; those
   of different families are independent. Full correlation is the cautious choice: errors cannot add up to more.

With costs t and standard deviations s, the variance of a network's cost is therefore

    (e sum_table t)^2 + sum_own s^2 + sum_families (sum_family s)^2.

References:
    JCGM 100:2008 (GUM), section 5.2.2: the law of propagation of uncertainty for correlated inputs, eq. 16. With
    correlations of 1 it becomes the square of a linear sum (eq. 17), with correlations of 0 a sum of squares.
"""

from __future__ import annotations

from math import pi, sqrt
from typing import Any

__all__ = ["MAE_TO_STD", "Z90", "family_of", "network_variance"]

Z90 = 1.645  # 90 % of a normal distribution lie within so many standard deviations of its mean
MAE_TO_STD = sqrt(pi / 2)  # standard deviation of a normal distribution, divided by its mean absolute error


def network_variance(from_table: Any, own: Any, together: Any, expected_error: float | None) -> Any:
    """The variance of a network's cost; takes floats, NumPy arrays or tensors.

    Args:
        from_table: Sum of the costs t from the table.
        own: Sum of the variances s^2 of own errors.
        together: Sum of the standard deviations of each family of regressed kernels, of shape ``(families,)``, or
            ``(families, networks)`` for several networks.
        expected_error: Mean absolute relative error of the table's whole networks; None where it is not known.

    Example:
        >>> import numpy as np
        >>> float(network_variance(10.0, 0.0, np.array([3.0, 4.0]), None))
        25.0
    """
    shared = (expected_error or 0.0) * MAE_TO_STD * from_table
    return shared**2 + own + (together**2).sum(0)


def family_of(kernel: Any) -> str:
    """The family whose regressed costs are correlated: kernels of one family and one type of numbers."""
    return f"{kernel.family} {kernel.dtype}"
