"""`random_within`: a random architecture within limits, each of them equally likely."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

import numpy as np

from latency_nas.search.plan.architecture import Architecture
from latency_nas.search.plan.many import Rows
from latency_nas.search.select.backward import BackwardSampler
from latency_nas.search.select.budget import Limit
from latency_nas.search.select.projection import most_probable_within
from latency_nas.search.select.reach import reach, sizes_of
from latency_nas.search.select.refusal import unreachable
from latency_nas.search.select.sampling import draw_rows
from latency_nas.search.select.within import architecture_of, within_limits

__all__ = ["random_within"]

_BATCHES = 64, 1024, 16_384  # architectures that are drawn from the whole space, one batch after the other
_MAX_PRODUCTS = 20_000_000  # terms of a plan times architectures that are looked at in one batch


def random_within(limits: Sequence[Limit], *, seed: int | None = None) -> Architecture:
    """A random architecture within limits.

    All architectures within the limits are equally likely: they are drawn from the whole space until one keeps the
    limits, and where these are so tight that none does, from the sums of the first limit's plan that keep it
    (`BackwardSampler`). Where choices depend on too many others for that, or the limits contradict each other almost
    everywhere, the solver gives the best architecture for random scores: then some are likelier than others.

    Args:
        limits: One or more upper limits, over plans of the same choices.
        seed: Seed of the random numbers; None for others each time.

    Raises:
        SearchError: if no architecture keeps the limits; the message says what can be reached.

    Example:
        >>> from latency_nas.search.plan.cost import Cost
        >>> from latency_nas.search.plan.plan import CostPlan
        >>> costs = (Cost(value=1.0), Cost(value=2.5))
        >>> plan = CostPlan(choices=("a",), candidates=(("3x3", "5x5"),), costs=(costs,), fixed=Cost(value=4.0))
        >>> random_within([Limit(plan=plan, max_cost=6.0)], seed=0)
        {'a': 0}
    """
    plan, random = limits[0].plan, np.random.default_rng(seed)
    keeps = within_limits(plan, limits)
    for n in _BATCHES:
        if n * len(plan.terms) <= _MAX_PRODUCTS:
            rows = draw_rows(plan, n, random)
            if len(kept := rows[keeps(rows)]):
                return architecture_of(plan, kept[0])
    if len(kept := (rows := _near(limits[0], random))[keeps(rows)]):
        return architecture_of(plan, kept[0])
    scores = {name: random.random(n).tolist() for name, n in sizes_of(plan).items()}
    found = most_probable_within(scores, limits)
    if found is None:
        raise unreachable(limits, plan)
    return found


def _near(limit: Limit, random: np.random.Generator) -> Rows:
    """Architectures that keep a limit, or exceed it by a rounding error; none where there are none."""
    cheapest, _ = reach(limit.plan)
    interval = limit.max_cost - cheapest
    sampler = BackwardSampler.of(limit.plan, interval) if 0 <= interval < inf else None
    if sampler is None:
        return np.zeros((0, len(limit.plan.choices)), np.intp)
    return sampler.draw(cheapest, limit.max_cost, _BATCHES[1], random)
