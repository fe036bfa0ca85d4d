"""Accuracy of a table's regressor, family by family, on rows that were left out of its fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestRegressor

from latency_nas.estimate.regressor.fitted_family import shape_of
from latency_nas.estimate.regressor.regressor import KernelRegressor
from latency_nas.estimate.regressor.selecting import left_out_folds
from latency_nas.kernel import Kernel
from latency_nas.table import LatencyTable

__all__ = ["FamilyAccuracy", "forest_of_paddleslim", "regressor_accuracy"]

_PEERS = ("conv2d", "depthwise_conv2d", "pool2d")


@dataclass(frozen=True, slots=True, kw_only=True)
class FamilyAccuracy:
    """The regressor's errors on one family of a table's kernels.

    "Near" rows were left out one by one, so that the table still had rows of their shape; "far" rows were left out with
    all rows of their shape.

    Args:
        family: Family of the kernels.
        dtype: Type of the kernels' numbers.
        n_rows: Number of the family's rows in the table.
        form: Form of regression that cross-validation chose.
        near_error: Mean absolute relative error of near rows.
        near_within: Share of near rows within 10 %.
        near_covered: Share of near rows in their 90 % interval, which was computed from other rows.
        far_error: Mean absolute relative error of far rows.
        far_covered: Share of far rows in their 90 % interval, which was computed from other shapes; each shape has the
            same weight.
        peer_error: Error of `forest_of_paddleslim` on the same far rows; None for families that it has no features for.
    """

    family: str
    dtype: str
    n_rows: int
    form: str
    near_error: float
    near_within: float
    near_covered: float
    far_error: float
    far_covered: float
    peer_error: float | None = None


def regressor_accuracy(
    table: LatencyTable, *, cache: Path | None = None, beside_peer: bool = False
) -> list[FamilyAccuracy]:
    """Fit every family that has enough rows, and return its errors by cross-validation, largest family first.

    Args:
        table: Table that the regressor is fitted to.
        cache: Folder for fitted families, as `KernelRegressor` takes it.
        beside_peer: Whether PaddleSlim's forest is fitted as well.
    """
    regressor = KernelRegressor(table, cache=cache)
    regressor.fit()
    rows = [
        FamilyAccuracy(
            family=family, dtype=dtype, n_rows=n_rows, form=selection.form, near_error=selection.near_error,
            near_within=selection.near_within, near_covered=selection.near_covered, far_error=selection.far_error,
            far_covered=selection.far_covered,
            peer_error=_peer_error(table, family, dtype) if beside_peer and family in _PEERS else None,
        )
        for (family, dtype), (n_rows, selection) in regressor.selections().items()
    ]  # fmt: skip
    return sorted(rows, key=lambda row: -row.n_rows)


def _peer_error(table: LatencyTable, family: str, dtype: str) -> float:
    rows = {k: entry.latency_ms for k, entry in table.items() if (k.family, k.dtype) == (family, dtype)}
    kernels, latency_ms = list(rows), np.array(list(rows.values()))
    groups = np.unique([shape_of(kernel) for kernel in kernels], return_inverse=True)[1]
    errors = [
        np.abs(forest_of_paddleslim([kernels[i] for i in kept], latency_ms[kept], [kernels[i] for i in left_out])
               / latency_ms[left_out] - 1)
        for kept, left_out in left_out_folds(len(kernels), groups)
    ]  # fmt: skip
    return float(np.concatenate(errors).mean())


def forest_of_paddleslim(
    kernels: Sequence[Kernel], latency_ms: NDArray[np.float64], unseen: Sequence[Kernel]
) -> NDArray[np.float64]:
    """Predictions of a forest as PaddleSlim trains it, in milliseconds, ``(len(unseen),)``.

    It has PaddleSlim's features, a target in milliseconds without a logarithm, and depth 70, but 100 trees, not 300.

    Args:
        kernels: Convolutions, or pools.
        latency_ms: Latency of each of them.
        unseen: Kernels to be priced.

    References:
        PaddleSlim, pull request 1054, demo/analysis/train_predictor.
    """
    forest = RandomForestRegressor(100, max_depth=70, max_features=0.9, n_jobs=2, random_state=10)
    fitted = forest.fit([_columns(kernel) for kernel in kernels], latency_ms)
    return np.asarray(fitted.predict([_columns(kernel) for kernel in unseen]))


def _columns(kernel: Kernel) -> list[float]:
    (batch, c_in, *source), (_, c_out, *target) = kernel.inputs[0], kernel.outputs[0]
    attrs = kernel.attributes
    kernel_size, *rest = (float(attrs[name][0]) for name in ("kernel", "stride", "pad"))  # type: ignore[index]
    if kernel.op == "pool2d":
        kernel_size = source[0] if attrs.get("global") else kernel_size
        return [batch, c_in, kernel_size, *rest, prod(source), prod(target), attrs["type"] == "avg"]
    return [batch, c_in, c_out, kernel_size, *rest, float(str(attrs["group"])), prod(source), prod(target)]
