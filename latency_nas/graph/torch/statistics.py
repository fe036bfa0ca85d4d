"""Takes means, variances and the norms that compute them apart, into the ops that torch's ONNX exporter writes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor

__all__ = ["STATISTICS"]


def _spread(x: Tensor, axes: tuple[int, ...], correction: float, keepdim: bool) -> Tensor:
    """The variance over some axes."""
    centred = x - x.mean(axes, keepdim=True)
    spread: Tensor = (centred * centred).mean(axes)
    if correction:
        n = prod(x.shape[axis] for axis in axes)
        spread = spread * float(n) / float(n - correction)
    return spread.reshape(_kept(x, axes)) if keepdim else spread


def _kept(x: Tensor, axes: tuple[int, ...]) -> list[int]:
    """The sizes of a tensor after a reduction that keeps its axes."""
    return [1 if axis in axes else size for axis, size in enumerate(x.shape)]


def _mean(x: Tensor, axes: tuple[int, ...], keepdim: bool) -> Tensor:
    """The mean beside a variance, which the exporter divides itself."""
    total = x.sum(axes)
    return (total.reshape(_kept(x, axes)) if keepdim else total) / float(prod(x.shape[axis] for axis in axes))


def _statistics(root: bool, with_mean: bool) -> Callable[..., Any]:
    """A rewrite of all overloads of a variance or, with the root, of a standard deviation."""

    def rewrite(
        x: Tensor, dim: Sequence[int] | bool | None = None, unbiased: bool = True, keepdim: bool = False, *,
        correction: float | None = None,
    ) -> Any:  # fmt: skip
        if isinstance(dim, bool):
            return rewrite(x, None, dim, keepdim, correction=correction)
        axes = tuple(axis % x.dim() for axis in dim or range(x.dim()))
        spread = _spread(x, axes, int(unbiased) if correction is None else correction, keepdim)
        mean = _mean(x, axes, keepdim) if with_mean else None
        result = spread.sqrt() if root else spread
        return result if mean is None else (result, mean)

    return rewrite


def _batch_norm(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, mean: Tensor | None, variance: Tensor | None, *rest: Any
) -> tuple[Tensor, Tensor, Tensor]:
    """A norm by statistics of the batch, if the layer has none. Given ones are used, as in a deployed network."""
    *_, eps = rest
    if mean is None or variance is None:
        axes = [axis for axis in range(x.dim()) if axis != 1]
        mean = x.mean(axes)
        variance = _spread(x, tuple(axes), 0, keepdim=False)
    return torch.batch_norm(x, weight, bias, mean, variance, False, 0.0, eps, False), mean, variance


# name of an aten op -> its rewrite
STATISTICS: dict[str, Callable[..., Any]] = {
    "var": _statistics(root=False, with_mean=False),
    "std": _statistics(root=True, with_mean=False),
    "var_mean": _statistics(root=False, with_mean=True),
    "std_mean": _statistics(root=True, with_mean=True),
    "native_batch_norm": _batch_norm,
    "_native_batch_norm_legit": _batch_norm,
    "_native_batch_norm_legit.no_stats": lambda x, weight, bias, *rest: _batch_norm(x, weight, bias, None, None, *rest),
}
