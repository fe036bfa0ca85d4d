"""`Program`: the best architecture as a mixed-integer linear program.

Choose one candidate of each choice, so that the sum of scores is maximal and some sums of costs stay within limits: a
multiple-choice knapsack with several constraints. What several candidates add together is a product of their variables,
which is linear again with a variable and a few rows of its own.

References:
    Kellerer, Pferschy and Pisinger, Knapsack Problems, chapter 11 (the multiple-choice knapsack).
    Sherali and Adams, A hierarchy of relaxations between the continuous and convex hull representations for zero-one
    programming problems, SIAM Journal on Discrete Mathematics 3, 1990: products of variables of whole choices.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, chain

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_array

from latency_nas.search.plan.architecture import Architecture
from latency_nas.search.plan.cost import Group
from latency_nas.search.plan.limits import LimitRow
from latency_nas.search.plan.plan import CostPlan

__all__ = ["Factors", "Matrix", "Program"]

# groups of candidates, counted through all choices, that add something where one of each group is chosen
Factors = tuple[Group, ...]
_Row = tuple[
    Sequence[int], Sequence[float] | NDArray[np.float64], float, float
]  # variables, coefficients, lower and upper bound of the sum

_RANGE = 1e3  # of the scores and of the limits that the solver sees: its tolerances, 1e-6, are absolute
_INF = float("inf")


@dataclass(frozen=True, slots=True)
class Matrix:
    """Rows of a program: ``lower <= matrix @ variables <= upper``.

    Args:
        values: Sparse matrix of shape ``(rows, variables)``.
        lower: Lower bounds, of shape ``(rows,)``.
        upper: Upper bounds, of shape ``(rows,)``.
    """

    values: coo_array
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]


@dataclass(slots=True)
class Program:
    """A score to be maximised, and rows to be kept.

    The variables are a 0 or 1 for each candidate, and then a product for each set of candidates that add something
    together.

    Args:
        sizes: Choice -> number of its candidates.
        scores: Score of each variable.
        rows: Rows of limits. Those that choose one candidate of each choice and define the products are not among them.
        products: Factors of each product -> its variable.
    """

    sizes: dict[str, int]
    scores: list[float]
    rows: list[_Row] = field(default_factory=list)
    products: dict[Factors, int] = field(default_factory=dict)

    @classmethod
    def of(cls, sizes: Mapping[str, int], scores: Mapping[Factors, float]) -> Program:
        """The program of scores of candidates, and of those of different choices together."""
        program = cls(dict(sizes), [0.0] * sum(sizes.values()))
        for factors, score in scores.items():
            program.scores[program.variable(factors)] += score
        return program

    @property
    def n_candidates(self) -> int:
        """Number of candidates of all choices."""
        return sum(self.sizes.values())

    def starts(self) -> dict[str, int]:
        """The number of the first candidate of each choice."""
        return dict(zip(self.sizes, accumulate(self.sizes.values(), initial=0), strict=False))

    def variable(self, factors: Factors) -> int:
        """The variable that is 1 where one of each group is chosen."""
        if len(factors) == 1 and len(factors[0]) == 1:
            return factors[0][0]
        if factors not in self.products:
            self.products[factors] = len(self.scores)
            self.scores.append(0.0)
        return self.products[factors]

    def summands(self, plan: CostPlan) -> list[int]:
        """The variables of the candidates and of the terms of a plan, whose choices may be in another order."""
        starts = self.starts()
        gates = [starts[name] + number for name, names in zip(plan.choices, plan.candidates, strict=True)
                 for number in range(len(names))]  # fmt: skip
        terms = [
            self.variable(tuple(sorted({tuple([gates[index] for index in group]) for group in term.groups})))
            for term in plan.terms
        ]
        return gates + terms

    # --- rows

    def bound(self, variables: Sequence[int], slope: NDArray[np.float64], *, lower: float, upper: float) -> None:
        """Add a row: `slope` times 1 and the variables is between two bounds, of which one is finite."""
        unit = (abs(upper if upper < _INF else lower) or 1.0) / _RANGE
        self.rows.append((variables, slope[1:] / unit, (lower - slope[0]) / unit, (upper - slope[0]) / unit))

    def keep(self, limit: LimitRow) -> None:
        """Add a limit on choices."""
        starts = self.starts()
        variables = [starts[name] + index for name, weights in limit.weights for index in range(len(weights))]
        slope = np.array([0.0, *(weight for _, weights in limit.weights for weight in weights)])
        self.bound(variables, slope, lower=limit.lower, upper=limit.upper)

    def differ(self, architecture: Mapping[str, int], n_choices: int) -> None:
        """Exclude architectures that differ from one in fewer than `n_choices` choices."""
        starts = self.starts()
        chosen = [starts[name] + index for name, index in architecture.items()]
        self.rows.append((chosen, [1.0] * len(chosen), -_INF, float(len(chosen) - n_choices)))

    def choice_rows(self) -> Matrix:
        """A row for each choice: one of its candidates is chosen."""
        starts = self.starts()
        return self._matrix(
            [(range(starts[name], starts[name] + size), [1.0] * size, 1.0, 1.0) for name, size in self.sizes.items()]
        )

    def limit_rows(self) -> Matrix:
        """The rows of the limits."""
        return self._matrix(self.rows)

    def other_rows(self) -> Matrix:
        """The rows of the limits and of the products."""
        return self._matrix([*self.rows, *self._product_rows()])

    def _product_rows(self) -> Iterator[_Row]:
        """Rows that make each product 1 where one of each of its groups is chosen, and 0 elsewhere.

        Of the products of single candidates of the same choices, at most one is 1. A row may therefore have the sum of
        those that share all candidates except one, which is a tighter relaxation than a row for each product.
        """
        choice = np.repeat(np.arange(len(self.sizes)), list(self.sizes.values())).tolist()
        shared: dict[tuple[Group, int], list[int]] = defaultdict(list)
        last: dict[tuple[Group, int, Group], list[int]] = defaultdict(list)
        grouped: dict[Factors, int] = {}
        for factors, product in self.products.items():
            members = tuple(chain.from_iterable(factors))
            if len(members) > len(factors):
                grouped[factors] = product
                yield [*members, product], [1.0] * len(members) + [-1.0], -_INF, len(factors) - 1.0
                continue
            choices = tuple(choice[factor] for factor in members)
            for position, factor in enumerate(members):
                shared[choices, factor].append(product)
                last[choices, position, members[:position] + members[position + 1 :]] += (factor, product)
        for exclusive in _exclusive(grouped, choice):
            yield list(map(grouped.__getitem__, exclusive)), [1.0] * len(exclusive), -_INF, 1.0
            for group in dict.fromkeys(chain.from_iterable(exclusive)):
                within = [grouped[factors] for factors in exclusive if any(set(own) <= set(group) for own in factors)]
                yield [*within, *group], [1.0] * len(within) + [-1.0] * len(group), -_INF, 0.0
        for (_, factor), products in shared.items():
            yield [*products, factor], [1.0] * len(products) + [-1.0], -_INF, 0.0
        for (_, _, others), pairs in last.items():
            variables = [*others, *pairs]
            yield variables, [1.0] * len(others) + [1.0, -1.0] * (len(pairs) // 2), -_INF, float(len(others))

    def _matrix(self, rows: Sequence[_Row]) -> Matrix:
        row = np.repeat(np.arange(len(rows)), [len(variables) for variables, *_ in rows])
        column = np.concatenate([np.asarray(variables, np.intp) for variables, *_ in rows] or [np.zeros(0, np.intp)])
        values = np.concatenate([np.asarray(slope, np.float64) for _, slope, *_ in rows] or [np.zeros(0)])
        matrix = coo_array((values, (row, column)), shape=(len(rows), len(self.scores))).tocsr()
        return Matrix(matrix, np.array([row[2] for row in rows]), np.array([row[3] for row in rows]))

    # --- scores and architectures

    def objective(self) -> tuple[NDArray[np.float64], float]:
        """The scores in the unit that the solver works in, and that unit."""
        scores = np.array(self.scores)
        unit = float(np.ptp(scores) or 1.0) / _RANGE
        return scores / unit, unit

    def architecture(self, values: ArrayLike) -> Architecture:
        """The architecture of the variables' values: the largest one of each choice."""
        vector = np.asarray(values)
        return Architecture(
            (name, int(np.argmax(vector[start : start + self.sizes[name]]))) for name, start in self.starts().items()
        )

    def values(self, architecture: Mapping[str, int]) -> NDArray[np.float64]:
        """The variables' values of an architecture."""
        values = np.zeros(len(self.scores))
        values[[start + architecture[name] for name, start in self.starts().items()]] = 1.0
        for factors, product in self.products.items():
            values[product] = min(values[list(group)].sum() for group in factors)
        return values

    def product_values(self, chosen: NDArray[np.intp]) -> NDArray[np.float64]:
        """The products of many architectures, of shape ``(architectures, products)``.

        Args:
            chosen: Chosen candidates, counted through all choices, of shape ``(architectures, choices)``.
        """
        is_chosen = np.zeros((len(chosen), self.n_candidates), bool)
        np.put_along_axis(is_chosen, chosen, True, 1)
        columns = [
            np.logical_and.reduce([is_chosen[:, list(group)].any(1) for group in factors]) for factors in self.products
        ]
        return np.array(columns, np.float64).reshape(len(self.products), len(chosen)).T

    def score(self, architecture: Mapping[str, int]) -> float:
        """The score of an architecture."""
        return float(self.values(architecture) @ self.scores)


def _exclusive(products: Iterable[Factors], choice: Sequence[int]) -> list[list[Factors]]:
    """Sets of products of which at most one is 1, since any two of them have groups without a common candidate.

    Args:
        products: Factors of the products.
        choice: Choice of each candidate.
    """
    found: list[tuple[list[Factors], list[dict[int, int]]]] = []
    for factors in products:
        masks = {choice[group[0]]: sum(1 << index for index in group) for group in factors}
        for members, others in found:
            if all(any(mask & other.get(row, mask) == 0 for row, mask in masks.items()) for other in others):
                members.append(factors)
                others.append(masks)
                break
        else:
            found.append(([factors], [masks]))
    return [members for members, _ in found]
