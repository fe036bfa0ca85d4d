"""Random architectures within limits against all that keep them: each equally likely, whichever way they are drawn."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from scipy.stats import chisquare

from latency_nas.errors import SearchError
from latency_nas.search.plan.plan import CostPlan
from latency_nas.search.select import random_architecture
from latency_nas.search.select.budget import Limit
from latency_nas.search.select.random_architecture import random_within
from tests.random_plans import random_plan
from tests.supernets import all_architectures

SIZES = (4, 3, 5, 2)
N_DRAWN = 400


def kept(plan: CostPlan, limits: list[Limit]) -> list[dict[str, int]]:
    sizes = {name: len(names) for name, names in zip(plan.choices, plan.candidates, strict=True)}
    return [item for item in all_architectures(sizes) if all(limit.keeps(item) for limit in limits)]


def limits_at(share: float, *, n: int = 1, n_std: float = 0.0) -> list[Limit]:
    """Limits that about this share of the architectures keeps."""
    rng = np.random.default_rng(3)
    plans = [random_plan(rng, SIZES, n_terms=4) for _ in range(n)]
    return [
        Limit(
            plan=plan,
            max_cost=float(np.quantile([plan.cost(item) for item in kept(plan, [])], share)),
            n_std=n_std,
        )
        for plan in plans
    ]


@pytest.mark.parametrize("whole_space", [True, False])
@pytest.mark.parametrize(("n", "n_std"), [(1, 0.0), (1, 1.28), (2, 0.0)])
def test_all_within_the_limits_are_equally_likely(
    whole_space: bool, n: int, n_std: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = limits_at(0.6 if n == 2 else 0.3, n=n, n_std=n_std)
    if not whole_space:  # as where no architecture of the whole space is found within the limits
        monkeypatch.setattr(random_architecture, "_MAX_PRODUCTS", 0)
    inside = kept(limits[0].plan, limits)
    counts = Counter(tuple(random_within(limits, seed=seed).values()) for seed in range(N_DRAWN))
    every = [tuple(item.values()) for item in inside]
    assert counts.keys() <= set(every)
    assert 10 < len(every) < 100
    assert chisquare([counts[item] for item in every]).pvalue > 1e-3


def test_a_limit_that_only_one_keeps() -> None:
    [limit] = limits_at(0.0)
    assert [random_within([limit], seed=seed) for seed in range(3)] == kept(limit.plan, [limit]) * 3


def test_one_of_a_hundred_million_million_is_found() -> None:
    plan = random_plan(np.random.default_rng(0), (5,) * 24, neighbours=True)
    cheapest, dearest = plan.bounds_ms()
    limit = Limit(plan=plan, max_cost=cheapest + 0.02 * (dearest - cheapest))
    first, again, other = (random_within([limit], seed=seed) for seed in (0, 0, 1))
    assert limit.keeps(first)
    assert limit.keeps(other)
    assert first == again != other


def test_limits_that_nothing_keeps_say_what_can_be_reached() -> None:
    [limit] = limits_at(0.0)
    with pytest.raises(SearchError, match=r"Expected a budget that .* at most 1 ms \(the least is .* ms\)\."):
        random_within([Limit(plan=limit.plan, max_cost=1.0)])
