"""`CostPlan`: what each candidate of each choice adds to a network's latency. Plain numbers, of no framework."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import fsum, isclose

import numpy as np
from numpy.typing import NDArray

from latency_nas.errors import SearchError
from latency_nas.estimate import LatencyEstimator
from latency_nas.graph import KernelCall, OpGraph, fuse

__all__ = ["CostPlan", "make_plan"]

_TOLERANCE = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class CostPlan:
    """Latency as a sum: T = fixed + sum over choices of the cost of the candidate that was chosen.

    Under independent gates p the expected latency is E[T] = fixed + sum_i sum_j p_ij t_ij (ProxylessNAS, arXiv
    1812.00332, eq. 2).

    Args:
        choices: the name of each choice.
        candidates: the names of each choice's candidates.
        costs_ms: t_ij in milliseconds, as `candidates`.
        fixed_ms: what does not depend on any choice.
    """

    choices: tuple[str, ...]
    candidates: tuple[tuple[str, ...], ...]
    costs_ms: tuple[tuple[float, ...], ...]
    fixed_ms: float

    def latency_ms(self, architecture: Mapping[str, int]) -> float:
        """The latency of one architecture, choice -> index of its candidate.

        Raises:
            SearchError: if the architecture does not give each choice one of its candidates.
        """
        if architecture.keys() != set(self.choices):
            odd = ", ".join(sorted(architecture.keys() ^ set(self.choices)))
            raise SearchError(
                f"Expected an architecture with a candidate for each choice and no more, but {odd} differ."
            )
        for name, costs in zip(self.choices, self.costs_ms, strict=True):
            if not 0 <= architecture[name] < len(costs):
                raise SearchError(
                    f"Expected a candidate of `{name}` from 0 to {len(costs) - 1}, but got {architecture[name]}."
                )
        chosen = [costs[architecture[name]] for name, costs in zip(self.choices, self.costs_ms, strict=True)]
        return fsum([self.fixed_ms, *chosen])

    def bounds_ms(self) -> tuple[float, float]:
        """The latency of the cheapest and of the dearest architecture."""
        cheapest, dearest = (fsum([self.fixed_ms, *map(pick, self.costs_ms)]) for pick in (min, max))
        return cheapest, dearest

    def padded_costs_ms(self) -> NDArray[np.float64]:
        """`costs_ms` as one array of shape ``(choices, most candidates)``, padded with zeros."""
        padded = np.zeros((len(self.choices), max(map(len, self.costs_ms))))
        for row, costs in zip(padded, self.costs_ms, strict=True):
            row[: len(costs)] = costs
        return padded


def make_plan(graph: OpGraph, candidates: Mapping[str, Sequence[str]], estimator: LatencyEstimator) -> CostPlan:
    """Price every candidate of every choice of a supernet's graph.

    Each candidate is priced in place, as the engine would fuse it there, by replacing it alone in a network of first
    candidates. The sum is then held against the estimator wherever two neighbouring choices could meet.

    Args:
        graph: a supernet's graph.
        candidates: the names of the candidates of each choice.
        estimator: prices the kernels; all that it cannot price are named in one error.

    Raises:
        MissingKernelError: if a kernel has no price.
        SearchError: if the cost of a choice depends on another choice, so that no such sum is true.
    """
    reference = dict.fromkeys(graph.choices, 0)
    variants = [(name, index) for name, size in graph.choices.items() for index in range(size)]
    engine = estimator.table.datasheet.engine
    networks = [fuse(graph.extract(reference | {name: index}), engine) for name, index in variants]
    estimator.price([call for network in networks for call in network])  # one error for all that has no price
    totals_ms = {
        variant: estimator.price(network).latency_ms for variant, network in zip(variants, networks, strict=True)
    }
    own_ms = {
        name: _own_ms(networks[variants.index((name, 0))], [name, *candidates[name]], estimator)
        for name in graph.choices
    }
    base_ms = next(iter(totals_ms.values()))  # every first candidate: the reference itself
    plan = CostPlan(
        choices=tuple(graph.choices),
        candidates=tuple(tuple(candidates[name]) for name in graph.choices),
        costs_ms=tuple(
            tuple(own_ms[name] + totals_ms[name, index] - base_ms for index in range(size))
            for name, size in graph.choices.items()
        ),
        fixed_ms=base_ms - fsum(own_ms.values()),
    )
    _check(plan, graph, estimator)
    return plan


def _own_ms(network: Sequence[KernelCall], modules: Sequence[str], estimator: LatencyEstimator) -> float:
    """What the kernels inside `modules` cost: the share of a network that is shown as a choice's, and not as fixed."""
    inside = [
        call for call in network if any(call.layer == name or call.layer.startswith(f"{name}.") for name in modules)
    ]
    return estimator.price(inside).latency_ms


def _check(plan: CostPlan, graph: OpGraph, estimator: LatencyEstimator) -> None:
    for architecture in _every_pair(graph.choices):
        true_ms = estimator.predict_graph(graph.extract(architecture)).latency_ms
        if not isclose(plan.latency_ms(architecture), true_ms, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE):
            raise SearchError(
                f"Expected the cost of each choice not to depend on the others, but the sum gives "
                f"{plan.latency_ms(architecture):.6f} ms and the network {true_ms:.6f} ms for {architecture}: the "
                f"engine fuses or copies across the border of neighbouring choices."
            )


def _every_pair(choices: Mapping[str, int]) -> Iterator[dict[str, int]]:
    """Architectures in which any two choices that follow each other meet with every pair of their candidates.

    An orthogonal array (Bush 1952): row (x, y) takes x + i y modulo a prime for choice i, so that two choices whose
    distance is no multiple of the prime see every pair once.
    """
    prime = max(choices.values(), default=1)
    while any(prime % divisor == 0 for divisor in range(2, prime)):
        prime += 1
    for x, y in product(range(prime), repeat=2):
        yield {name: (x + i * y) % prime % size for i, (name, size) in enumerate(choices.items())}
