"""Penalties on the expected latency: what a search adds to its loss."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

__all__ = ["PENALTIES", "absolute", "hinge", "linear"]


def linear(latency_ms: Tensor, target_ms: float) -> Tensor:
    """LAT / T - 1: less is always better (ProxylessNAS's code, ``add#linear``)."""
    return latency_ms / target_ms - 1


def hinge(latency_ms: Tensor, target_ms: float) -> Tensor:
    """max(0, LAT / T - 1): nothing below the target."""
    return (latency_ms / target_ms - 1).clamp(min=0)


def absolute(latency_ms: Tensor, target_ms: float) -> Tensor:
    """abs(LAT / T - 1): the target from both sides (TuNAS, arXiv 2008.06120, with the sign of a loss)."""
    return (latency_ms / target_ms - 1).abs()


# name -> the penalty, a function of the expected latency and the target, both in milliseconds
PENALTIES: dict[str, Callable[[Tensor, float], Tensor]] = {"absolute": absolute, "hinge": hinge, "linear": linear}
