"""How well the regressor of a table does, family by family, on rows that were left out of its fit."""

from __future__ import annotations

from dataclasses import dataclass

from latency_nas.estimate.regressor import KernelRegressor
from latency_nas.table import LatencyTable

__all__ = ["FamilyAccuracy", "regressor_accuracy"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FamilyAccuracy:
    """The regressor's errors on one family of a table's kernels.

    Args:
        family: of the kernels.
        dtype: of the kernels.
        n_rows: of the table.
        form: of regression, as cross-validation chose it.
        near_error: mean absolute relative error of single rows that were left out.
        near_within: the share of these within 10 %.
        far_error: mean absolute relative error where all rows of a shape were left out.
    """

    family: str
    dtype: str
    n_rows: int
    form: str
    near_error: float
    near_within: float
    far_error: float


def regressor_accuracy(table: LatencyTable) -> list[FamilyAccuracy]:
    """The errors by cross-validation of every family that has enough rows, largest first; all are fitted for it."""
    regressor = KernelRegressor(table)
    regressor.fit()
    rows = [
        FamilyAccuracy(
            family=family, dtype=dtype, n_rows=n_rows, form=choice.form, near_error=choice.near_error,
            near_within=choice.near_within, far_error=choice.far_error,
        )
        for (family, dtype), (n_rows, choice) in regressor.choices().items()
    ]  # fmt: skip
    return sorted(rows, key=lambda row: -row.n_rows)
