"""Times the distribution of a cost over all architectures, and holds it against brute force and against samples.

    python benchmarks/space_profile.py [--samples 10000000]

Prints two parts, each for an additive plan and for one with a term for each pair of candidates of neighbouring choices.
First, 7 choices of 9 candidates: the largest difference from the distribution function of all 4,782,969 architectures.
Second, 22 choices of 9 candidates: processor time, the stated bound of the error, and the distance to random
architectures at 50 quantiles, in standard errors of the samples: the root of the mean square, and the largest. Last,
the time that drawing 1,000 architectures from each of 20 intervals of the cost takes, and the share of the space in the
first of them.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[1]))

from latency_nas.search.plan.plan import CostPlan
from latency_nas.search.select.distribution import Distribution
from latency_nas.search.select.space_distribution import distribution_of
from latency_nas.search.select.stratified import stratified_architectures
from tests.random_plans import random_plan
from tests.search.select.test_distribution import all_costs

BATCH = 100_000
QUANTILES = (np.arange(50) + 0.5) / 50


def sampled_costs(plan: CostPlan, n: int, seed: int) -> NDArray[np.float64]:
    """Costs of random architectures, rising; from tables of the candidates and of the terms of neighbours."""
    random = np.random.default_rng(seed)
    sizes = np.diff(plan.offsets)
    pairs: dict[tuple[int, int], NDArray[np.float64]] = {}
    for term in plan.terms:
        first, second = np.searchsorted(plan.offsets, term.candidates, side="right") - 1
        table = pairs.setdefault((int(first), int(second)), np.zeros((sizes[first], sizes[second])))
        table[tuple(np.array(term.candidates) - plan.offsets[[first, second]])] += term.cost.value
    costs = np.full(n, plan.fixed.value)
    for begin in range(0, n, BATCH):
        batch = costs[begin : begin + BATCH]
        columns = [random.integers(0, size, len(batch)) for size in sizes]
        for number, column in enumerate(columns):
            batch += plan.flat_costs[plan.offsets[number] + column]
        for (first, second), table in pairs.items():
            batch += table[columns[first], columns[second]]
    return np.sort(costs)


def distances(found: Distribution, costs: NDArray[np.float64]) -> NDArray[np.float64]:
    """The difference of both distribution functions at the quantiles, in standard errors of the samples."""
    upto = np.array([np.searchsorted(costs, found.quantile(q), side="right") for q in QUANTILES]) / len(costs)
    expected = np.array([found.cdf(found.quantile(q)) for q in QUANTILES])
    return np.asarray((upto - expected) / np.sqrt(expected * (1 - expected) / len(costs)))


def main() -> None:
    """Print both parts."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--samples", type=int, default=10_000_000)
    n = parser.parse_args().samples
    for neighbours in (False, True):
        kind = "pairs of neighbours" if neighbours else "additive"
        plan = random_plan(np.random.default_rng(1), (9,) * 7, neighbours=neighbours)
        began = time.process_time()
        found = distribution_of(plan)
        seconds = time.process_time() - began
        costs = all_costs(plan)
        middles = (costs[1:] + costs[:-1])[::997] / 2  # between two costs, where no rounding decides
        upto = np.searchsorted(costs, middles, side="right") / len(costs)
        difference = max(abs(found.cdf(middle) - share) for middle, share in zip(middles, upto, strict=True))
        print(f"9^7 {kind}: {seconds:.2f} s, {found.method}, largest difference from brute force {difference:.1e}")
    for neighbours in (False, True):
        kind = "pairs of neighbours" if neighbours else "additive"
        plan = random_plan(np.random.default_rng(2), (9,) * 22, neighbours=neighbours)
        seconds_of = []
        for _ in range(5):
            began = time.process_time()
            found = distribution_of(plan)
            seconds_of.append(time.process_time() - began)
        far = distances(found, sampled_costs(plan, n, seed=3))
        print(
            f"9^22 {kind}: {min(seconds_of):.2f} to {max(seconds_of):.2f} s, {found.method} of {len(found.costs):,} "
            f"costs, stated error {found.cdf_error:.4%}; {n:,} samples are {np.sqrt(np.mean(far**2)):.2f} standard "
            f"errors away, {np.abs(far).max():.2f} at most"
        )
        began = time.process_time()
        sample = stratified_architectures(plan, 1000, bins=20, seed=0)
        seconds = time.process_time() - began
        share = found.share(sample.edges[0], sample.edges[1])
        print(f"    1,000 of each of 20 intervals: {seconds:.2f} s, {sample.method}; the first one has {share:.1e}")


if __name__ == "__main__":
    main()
