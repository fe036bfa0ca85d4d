"""Measuring networks and their kernels with a real engine."""

from latency_nas.measure.meter import Drift, NetworkTimes, measure_networks, measure_table
from latency_nas.measure.plan import covering_architectures, random_architectures

__all__ = [
    "Drift",
    "NetworkTimes",
    "covering_architectures",
    "measure_networks",
    "measure_table",
    "random_architectures",
]
