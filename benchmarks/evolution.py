"""Prints how near to the optimum evolutions end that know nothing of the accuracy but its values.

    python benchmarks/evolution.py [--seeds 20] [--evaluations 20000] [--sizes 22x9,12x5]

The accuracy is additive: a score of each candidate, uniform from 0 to 1, or correlated with its cost, as those of
larger blocks are (half the cost + uniform from 0 to 0.2; the costs are uniform from 0.1 to 2). The budget is a share of
the range from the cheapest to the dearest architecture. The optimum is proved by `best` within `--seconds`; where time
runs out, its upper bound takes its place. Distances are shares of the optimum's score. Each seed has a space of its
own. `random` is random search: the best of as many architectures, drawn uniformly from those within the budget; where
one draw in a thousand or fewer keeps it, nothing is printed.
"""

from __future__ import annotations

import argparse
import time
from itertools import product

import numpy as np
from numpy.typing import NDArray

from latency_nas.search.plan.cost import Cost
from latency_nas.search.plan.plan import CostPlan
from latency_nas.search.select.best import best
from latency_nas.search.select.budget import Budget
from latency_nas.search.select.evolution import evolve
from latency_nas.search.select.within import within

Scores = NDArray[np.float64]  # of shape (choices, candidates)


def space(n_choices: int, n_candidates: int, correlated: bool, seed: int) -> tuple[CostPlan, Scores]:
    """A plan, and the scores of its candidates."""
    rng = np.random.default_rng([seed, n_choices, n_candidates, correlated])
    costs = rng.uniform(0.1, 2, (n_choices, n_candidates))
    scores = costs / 2 + rng.uniform(0, 0.2, costs.shape) if correlated else rng.uniform(0, 1, costs.shape)
    plan = CostPlan(
        choices=tuple(f"choice{number}" for number in range(n_choices)),
        candidates=(tuple(map(str, range(n_candidates))),) * n_choices,
        costs=tuple(tuple(Cost(value=cost) for cost in row) for row in costs.tolist()),
        fixed=Cost(value=0.0),
    )
    return plan, scores


def random_search(plan: CostPlan, scores: Scores, budget: Budget, n: int, seed: int) -> float | None:
    """The best score of `n` random architectures within the budget; None where too few keep it."""
    rng, keeps = np.random.default_rng(seed), within(plan, [budget])
    found: list[NDArray[np.float64]] = []
    for _ in range(1000):
        rows = rng.integers(0, scores.shape[1], (n, len(scores)))
        rows = rows[keeps(rows)]
        found.append(scores[np.arange(len(scores)), rows].sum(1))
        if sum(map(len, found)) >= n:
            return float(np.concatenate(found)[:n].max())
    return None


def distances(
    size: tuple[int, int], correlated: bool, share: float, seed: int, n: int, seconds: float
) -> tuple[float, float | None, float, bool]:
    """The distances of evolution and of random search, seconds of evolution, and whether the optimum was proved."""
    plan, scores = space(*size, correlated, seed)
    cheapest, dearest = plan.bounds()
    budget = Budget(plan, max_cost=cheapest + share * (dearest - cheapest))
    by_choice = dict(zip(plan.choices, scores.tolist(), strict=True))
    [optimum] = best(plan, by_choice, budget, time_limit_s=seconds)
    begin = time.process_time()
    found = evolve(
        plan,
        lambda one: sum(by_choice[name][index] for name, index in one.items()),
        budget,
        n_evaluations=n,
        seed=seed,
    )
    taken = time.process_time() - begin
    if not budget.keeps(found.best) or found.accuracy > optimum.bound + 1e-9:
        raise AssertionError("Evolution exceeded the budget, or the proved optimum.")
    by_chance = random_search(plan, scores, budget, n, seed)
    random_distance = None if by_chance is None else 1 - by_chance / optimum.bound
    return max(0.0, 1 - found.accuracy / optimum.bound), random_distance, taken, optimum.gap == 0


def main() -> None:
    """Print a line for each size, kind of scores and budget."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--evaluations", type=int, default=20_000)
    parser.add_argument("--sizes", default="22x9,12x5,40x9,80x16")
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args()
    print("size, scores, budget: within 1 %; worst, mean distance; random search; processor time; proved optima")
    for text, correlated, share in product(options.sizes.split(","), (False, True), (0.5, 0.8)):
        n_choices, n_candidates = map(int, text.split("x"))
        rows = [
            distances((n_choices, n_candidates), correlated, share, seed, options.evaluations, options.seconds)
            for seed in range(options.seeds)
        ]
        found = [row[0] for row in rows]
        by_chance = [row[1] for row in rows if row[1] is not None]
        print(
            f"{text}, {'correlated' if correlated else 'uniform'}, {share:.0%}: "
            f"{sum(distance <= 0.01 for distance in found)} of {len(found)}; "
            f"{max(found):.2%}, {np.mean(found):.2%}; {f'{np.mean(by_chance):.1%}' if by_chance else '-'}; "
            f"{np.mean([row[2] for row in rows]):.1f} s; {sum(row[3] for row in rows)}",
            flush=True,
        )


if __name__ == "__main__":
    main()
