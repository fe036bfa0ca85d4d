"""Takes activations apart that ONNX lacks, into the ops that torch's exporter writes for them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

__all__ = ["ACTIVATIONS"]


def _softplus(x: Tensor, beta: float = 1, threshold: float = 20) -> Any:
    """A softplus that is the identity from a threshold on."""
    if threshold == math.inf:
        return NotImplemented
    scaled = x if beta == 1 else x * beta
    soft = torch.nn.functional.softplus(scaled, 1, math.inf)
    return torch.where(scaled > threshold, x, soft if beta == 1 else soft / beta)


def _soft_shrink(x: Tensor, bound: float = 0.5) -> Tensor:
    is_large = x.abs() > bound
    return torch.where(is_large, x - x.sign() * bound, x * 0.0)


# name of an aten op -> its rewrite
ACTIVATIONS: dict[str, Callable[..., Any]] = {
    "softplus": _softplus,
    "log_sigmoid": lambda x: x.sigmoid().log(),
    "threshold": lambda x, bound, value: torch.where(x <= bound, value, x),
    "hardshrink": lambda x, bound=0.5: torch.where(x.abs() <= bound, 0.0, x),
    "softshrink": _soft_shrink,
}
