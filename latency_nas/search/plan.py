"""`CostPlan`: what each candidate of each choice adds to a network's latency. Plain numbers, of no framework."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import fsum, isclose

import numpy as np
from numpy.typing import NDArray

from latency_nas.errors import SearchError
from latency_nas.estimate import LatencyEstimator
from latency_nas.graph import KernelCall, OpGraph, fuse
from latency_nas.kernel import Kernel

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
    engine = estimator.table.datasheet.engine
    reference = dict.fromkeys(graph.choices, 0)
    variants = {(name, index): reference | {name: index} for name, n in graph.choices.items() for index in range(1, n)}
    checked = list(_every_pair(graph.choices))
    base, *others = (fuse(graph.extract(network), engine) for network in (reference, *variants.values(), *checked))
    prices_ms = _prices_ms([base, *others], estimator)

    def total_ms(calls: Iterable[KernelCall]) -> float:
        return fsum(prices_ms[call.kernel] for call in calls)

    own_ms = {name: total_ms(_inside(base, [name, *candidates[name]])) for name in graph.choices}
    added_ms = {variant: total_ms(calls) - total_ms(base) for variant, calls in zip(variants, others, strict=False)}
    plan = CostPlan(
        choices=tuple(graph.choices),
        candidates=tuple(tuple(candidates[name]) for name in graph.choices),
        costs_ms=tuple(
            tuple(own_ms[name] + added_ms.get((name, index), 0.0) for index in range(n))
            for name, n in graph.choices.items()
        ),
        fixed_ms=total_ms(base) - fsum(own_ms.values()),
    )
    for architecture, calls in zip(checked, others[len(variants) :], strict=True):
        _check(plan, architecture, total_ms(calls))
    return plan


def _prices_ms(networks: Iterable[Sequence[KernelCall]], estimator: LatencyEstimator) -> dict[Kernel, float]:
    """Every kernel priced once, so that all that has no price stands in one error or one warning."""
    distinct = {call.kernel: call for calls in networks for call in calls}
    return {item.kernel: item.latency_ms for item in estimator.price(list(distinct.values())).kernels}


def _inside(calls: Iterable[KernelCall], modules: Sequence[str]) -> list[KernelCall]:
    """The kernels inside `modules`: the share of a network that is shown as a choice's, and not as fixed."""
    return [call for call in calls if any(f"{call.layer}.".startswith(f"{name}.") for name in modules)]


def _check(plan: CostPlan, architecture: Mapping[str, int], true_ms: float) -> None:
    sum_ms = plan.latency_ms(architecture)
    if not isclose(sum_ms, true_ms, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE):
        raise SearchError(
            f"Expected the cost of each choice not to depend on the others, but the sum gives {sum_ms:.6f} ms and the "
            f"network {true_ms:.6f} ms for {architecture}: the engine fuses or copies across the border of "
            f"neighbouring choices."
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
