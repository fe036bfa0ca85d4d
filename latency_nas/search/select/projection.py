"""The last step of a search under a hard budget: the most probable architecture that keeps it.

This is a multiple-choice knapsack: choose one candidate of each choice, so that the sum of log-probabilities is maximal
and each cost stays within its limits. It is solved exactly, as a mixed-integer linear program (HiGHS, by SciPy). The
limit of a quantile is not linear; it is approximated by tangents, which are added until the solution keeps it.

References:
    Kellerer, Pferschy and Pisinger, Knapsack Problems, chapter 11 (the multiple-choice knapsack).
    Kelley, The cutting-plane method for solving convex programs, Journal of the SIAM 8, 1960.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from math import inf

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array

from latency_nas.errors import SearchError
from latency_nas.estimate.uncertainty import MAE_TO_STD
from latency_nas.search.plan.architecture import Architecture
from latency_nas.search.plan.plan import CostPlan
from latency_nas.search.plan.spread import Spread
from latency_nas.search.select.budget import Limit

__all__ = ["most_probable_within", "project"]

_OPTIMAL, _INFEASIBLE = 0, 2  # SciPy's codes


def most_probable_within(
    log_probabilities: Mapping[str, Sequence[float]], budgets: Sequence[Limit]
) -> Architecture | None:
    """The architecture with the largest sum of log-probabilities within all budgets; None if none keeps them.

    Args:
        log_probabilities: Choice -> the logarithm of each candidate's probability.
        budgets: Budgets over the same choices.

    Returns:
        Choice -> the index of its candidate.
    """
    program = _Program.of(log_probabilities, budgets)
    while True:
        found = program.solve()
        if found is None or all(budget.keeps(found) for budget in budgets):
            return found
        for budget in budgets:
            if budget.n_std and budget.cost(found) > budget.max_cost:
                program.limit_at(budget, found)
        program.exclude(found)  # the solver, with its tolerance, may still take it for one that keeps the budgets


def project(log_probabilities: Mapping[str, Sequence[float]], budgets: Sequence[Limit]) -> Architecture:
    """As `most_probable_within`, but raise an error if no architecture keeps the budgets.

    Raises:
        SearchError: if no architecture keeps the budgets.

    Example:
        >>> from latency_nas.search.plan.cost import Cost
        >>> costs = (Cost(value=1.0), Cost(value=2.5))
        >>> plan = CostPlan(choices=("a",), candidates=(("3x3", "5x5"),), costs=(costs,), fixed=Cost(value=4.0))
        >>> project({"a": [-2.3, -0.1]}, [Limit(plan=plan, max_cost=6.0)])
        {'a': 0}
    """
    found = most_probable_within(log_probabilities, budgets)
    if found is None:
        limits = " and ".join(f"up to {budget.max_cost:.6g}" for budget in budgets)
        raise SearchError(f"Expected an architecture of a cost {limits}, but the supernet has none.")
    return found


@dataclass(slots=True)
class _Program:
    """A mixed-integer linear program.

    It has a variable for each candidate, 0 or 1, and then one for each term of a plan: the product of its candidates.
    """

    sizes: dict[str, int]
    objective: NDArray[np.float64]
    rows: list[tuple[list[int], list[float], float, float]]  # indices, coefficients, lower and upper bound
    summands: dict[int, list[int]] = field(
        default_factory=dict
    )  # id of a plan -> variables of its candidates and terms

    @classmethod
    def of(cls, log_probabilities: Mapping[str, Sequence[float]], budgets: Sequence[Limit]) -> _Program:
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

    def limit(self, budget: Limit) -> None:
        """Add the rows of a budget, in units of its upper limit."""
        plan, starts = budget.plan, self.starts()
        gates = [starts[name] + number for name, costs in zip(plan.choices, plan.costs, strict=True)
                 for number in range(len(costs))]  # fmt: skip
        self.summands[id(plan)] = [*gates, *(self._product([gates[index] for index in term.candidates])
                                             for term in plan.terms)]  # fmt: skip
        for slope, lower, upper in _limits(budget):
            self._bound(budget, slope, lower, upper)

    def limit_at(self, budget: Limit, architecture: Mapping[str, int]) -> None:
        """Add a tangent of the limit of a quantile that is exact at an architecture (a cut, Kelley 1960)."""
        plan = budget.plan
        if plan.spread is not None:
            tangent = plan.spread.support(plan.summands(plan.one_hot(architecture)))
            self._bound(budget, _costs(plan) + budget.n_std * tangent, -inf, budget.max_cost)

    def _bound(self, budget: Limit, slope: NDArray[np.float64], lower: float, upper: float) -> None:
        """Add a row: `slope` times what is fixed, the candidates and the terms is between two bounds."""
        unit = abs(budget.max_cost) or 1.0
        limits = ((lower - slope[0]) / unit, (upper - slope[0]) / unit)
        self.rows.append((self.summands[id(budget.plan)], (slope[1:] / unit).tolist(), *limits))

    def _product(self, factors: list[int]) -> int:
        """A variable that is 1 where all `factors` are, and 0 elsewhere."""
        product = len(self.objective)
        self.objective = np.append(self.objective, 0.0)
        self.rows += [([product, factor], [1.0, -1.0], -inf, 0.0) for factor in factors]
        self.rows.append(([*factors, product], [1.0] * len(factors) + [-1.0], -inf, len(factors) - 1.0))
        return product

    def exclude(self, architecture: Mapping[str, int]) -> None:
        """Exclude one architecture."""
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


def _costs(plan: CostPlan) -> NDArray[np.float64]:
    """The costs of what is fixed, of the candidates and of the terms."""
    return np.concatenate([[plan.fixed.value], plan.flat_costs, plan.term_costs])


def _limits(budget: Limit) -> Iterator[tuple[NDArray[np.float64], float, float]]:
    """Linear limits that every architecture within a budget keeps.

    A standard deviation is not below its tangents (`Spread.support`), and not above the sum of its parts.

    Yields:
        Coefficients of what is fixed, of the candidates and of the terms; the lower and the upper bound of the sum.
    """
    plan, costs = budget.plan, _costs(budget.plan)
    if not budget.n_std:
        yield costs, budget.min_cost, budget.max_cost
        return
    if plan.spread is None:
        return
    uniform = plan.summands(np.repeat(1 / np.diff(plan.offsets), np.diff(plan.offsets)))
    yield costs + budget.n_std * plan.spread.support(uniform), -inf, budget.max_cost
    if budget.min_cost > -inf:
        yield costs + budget.n_std * _std_upper_bound(plan.spread, uniform), budget.min_cost, inf


def _std_upper_bound(spread: Spread, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """A linear upper bound of the standard deviation.

    The root of a sum of squares is at most the sum of the roots: those of the table's shared error, of the families and
    of the own variances. The last one is concave in the weights, so that its tangent at `weights` bounds it.
    """
    shared = (spread.expected_error or 0.0) * MAE_TO_STD * spread.from_table
    slope: NDArray[np.float64] = shared + spread.together.sum(0)
    variance = float(spread.variance @ weights)
    if variance > 0:
        slope = slope + spread.variance / (2 * variance**0.5)
        slope[0] += variance**0.5 / 2  # what is fixed has the weight 1: this is the tangent's constant
    return slope
