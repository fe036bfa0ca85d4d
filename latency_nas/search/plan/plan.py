"""`CostPlan`: what each candidate of each choice adds to a network's cost, in plain numbers of no framework."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import fields as dataclass_fields
from functools import cached_property
from itertools import accumulate, chain
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from latency_nas.errors import SearchError, short_repr
from latency_nas.estimate.estimate import Estimate, KernelEstimate
from latency_nas.kernel import LATENCY, Quantity
from latency_nas.search.plan.architecture import check_gates, indices_of
from latency_nas.search.plan.bounds import Table, extreme_sums
from latency_nas.search.plan.cost import Cost, Term
from latency_nas.search.plan.limits import LimitRow
from latency_nas.search.plan.plan_file import read_plan, write_plan
from latency_nas.search.plan.plan_text import plan_text
from latency_nas.search.plan.products import leave_one_out
from latency_nas.search.plan.spread import Spread
from latency_nas.search.plan.terms import check_terms, group_gates, term_gates, term_tables

__all__ = ["CostPlan"]


@dataclass(frozen=True, kw_only=True)
class CostPlan:
    """The cost of a network as a sum: T = fixed + sum over choices of the chosen candidate's cost + terms of several.

    Under independent gates p the expected cost is E[T] = fixed + sum_ij p_ij t_ij (ProxylessNAS, arXiv 1812.00332,
    eq. 2), and p_i q_j t_ij more for every pair of candidates whose cost depends on both, such as an elastic kernel
    and an elastic width, or an activation that the engine folds into the convolution of the choice before.

    All numbers are in the unit of `quantity`. Names that end in ``_ms`` are for latencies: they raise `QuantityError`
    for what is not measured in milliseconds.

    Args:
        choices: Name of each choice.
        candidates: Names of each choice's candidates.
        costs: Cost t_ij of each candidate, as `candidates`.
        fixed: Cost of what does not depend on any choice.
        terms: Costs that depend on several choices.
        expected_error: Error of the table's whole networks; None where it is not known.
        quantity: Quantity that the costs are of.
        n_checked: Number of random architectures that were read anew and run the kernels that the plan prices.
        n_fitted: Number of derived networks whose kernels the plan explains; 0 where it is that of paths.
        limits: Limits on choices that architectures keep, in `bounds` as in all that searches or draws them.

    Raises:
        SearchError: if the lengths differ, a number is not finite or a term names no candidate.

    Example:
        >>> costs = (Cost(value=1.0), Cost(value=2.5))
        >>> plan = CostPlan(choices=("a",), candidates=(("3x3", "5x5"),), costs=(costs,), fixed=Cost(value=4.0))
        >>> plan.expected_ms([0.5, 0.5]), plan.latency_ms({"a": "5x5"}), plan.bounds_ms()
        (5.75, 6.5, (5.0, 6.5))
    """

    choices: tuple[str, ...]
    candidates: tuple[tuple[str, ...], ...]
    costs: tuple[tuple[Cost, ...], ...]
    fixed: Cost
    terms: tuple[Term, ...] = ()
    expected_error: float | None = None
    quantity: Quantity = LATENCY
    n_checked: int = 0
    n_fitted: int = 0
    limits: tuple[LimitRow, ...] = ()

    def __post_init__(self) -> None:
        sizes = [len(names) for names in self.candidates]
        if len(self.choices) != len(sizes) or sizes != [len(costs) for costs in self.costs]:
            raise SearchError("Expected a cost for each candidate of each choice of a plan, but the lengths differ.")
        if not np.isfinite(numbers := self.summand_costs).all():
            raise SearchError(f"Expected the costs of a plan to be finite, but got {short_repr(numbers.tolist())}.")
        check_terms(self.terms, self.offsets)

    @cached_property
    def _all_costs(self) -> tuple[Cost, ...]:
        """The cost of what is fixed, then those of candidates, then those of terms, as `summands`."""
        return (self.fixed, *chain.from_iterable(self.costs), *(term.cost for term in self.terms))

    # --- packed

    @cached_property
    def offsets(self) -> NDArray[np.intp]:
        """The index of each choice's first candidate in a flat vector of gates, and then the vector's length."""
        return np.array([0, *accumulate(map(len, self.candidates))], np.intp)

    @property
    def n_gates(self) -> int:
        """Number of candidates of all choices."""
        return sum(map(len, self.candidates))

    @cached_property
    def flat_costs(self) -> NDArray[np.float64]:
        """The costs of candidates, flat: shape ``(gates,)``."""
        return np.array([cost.value for costs in self.costs for cost in costs], np.float64)

    @cached_property
    def group_gates(self) -> NDArray[np.bool_]:
        """Which gates are in each group of several candidates that a term has, of shape ``(groups, gates)``."""
        return group_gates(self.terms, self.n_gates)

    @cached_property
    def term_gates(self) -> NDArray[np.intp]:
        """The factors of each term, of shape ``(terms, max_factors)``: gates, then groups, and at last 1 as padding."""
        return term_gates(self.terms, self.n_gates)

    @cached_property
    def term_costs(self) -> NDArray[np.float64]:
        """The cost of each term, of shape ``(terms,)``."""
        return np.array([term.cost.value for term in self.terms], np.float64)

    @cached_property
    def summand_costs(self) -> NDArray[np.float64]:
        """The costs of all summands, as in `summands`: shape ``(1 + gates + terms,)``."""
        return np.array([cost.value for cost in self._all_costs], np.float64)

    @cached_property
    def spread(self) -> Spread | None:
        """The errors of the costs; None where the table does not say them."""
        return Spread.of(self._all_costs, self.expected_error)

    # --- of gates

    def expected(self, gates: ArrayLike) -> float:
        """Expected cost E[T] of gates.

        Args:
            gates: Weight of each candidate, flat, of shape ``(gates,)``.

        Raises:
            SearchError: if their number is another one, or they are not finite.
        """
        vector = self.check_gates(gates)
        total = self.fixed.value + float(vector @ self.flat_costs)
        return total + float(self._factors(vector).prod(1) @ self.term_costs) if self.terms else total

    def gradient(self, gates: ArrayLike) -> NDArray[np.float64]:
        """Gradient dE[T]/dgates, of shape ``(gates,)``."""
        vector = self.check_gates(gates)
        gradient = self.flat_costs.copy()
        if self.terms:
            factors = self._factors(vector)
            parts = leave_one_out(factors) * self.term_costs[:, None]
            slopes = np.bincount(self.term_gates.ravel(), parts.ravel(), self.n_gates + len(self.group_gates) + 1)
            gradient += slopes[: self.n_gates] + slopes[self.n_gates : -1] @ self.group_gates
        return gradient

    def _factors(self, vector: NDArray[np.float64]) -> NDArray[np.float64]:
        factors: NDArray[np.float64] = np.concatenate([vector, self.group_gates @ vector, [1.0]])[self.term_gates]
        return factors

    def check_gates(self, gates: ArrayLike) -> NDArray[np.float64]:
        """`gates` as a vector of float64; its length and numbers are checked."""
        return check_gates(gates, self.choices, self.offsets)

    # --- of architectures

    def one_hot(self, architecture: Mapping[str, int | str]) -> NDArray[np.float64]:
        """The gates of one architecture: choice -> the index of its candidate, or its name; errors as in `cost`."""
        gates = np.zeros(self.n_gates)
        gates[self.offsets[:-1] + indices_of(architecture, self.choices, self.candidates)] = 1.0
        return gates

    def cost(self, architecture: Mapping[str, int | str]) -> float:
        """The cost of one architecture, choice -> index or name of its candidate.

        Raises:
            SearchError: if the architecture does not give each choice one of its candidates.
        """
        return self.expected(self.one_hot(architecture))

    def std(self, architecture: Mapping[str, int | str]) -> float | None:
        """One standard deviation of `cost`; None where the table says neither its error nor its kernels'.

        The same as `Estimate.std` of that architecture.
        """
        if self.spread is None:
            return None
        return float(self.spread.std(self.summands(self.one_hot(architecture))))

    def estimate(self, architecture: Mapping[str, int | str]) -> Estimate:
        """The estimate of one architecture: `cost` and `std`, kernel by kernel, ordered by choice.

        Raises:
            SearchError: if the architecture does not give each choice one of its candidates, or the plan has costs
                alone: an earlier version saved it, or `plan_of_candidates` made it.
        """
        weights = self.summands(self.one_hot(architecture))
        kernels: list[KernelEstimate] = []
        for index in np.flatnonzero(weights):
            part = self._all_costs[index].kernels
            if part is None:
                raise SearchError("Expected a plan that knows its kernels, but it has costs alone: use cost and std.")
            kernels += part
        return Estimate(kernels=tuple(kernels), expected_error=self.expected_error, quantity=self.quantity)

    def summands(self, gates: NDArray[np.float64]) -> NDArray[np.float64]:
        """The weights of all summands of a cost: 1 for what is fixed, then those of the candidates and of the terms."""
        return np.concatenate([[1.0], gates, self._factors(gates).prod(1)])

    def bounds(self) -> tuple[float, float]:
        """The cost of the cheapest and of the dearest architecture within the limits, exactly.

        Choices that share no term are bounded on their own; the others are eliminated one by one (see
        `latency_nas.search.plan.bounds`).

        Raises:
            SearchError: if too many choices depend on each other at once, or no architecture keeps the limits.
        """
        sizes = [len(names) for names in self.candidates]
        smallest, largest = extreme_sums(self.cost_tables(), sizes, self.choices, self.limits)
        return self.fixed.value + smallest, self.fixed.value + largest

    def allows(self, architecture: Mapping[str, int | str]) -> bool:
        """Whether an architecture keeps the limits on choices."""
        indices = indices_of(architecture, self.choices, self.candidates) if self.limits else ()
        return all(limit.keeps(dict(zip(self.choices, indices, strict=True))) for limit in self.limits)

    def cost_tables(self) -> list[Table]:
        """Costs, without what is fixed: an array for each choice, and one for each set of choices that share terms.

        Raises:
            SearchError: if too many choices share a term.
        """
        single = [((row,), np.array([cost.value for cost in costs])) for row, costs in enumerate(self.costs)]
        return [*single, *term_tables(self.terms, self.offsets, self.choices)]

    # --- latencies, in milliseconds

    @property
    def costs_ms(self) -> tuple[tuple[float, ...], ...]:
        """The latency of each candidate, in milliseconds."""
        self.quantity.check_latency("costs_ms", "costs")
        return tuple(tuple(cost.value for cost in costs) for costs in self.costs)

    @property
    def fixed_ms(self) -> float:
        """The latency of what does not depend on any choice, in milliseconds."""
        self.quantity.check_latency("fixed_ms", "fixed")
        return self.fixed.value

    def expected_ms(self, gates: ArrayLike) -> float:
        """`expected` of a latency, in milliseconds."""
        self.quantity.check_latency("expected_ms", "expected")
        return self.expected(gates)

    def gradient_ms(self, gates: ArrayLike) -> NDArray[np.float64]:
        """`gradient` of a latency, in milliseconds."""
        self.quantity.check_latency("gradient_ms", "gradient")
        return self.gradient(gates)

    def latency_ms(self, architecture: Mapping[str, int | str]) -> float:
        """`cost` of a latency, in milliseconds."""
        self.quantity.check_latency("latency_ms", "cost")
        return self.cost(architecture)

    def std_ms(self, architecture: Mapping[str, int | str]) -> float | None:
        """`std` of a latency, in milliseconds."""
        self.quantity.check_latency("std_ms", "std")
        return self.std(architecture)

    def bounds_ms(self) -> tuple[float, float]:
        """`bounds` of a latency, in milliseconds."""
        self.quantity.check_latency("bounds_ms", "bounds")
        return self.bounds()

    # --- as text and as a file

    def table(self) -> str:
        """The plan as text: choice, candidate, cost, ± and source, one line for each candidate."""
        return plan_text(self)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the plan as NumPy's ``.npz``: its packed arrays, and all else as one text in JSON; no pickle."""
        unit = self.quantity.suffix
        arrays: dict[str, NDArray[Any]] = {"offsets": self.offsets, f"costs_{unit}": self.flat_costs}
        arrays |= {"group_gates": self.group_gates, "term_gates": self.term_gates}
        fields = {item.name: getattr(self, item.name) for item in dataclass_fields(self)}
        write_plan(path, fields, {**arrays, f"term_costs_{unit}": self.term_costs})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> CostPlan:
        """Read what `save` wrote.

        Raises:
            SearchError: if the file is no plan.
        """
        return read_plan(path, cls)
