"""`BudgetFilter`: whether architectures pass budgets, fail them or neither is sure, for many of them at once.

Let q(c) be the c-quantile of an architecture's cost, which is taken to be normal with the mean and the standard
deviation of its estimate. At a confidence c, an upper limit is passed where q(c) keeps it (as in `Budget.keeps`), and
failed where q(1 - c) breaks it; a lower limit is passed where q(1 - c) keeps it, and failed where q(c) breaks it.
Several limits are passed where each is, and failed where one is.

Sums are computed fast and coarsely. Where they lie within their error of a limit, the decision is made in float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from math import inf
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latency_nas.estimate.uncertainty import MAE_TO_STD
from latency_nas.search.plan.many import Rows, check_rows
from latency_nas.search.plan.plan import CostPlan
from latency_nas.search.select.budget import Budget
from latency_nas.search.select.row_sums import RowSums
from latency_nas.search.select.sum_tables import SumTables

__all__ = ["FAILED", "PASSED", "UNCERTAIN", "BudgetFilter"]

FAILED, UNCERTAIN, PASSED = 0, 1, 2  # of several budgets the smallest outcome counts

_ROUNDING = 2.0**-24  # largest relative rounding error of a float32
_FAR = 1e6  # far more than any quantile, in units of the largest cost
_FOLD = 32  # rows that are laid side by side to find the largest index of each column

Outcomes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetFilter:
    """Budgets over the same choices, packed for many architectures.

    Args:
        plan: Plan of the first budget, which names the choices.
        parts: The budgets of each plan.
    """

    plan: CostPlan
    parts: tuple[_PlanFilter, ...]

    @classmethod
    def of(cls, budgets: Sequence[Budget]) -> BudgetFilter:
        """Pack budgets; those of one plan share its sums."""
        by_plan: dict[int, list[Budget]] = {}
        for budget in budgets:
            by_plan.setdefault(id(budget.plan), []).append(budget)
        return cls(plan=budgets[0].plan, parts=tuple(map(_PlanFilter.of, by_plan.values())))

    def outcomes(self, rows: Rows) -> Outcomes:
        """The outcome of each architecture: `FAILED`, `UNCERTAIN` or `PASSED`, of shape ``(architectures,)``.

        Args:
            rows: Indices of candidates, of any type of integers, of shape ``(architectures, choices)``.

        Raises:
            SearchError: if the rows have another shape or type, or an index is no candidate.
        """
        _check(self.plan, rows)
        return reduce(np.minimum, [part.outcomes(rows) for part in self.parts])

    def moments(self, rows: Rows) -> list[tuple[NDArray[np.float64], NDArray[np.float64] | None]]:
        """For each plan the costs and their standard deviations, in float64, each of shape ``(architectures,)``.

        The deviations are None where no budget of the plan has a confidence.

        Raises:
            SearchError: in the cases of `outcomes`.
        """
        _check(self.plan, rows)
        return [part.moments(rows) for part in self.parts]


def _check(plan: CostPlan, rows: Rows) -> None:
    """As `check_rows`, but faster where nothing is wrong."""
    sizes = np.diff(plan.offsets)
    if not (rows.shape[1:] == sizes.shape and rows.dtype.kind in "iu" and _is_within(rows, sizes)):
        check_rows(plan, rows)


def _is_within(rows: Rows, sizes: NDArray[np.intp]) -> bool:
    if not rows.size:
        return True
    is_negative = rows.dtype.kind == "i" and bool((_fold(np.minimum, rows) < 0).any())
    return not is_negative and bool((_fold(np.maximum, rows) < sizes).all())


def _fold(extreme: np.ufunc, rows: Rows) -> NDArray[Any]:
    """The largest or the smallest number of each column."""
    n_folded = len(rows) // _FOLD * _FOLD
    if not n_folded or not rows.flags.c_contiguous:
        return np.asarray(extreme.reduce(rows, 0))
    wide = extreme.reduce(rows[:n_folded].reshape(-1, _FOLD * rows.shape[1]), 0).reshape(_FOLD, -1)
    return np.asarray(extreme.reduce(np.concatenate([wide, rows[n_folded:]]), 0))


@dataclass(frozen=True, slots=True, kw_only=True)
class _PlanFilter:
    """The budgets of one plan.

    Args:
        fast: Coarse sums of the costs, divided by a unit that keeps float32 from overflowing.
        exact: Sums of the costs in float64.
        n_variances: Number of quantities that are variances; they follow the cost, and the deviations follow them.
        fast_ranges: Limits for `fast`.
        exact_ranges: Limits for `exact`.
    """

    fast: RowSums
    exact: RowSums
    n_variances: int
    fast_ranges: tuple[_Range, ...]
    exact_ranges: tuple[_Range, ...]

    @classmethod
    def of(cls, budgets: Sequence[Budget]) -> _PlanFilter:
        plan = budgets[0].plan
        quantities, n_variances = _quantities(plan, any(budget.n_std for budget in budgets))
        tables = SumTables.of(plan, quantities)
        unit = _unit(tables, n_variances)
        scales = np.full((len(quantities), 1), unit)
        scales[1 : 1 + n_variances] = unit**2
        scaled = SumTables.of(plan, quantities / scales)
        fast = RowSums.coarse(plan, scaled)
        exact_ranges = tuple(
            _Range(n_std=budget.n_std, min_cost=budget.min_cost, max_cost=budget.max_cost) for budget in budgets
        )
        largest = np.max(np.abs(scaled.bounds()), 0)
        margins = [_margin(budget.n_std, fast.errors, largest, n_variances) for budget in budgets]
        return cls(
            fast=fast,
            exact=RowSums.exact(plan, tables),
            n_variances=n_variances,
            fast_ranges=tuple(one.rounded(unit, margin) for one, margin in zip(exact_ranges, margins, strict=True)),
            exact_ranges=exact_ranges,
        )

    def outcomes(self, rows: Rows) -> Outcomes:
        """The outcome of each row."""
        outcomes, is_near = self._compare(self.fast, rows, self.fast_ranges)
        near = np.flatnonzero(is_near)
        outcomes[near], _ = self._compare(self.exact, rows[near], self.exact_ranges)
        return outcomes

    def moments(self, rows: Rows) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
        """The cost of each row and its standard deviation."""
        mean, std = np.empty(len(rows)), np.empty(len(rows))
        for start, parts in self.exact.blocks(rows):
            found = self._std(parts)
            mean[start : start + parts.shape[1]] = parts[0]
            std[start : start + parts.shape[1]] = 0.0 if found is None else found
        return mean, None if len(self.exact.offsets) == 1 else std

    def _compare(self, sums: RowSums, rows: Rows, ranges: Sequence[_Range]) -> tuple[Outcomes, NDArray[np.bool_]]:
        """The outcome of each row, and whether it is so near to a limit that rounding may have changed it."""
        outcomes, is_near = np.full(len(rows), PASSED, np.uint8), np.zeros(len(rows), bool)
        for start, parts in sums.blocks(rows):
            block = slice(start, start + parts.shape[1])
            mean, std = parts[0], self._std(parts)
            for limits in ranges:
                limits.compare(mean, std, outcomes[block], is_near[block])
        return outcomes, is_near

    def _std(self, parts: NDArray[Any]) -> NDArray[Any] | None:
        """The standard deviation of each row's cost; None where the sums are costs alone."""
        if len(parts) == 1:
            return None
        own, deviations = parts[1 : 1 + self.n_variances], parts[1 + self.n_variances :]
        np.multiply(deviations, deviations, out=deviations)
        np.maximum(own, 0, out=own)
        return np.asarray(np.sqrt(np.add.reduce(parts[1:], 0)))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Range:
    """The limits of a budget.

    Args:
        n_std: Number of standard deviations from the mean to the quantile c; as many to the quantile 1 - c.
        min_cost: Lower limit.
        max_cost: Upper limit.
        margin: Largest error of a quantile.
    """

    n_std: float
    min_cost: float
    max_cost: float
    margin: float = 0.0

    def rounded(self, unit: float, margin: float) -> _Range:
        """The limits in another unit, for quantiles with an error."""
        min_cost, max_cost = (
            limit if abs(limit) == inf else min(max(limit / unit, -_FAR), _FAR)
            for limit in (self.min_cost, self.max_cost)
        )
        return _Range(n_std=self.n_std, min_cost=min_cost, max_cost=max_cost, margin=margin)

    def compare(
        self, mean: NDArray[Any], std: NDArray[Any] | None, outcomes: Outcomes, is_near: NDArray[np.bool_]
    ) -> None:
        """Lower `outcomes` to those of these limits, and mark in `is_near` what is within `margin` of a limit."""
        distance = std * mean.dtype.type(self.n_std) if std is not None else np.zeros_like(mean)
        for limit, sign in ((self.max_cost, 1), (self.min_cost, -1)):
            if abs(limit) == inf:
                continue
            excess = mean - limit if sign == 1 else limit - mean
            passed, failed = excess <= -distance, excess > distance
            np.minimum(outcomes, UNCERTAIN + passed.view(np.uint8) - failed.view(np.uint8), out=outcomes)
            np.abs(excess, out=excess)
            np.subtract(excess, distance, out=excess)
            np.logical_or(is_near, np.abs(excess, out=excess) <= self.margin, out=is_near)


def _quantities(plan: CostPlan, with_std: bool) -> tuple[NDArray[np.float64], int]:
    """What each summand adds to the cost, to the own variance, to the shared deviation and to those of families.

    Quantities that are 0 everywhere are left out.

    Returns:
        Numbers of shape ``(quantities, summands)``, and how many of the quantities are variances: 0 or 1.
    """
    costs = plan.summand_costs
    if not with_std or plan.spread is None:
        return costs[None], 0
    spread = plan.spread
    shared = (spread.expected_error or 0.0) * MAE_TO_STD * spread.from_table
    deviations = [part for part in (shared, *spread.together) if part.any()]
    variances = [spread.variance] if spread.variance.any() else []
    return np.array([costs, *variances, *deviations]), len(variances)


def _unit(tables: SumTables, n_variances: int) -> float:
    """A power of two that is at least as large as each cost and each deviation."""
    largest = np.max(np.abs(tables.bounds()), 0)
    largest[1 : 1 + n_variances] **= 0.5
    return float(2.0 ** np.ceil(np.log2(largest.max() or 1.0)))


def _margin(n_std: float, errors: NDArray[np.float64], largest: NDArray[np.float64], n_variances: int) -> float:
    """The largest error of a quantile that is computed from sums with errors, in float32.

    A standard deviation is a norm of its parts; it errs at most by the norm of their errors. The root of a variance
    errs at most by the root of its error.
    """
    parts, std_parts = errors[1:].copy(), largest[1:].copy()
    for values in (parts, std_parts):
        values[:n_variances] **= 0.5
    std = float(np.linalg.norm(std_parts))
    std_error = float(np.linalg.norm(parts)) + (len(parts) + 4) * _ROUNDING * std
    return float(errors[0]) + n_std * std_error + 8 * _ROUNDING * (float(largest[0]) + n_std * std)
