"""Cost plans of made-up spaces, with errors of every kind."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray

from latency_nas.search.plan.cost import Cost, Term
from latency_nas.search.plan.plan import CostPlan


def random_plan(
    rng: np.random.Generator, sizes: Sequence[int], n_terms: int = 0, *, n_families: int = 0, neighbours: bool = False
) -> CostPlan:
    """A plan whose costs have errors, with `n_terms` terms of two and three choices, some negative, some of groups.

    With `n_families`, a third of the costs are regressed. With `neighbours`, every pair of candidates of neighbouring
    choices has a term, too.
    """
    names = tuple(f"c{number}" for number in range(len(sizes)))
    begins = np.cumsum([0, *sizes])

    def cost(latency_ms: float) -> Cost:
        variance = float(rng.uniform(0, 0.01))
        if n_families and rng.random() < 1 / 3:
            return Cost(value=latency_ms, together=((f"family {rng.integers(n_families)}", variance**0.5),))
        return Cost(value=latency_ms, from_table=latency_ms, variance=variance)

    def term(number: int) -> Term:
        chosen = np.sort(rng.choice(len(sizes), 2 + number % 2, replace=False))
        gates = [int(begins[choice] + rng.integers(sizes[choice])) for choice in chosen]
        value = cost(float(rng.uniform(-0.5, 1.0)))
        if number % 3 == 2:
            others = range(int(begins[chosen[0]]), gates[0])
            return Term(candidates=((*others, gates[0]), *gates[1:]), cost=value)
        return Term(candidates=tuple(gates), cost=value)

    costs_ms = tuple(tuple(map(float, rng.uniform(0.1, 2.0, n))) for n in sizes)
    fixed_ms = float(rng.uniform(0, 3))
    terms = [term(number) for number in range(n_terms)]
    if neighbours:
        for choice in range(len(sizes) - 1):
            for first, second in product(range(sizes[choice]), range(sizes[choice + 1])):
                gates = (int(begins[choice]) + first, int(begins[choice + 1]) + second)
                terms.append(Term(candidates=gates, cost=cost(float(rng.uniform(-0.05, 0.3)))))
    return CostPlan(
        choices=names,
        candidates=tuple(tuple(f"{name}.{index}" for index in range(n)) for name, n in zip(names, sizes, strict=True)),
        terms=tuple(terms),
        costs=tuple(tuple(map(cost, costs)) for costs in costs_ms),
        fixed=cost(fixed_ms),
        expected_error=0.05,
    )


def drawn(plan: CostPlan, n: int, *, seed: int = 0) -> NDArray[np.uint8]:
    """Rows of random candidates, of shape ``(n, choices)``."""
    sizes = np.diff(plan.offsets)
    return np.random.default_rng(seed).integers(0, sizes, (n, len(sizes)), dtype=np.uint8)
