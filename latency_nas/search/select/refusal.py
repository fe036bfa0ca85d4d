"""The error for budgets that no architecture keeps: it says what can be reached."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, isfinite
from statistics import NormalDist

from latency_nas.errors import SearchError
from latency_nas.search.plan.plan import CostPlan
from latency_nas.search.select.budget import Limit
from latency_nas.search.select.reach import least, most, rounded_within

__all__ = ["unreachable"]


def unreachable(limits: Sequence[Limit], plan: CostPlan) -> SearchError:
    """The error for limits that no architecture keeps together.

    Args:
        limits: Upper limits whose deviations are added, and lower ones whose deviations are subtracted.
        plan: Plan of the choices.

    Returns:
        An error that says, for each limit, the least (or most) that can be reached; and where each one can be kept
        alone, the least within the others.
    """
    if not limits:
        rows = " and ".join(map(str, plan.limits)) or "other solutions"
        return SearchError(f"Expected limits on choices that an architecture keeps together, but got {rows}.")
    alone = [_extreme(limit, ()) for limit in limits]
    apart = all(limit.min_cost <= extreme <= limit.max_cost for limit, extreme in zip(limits, alone, strict=True))
    texts = []
    for number, (limit, extreme) in enumerate(zip(limits, alone, strict=True)):
        reached = f"the {'least' if limit.max_cost < inf else 'most'} is {_figure(limit, extreme)}"
        if apart:
            within = _extreme(limit, (*limits[:number], *limits[number + 1 :]))
            reached += f", and {_figure(limit, within)} within the others" if isfinite(within) else ""
        texts.append(f"{_text(limit)} ({reached})")
    many = "budgets that an architecture keeps together" if len(limits) > 1 else "a budget that an architecture keeps"
    return SearchError(f"Expected {many}, but got {'; '.join(texts)}.")


def _extreme(limit: Limit, others: Sequence[Limit]) -> float:
    return (least if limit.max_cost < inf else most)(limit.plan, limit.n_std, others)


def _figure(limit: Limit, value: float) -> str:
    return rounded_within(limit.plan.quantity, value, upwards=limit.max_cost < inf)


def _text(limit: Limit) -> str:
    quantity = limit.plan.quantity
    side, value = ("most", limit.max_cost) if limit.max_cost < inf else ("least", limit.min_cost)
    sure = f" at a confidence of {NormalDist().cdf(abs(limit.n_std)):g}" if limit.n_std else ""
    return f"{quantity.name} of at {side} {quantity.rounded(value)} {quantity.unit}{sure}"
