"""Random architectures of a plan, drawn independently, and their costs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latency_nas.errors import SearchError
from latency_nas.search.plan.limited import Limited
from latency_nas.search.plan.many import Rows
from latency_nas.search.plan.plan import CostPlan
from latency_nas.search.select.row_sums import RowSums
from latency_nas.search.select.sum_tables import SumTables

__all__ = ["draw_rows", "sample_architectures", "sampled_costs"]

_BATCH = 65_536  # architectures


def sample_architectures(plan: CostPlan, n: int, *, seed: int) -> Rows:
    """`n` random architectures, independent of each other, each equally likely of those that keep the plan's limits.

    Args:
        plan: Plan whose choices and candidates are drawn.
        n: Number of architectures.
        seed: Seed of the random numbers.

    Returns:
        Indices of candidates, of the smallest unsigned integers that hold them, of shape ``(n, choices)``.

    Raises:
        SearchError: if `n` is negative.

    Example:
        >>> from latency_nas.search.plan.cost import Cost
        >>> costs = (Cost(value=1.0), Cost(value=2.5))
        >>> plan = CostPlan(choices=("a",), candidates=(("3x3", "5x5"),), costs=(costs,), fixed=Cost(value=4.0))
        >>> rows = sample_architectures(plan, 1000, seed=0)
        >>> rows.shape, rows.dtype, bool(400 < rows.sum() < 600)
        ((1000, 1), dtype('uint8'), True)
    """
    if n < 0:
        raise SearchError(f"Expected the number of architectures to be 0 or more, but got {n}.")
    dtype = np.min_scalar_type(max(map(len, plan.candidates)) - 1)
    return draw_rows(plan, n, np.random.default_rng(seed), dtype)


def draw_rows(plan: CostPlan, n: int, random: np.random.Generator, dtype: Any = np.int64) -> Rows:
    """As `sample_architectures`, from a generator."""
    sizes = np.diff(plan.offsets)
    if plan.limits:
        return Limited(dict(zip(plan.choices, sizes.tolist(), strict=True)), plan.limits).draw(n, random).astype(dtype)
    return random.integers(0, sizes, (n, len(sizes)), dtype=dtype)


def sampled_costs(plan: CostPlan, weights: Sequence[NDArray[np.float64]], n: int, *, seed: int) -> NDArray[np.float64]:
    """The costs of `n` random architectures, of shape ``(n,)``.

    Args:
        plan: Plan that says what the candidates cost.
        weights: Probabilities of each choice's candidates.
        n: Number of architectures.
        seed: Seed of the random numbers.
    """
    random = np.random.default_rng(seed)
    sums = RowSums.exact(plan, SumTables.of(plan, plan.summand_costs[None]))
    costs = np.empty(n)
    for begin in range(0, n, _BATCH):
        n_rows = min(_BATCH, n - begin)
        rows = np.column_stack([_drawn(random, part, n_rows) for part in weights])
        for start, (of_block,) in sums.blocks(rows):
            costs[begin + start : begin + start + len(of_block)] = of_block
    return costs


def _drawn(random: np.random.Generator, weights: NDArray[np.float64], n: int) -> NDArray[np.intp]:
    if (weights == weights[0]).all():
        return random.integers(0, len(weights), n)
    return random.choice(len(weights), n, p=weights)
