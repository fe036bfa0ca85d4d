"""How well the regressor of a table does, family by family, on rows that were left out of its fit."""

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

    Args:
        family: of the kernels.
        dtype: of the kernels.
        n_rows: of the table.
        form: of regression, as cross-validation chose it.
        near_error: mean absolute relative error of single rows that were left out.
        near_within: the share of these within 10 %.
        near_covered: the share of these in their 90 % interval, which rests on others.
        far_error: mean absolute relative error where all rows of a shape were left out.
        far_covered: the share of these in their 90 % interval, which rests on other shapes; each shape counts as one.
        peer_error: what `forest_of_paddleslim` errs where the same rows were left out, shape by shape; None of families
            that it has no features for.
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
    """The errors by cross-validation of every family that has enough rows, largest first; all are fitted for it.

    Args:
        table: whose regressor it is.
        cache: as `KernelRegressor` takes it.
        beside_peer: whether PaddleSlim's forest is fitted as well.
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
        np.abs(forest_of_paddleslim([kernels[i] for i in kept], latency_ms[kept], [kernels[i] for i in held])
               / latency_ms[held] - 1)
        for kept, held in left_out_folds(len(kernels), groups)
    ]  # fmt: skip
    return float(np.concatenate(errors).mean())


def forest_of_paddleslim(
    kernels: Sequence[Kernel], latency_ms: NDArray[np.float64], unseen: Sequence[Kernel]
) -> NDArray[np.float64]:
    """What a forest as PaddleSlim trains it says of kernels, in milliseconds, ``(len(unseen),)``.

    Its features, milliseconds as they are, depth 70; 100 trees rather than 300.

    Args:
        kernels: convolutions, or pools.
        latency_ms: of each of them.
        unseen: to be priced.

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
