"""Estimates: tables, regressors, and how far they can be trusted."""

from latency_nas.estimate.estimator import Estimate, KernelEstimate, LatencyEstimator

__all__ = ["Estimate", "KernelEstimate", "LatencyEstimator"]
