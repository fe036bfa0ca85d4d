"""Estimates of latencies from tables and regressors, with their errors.

Names are imported when first used: cost plans need only `uncertainty`, which imports no table.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from latency_nas.estimate.estimate import Estimate, KernelEstimate
    from latency_nas.estimate.estimator import LatencyEstimator

# public name -> the module that holds it
_HOMES = {
    "Estimate": "latency_nas.estimate.estimate",
    "KernelEstimate": "latency_nas.estimate.estimate",
    "LatencyEstimator": "latency_nas.estimate.estimator",
}

__all__ = ["Estimate", "KernelEstimate", "LatencyEstimator"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
