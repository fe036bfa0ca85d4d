"""The last step of a search under a hard budget: the likeliest architecture that keeps it.

A multiple-choice knapsack: of each choice one candidate, so that the sum of log-probabilities is the greatest while
each cost stays within its limits. It is solved exactly, as a mixed-integer linear program (HiGHS, by SciPy).

References:
    Kellerer, Pferschy and Pisinger, Knapsack Problems, chapter 11 (the multiple-choice knapsack).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import inf, sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array

from latency_nas.errors import SearchError
from latency_nas.estimate.uncertainty import MAE_TO_STD
from latency_nas.search.plan.architecture import Architecture
from latency_nas.search.plan.plan import CostPlan

__all__ = ["Budget", "likeliest", "project"]

_OPTIMAL, _INFEASIBLE = 0, 2

_NO_SPREAD = "Expected a table with an expected error, or with standard deviations, to keep a quantile of the estimate."


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """The limits of one cost of an architecture.

    Args:
        plan: what the candidates cost.
        at_most: in the plan's unit.
        at_least: in the plan's unit.
        n_std: standard deviations of the estimate that are added to it.

    Raises:
        SearchError: if they are not known.
    """

    plan: CostPlan
    at_most: float
    at_least: float = -inf
    n_std: float = 0.0

    def __post_init__(self) -> None:
        if self.n_std and self.plan.uncertain is None:
            raise SearchError(_NO_SPREAD)

    def cost(self, architecture: Mapping[str, int]) -> float:
        """What is held against the limits."""
        cost = self.plan.cost(architecture)
        return cost + self.n_std * (self.plan.std(architecture) or 0.0) if self.n_std else cost

    def keeps(self, architecture: Mapping[str, int]) -> bool:
        """Whether an architecture is within the limits, exactly."""
        return self.at_least <= self.cost(architecture) <= self.at_most


def likeliest(log_probabilities: Mapping[str, Sequence[float]], budgets: Sequence[Budget]) -> Architecture | None:
    """The architecture with the greatest sum of log-probabilities within all budgets; None if none keeps them.

    Args:
        log_probabilities: choice -> the logarithm of each candidate's probability.
        budgets: over the same choices.

    Returns:
        Choice -> the index of its candidate.
    """
    program = _Program.of(log_probabilities, budgets)
    while True:
        found = program.solve()
        if found is None or all(budget.keeps(found) for budget in budgets):
            return found
        program.exclude(found)  # within the solver's tolerance, but not within the budget


def project(log_probabilities: Mapping[str, Sequence[float]], budgets: Sequence[Budget]) -> Architecture:
    """As `likeliest`, for a search that must not end without.

    Raises:
        SearchError: if no architecture keeps the budgets.
    """
    found = likeliest(log_probabilities, budgets)
    if found is None:
        limits = " and ".join(f"up to {budget.at_most:.6g}" for budget in budgets)
        raise SearchError(f"Expected an architecture of a cost {limits}, but the supernet has none.")
    return found


@dataclass(slots=True)
class _Program:
    """Variables: one for each candidate, 0 or 1; then one for each product of candidates that a plan prices."""

    sizes: dict[str, int]
    objective: NDArray[np.float64]
    rows: list[tuple[list[int], list[float], float, float]]  # indices, coefficients, lower and upper bound

    @classmethod
    def of(cls, log_probabilities: Mapping[str, Sequence[float]], budgets: Sequence[Budget]) -> _Program:
        sizes = {name: len(values) for name, values in log_probabilities.items()}
        scores = np.concatenate([np.asarray(values, float) - max(values) for values in log_probabilities.values()])
        program = cls(sizes, -scores, [])
        for name, start in program.starts().items():
            program.rows.append((list(range(start, start + sizes[name])), [1.0] * sizes[name], 1.0, 1.0))
        for budget in budgets:
            program.limit(budget)
        return program

    def starts(self) -> dict[str, int]:
        """The index of the first candidate of each choice."""
        return dict(zip(self.sizes, accumulate(self.sizes.values(), initial=0), strict=False))

    def limit(self, budget: Budget) -> None:
        """Add the rows of a budget, in units of its upper limit."""
        plan, starts = budget.plan, self.starts()
        gates = [starts[name] + number for name, costs in zip(plan.choices, plan.costs, strict=True)
                 for number in range(len(costs))]  # fmt: skip
        products = [self._product([gates[index] for index in term.candidates]) for term in plan.terms]
        unit = abs(budget.at_most) or 1.0
        for fixed, costs, lower, upper in _limits(budget):
            values = [float(cost) / unit for cost in costs]
            self.rows.append(([*gates, *products], values, (lower - fixed) / unit, (upper - fixed) / unit))

    def _product(self, factors: list[int]) -> int:
        """A variable that is 1 where all `factors` are, and 0 elsewhere."""
        product = len(self.objective)
        self.objective = np.append(self.objective, 0.0)
        self.rows += [([product, factor], [1.0, -1.0], -inf, 0.0) for factor in factors]
        self.rows.append(([*factors, product], [1.0] * len(factors) + [-1.0], -inf, len(factors) - 1.0))
        return product

    def exclude(self, architecture: Mapping[str, int]) -> None:
        """Rule one architecture out."""
        starts = self.starts()
        chosen = [starts[name] + index for name, index in architecture.items()]
        self.rows.append((chosen, [1.0] * len(chosen), -inf, len(chosen) - 1.0))

    def solve(self) -> Architecture | None:
        """The best architecture; None if there is none."""
        n_binary, n = sum(self.sizes.values()), len(self.objective)
        row = np.repeat(np.arange(len(self.rows)), [len(indices) for indices, *_ in self.rows])
        column = np.concatenate([indices for indices, *_ in self.rows])
        values = np.concatenate([coefficients for _, coefficients, *_ in self.rows])
        matrix = coo_array((values, (row, column)), shape=(len(self.rows), n)).tocsr()
        limits = LinearConstraint(matrix, [row[2] for row in self.rows], [row[3] for row in self.rows])
        integral = np.arange(n) < n_binary
        result = milp(
            self.objective, integrality=integral, bounds=Bounds(0, 1), constraints=limits, options={"mip_rel_gap": 0.0}
        )
        if result.status == _INFEASIBLE:
            return None
        if result.status != _OPTIMAL:
            raise SearchError(f"Expected the knapsack to be solved, but the solver gave up: {result.message}")
        return Architecture(
            (name, int(np.argmax(result.x[start : start + self.sizes[name]]))) for name, start in self.starts().items()
        )


def _limits(budget: Budget) -> Iterator[tuple[float, NDArray[np.float64], float, float]]:
    """Linear limits that everything within a budget keeps: a fixed part, the costs of gates and terms, two bounds.

    A standard deviation sqrt(e^2 + v) has linear e and v. It is not below e, nor below the chord of sqrt(v), and not
    above the sum of e and a tangent of sqrt(v).
    """
    plan = budget.plan
    costs = np.concatenate([plan.flat_costs, plan.term_costs])
    if not budget.n_std:
        yield plan.fixed.value, costs, budget.at_least, budget.at_most
        return
    if plan.uncertain is None:
        raise SearchError(_NO_SPREAD)
    (fixed_table, fixed_variance), table, variance = plan.uncertain
    error = (plan.expected_error or 0.0) * MAE_TO_STD * budget.n_std
    yield plan.fixed.value + error * fixed_table, costs + error * table, -inf, budget.at_most
    gates, terms = variance[: plan.n_gates], variance[plan.n_gates :]
    begins = plan.offsets[:-1]
    low = max(0.0, fixed_variance + float(np.minimum.reduceat(gates, begins).sum() + np.minimum(terms, 0).sum()))
    high = max(0.0, fixed_variance + float(np.maximum.reduceat(gates, begins).sum() + np.maximum(terms, 0).sum()))
    if high > 0:
        slope = budget.n_std / (sqrt(high) + sqrt(low))
        begin = budget.n_std * sqrt(low) + slope * (fixed_variance - low)
        yield plan.fixed.value + begin, costs + slope * variance, -inf, budget.at_most
    if budget.at_least > -inf:
        middle = (low + high) / 2
        slope = budget.n_std / (2 * sqrt(middle)) if middle > 0 else 0.0
        begin = budget.n_std * sqrt(middle) + slope * (fixed_variance - middle)
        fixed = plan.fixed.value + error * fixed_table + begin
        yield fixed, costs + error * table + slope * variance, budget.at_least, inf
