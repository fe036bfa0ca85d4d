"""Solves made-up libraries of layers' variants under two budgets, beside HiGHS alone and beside CBC.

    python -m venv runs/cbc && runs/cbc/bin/pip install pulp numpy
    python benchmarks/best.py [--instances 20] [--seconds 10] [--gap 0.001] [--peer runs/cbc/bin/python]

An instance is a library, with a latency, a memory and a score for each variant of each layer, and a budget for each of
the two costs. There are three kinds:

* uniform: all three are independent and uniform.
* correlated: variants have a size; both costs rise with it (5 % noise), and the score with its root (2 % noise). Layers
  differ in scale, as those of networks do.
* replacement: costs as before; the score is minus the loss of replacing the layer, which falls to 0 as the size rises
  (20 % noise). Scores are small beside their range, so that a share of the score is a narrow gap.

The budgets lie at 50 % (even instances) or 80 % (odd ones) of the range from the cheapest architecture to that with the
best score of all, so that both bind.

For each size and kind, over the instances: how many are proved within the gap in the time, by `best`, by HiGHS alone
(the same program, by SciPy) and by PuLP's CBC; median processor time of `best`, and that of the others as a ratio to it
(limited by `--seconds`); in how many `best` has a lower score than CBC, with the same limit of time and
without a gap; and the time of ten
solutions that differ in a tenth of the layers as a ratio to the time of one, the median and the largest. The gap is
(bound - score) / abs(score), with scores that are not shifted. Gaps and counts of proofs that need little of the time
are comparable between machines, and so are ratios; seconds are not.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array

from latency_nas.kernel import QUANTITIES
from latency_nas.search.plan.cost import Cost
from latency_nas.search.plan.plan import CostPlan
from latency_nas.search.select.best import best
from latency_nas.search.select.budget import Budget

SIZES = ((80, 16), (80, 54), (32, 100))  # layers x variants
KINDS = ("uniform", "correlated", "replacement")
N_DIVERSE = 10


class Instance(NamedTuple):
    """A library with its budgets; scores of shape ``(layers, variants)``, costs of ``(2, layers, variants)``."""

    scores: NDArray[np.float64]
    costs: NDArray[np.float64]
    limits: NDArray[np.float64]


class Outcome(NamedTuple):
    """What a solver found: its score (None: nothing), the gap that it proved, and processor time."""

    score: float | None
    gap: float
    cpu_s: float


def instance(kind: str, n_layers: int, n_variants: int, seed: int) -> Instance:
    """A random instance."""
    rng = np.random.default_rng([seed, n_layers, n_variants, KINDS.index(kind)])
    shape = (n_layers, n_variants)
    costs, scores = rng.uniform(0, 1, (2, *shape)), rng.uniform(0, 1, shape)
    if kind != "uniform":
        scale, size = rng.lognormal(0, 0.5, (n_layers, 1)), rng.uniform(0.1, 1, shape)
        costs = scale * size * rng.normal(1, 0.05, (2, *shape))
        if kind == "correlated":
            scores = scale * np.sqrt(size) * rng.normal(1, 0.02, shape)
        else:
            scores = -scale * (1 - size) ** 2 * rng.lognormal(0, 0.2, shape)
    least = costs.min(2).sum(1)
    at_best = costs[:, np.arange(n_layers), scores.argmax(1)].sum(1)
    return Instance(scores, costs, least + (0.5, 0.8)[seed % 2] * (at_best - least))


def plans_of(made: Instance) -> list[CostPlan]:
    """A plan of latency and one of memory."""
    n_layers, n_variants = made.scores.shape
    names = tuple(f"layer {number}" for number in range(n_layers))
    variants = (tuple(map(str, range(n_variants))),) * n_layers
    return [
        CostPlan(
            choices=names,
            candidates=variants,
            costs=tuple(tuple(Cost(value=float(cost)) for cost in row) for row in costs),
            fixed=Cost(value=0.0),
            quantity=QUANTITIES[quantity],
        )
        for costs, quantity in zip(made.costs, ("latency", "peak memory"), strict=True)
    ]


def ours(made: Instance, *, gap: float, seconds: float | None, k: int = 1) -> Outcome:
    """The best by this library; with `k`, the first of them and the time of all."""
    plans = plans_of(made)
    scores = dict(zip(plans[0].choices, made.scores, strict=True))
    budgets = [Budget(plan, max_cost=float(limit)) for plan, limit in zip(plans, made.limits, strict=True)]
    apart = len(scores) // 10 if k > 1 else 1
    begin = time.process_time()
    found = best(plans[0], scores, budgets, k=k, min_difference=apart, max_gap=gap, time_limit_s=seconds)
    return Outcome(found[0].score, max(each.gap for each in found), time.process_time() - begin)


def highs_alone(made: Instance, *, gap: float, seconds: float) -> Outcome:
    """The same program as it is, by SciPy."""
    scores = made.scores.ravel()
    layer = np.repeat(np.arange(len(made.scores)), made.scores.shape[1])
    one_each = csr_array((np.ones(len(scores)), (layer, np.arange(len(scores)))))
    rows = [
        LinearConstraint(one_each, 1, 1),
        LinearConstraint(made.costs.reshape(2, -1) / made.limits[:, None], -np.inf, 1),
    ]
    options = {"mip_rel_gap": gap, "time_limit": seconds}
    begin = time.process_time()
    found = milp(-scores, integrality=np.ones(len(scores)), bounds=Bounds(0, 1), constraints=rows, options=options)
    cpu_s = time.process_time() - begin
    return Outcome(None, np.inf, cpu_s) if found.x is None else Outcome(-found.fun, found.mip_gap, cpu_s)


def cbc(made: Instance, peer: Path, *, gap: float, seconds: float) -> Outcome:
    """The same program by CBC, in the environment that has PuLP."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "instance.npz"
        np.savez(path, scores=made.scores, costs=made.costs, limits=made.limits)
        command = [str(peer), str(Path(__file__).with_name("best_peer.py")), str(path), str(gap), str(seconds)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
    answer: dict[str, Any] = json.loads(done.stdout)
    return Outcome(answer["score"], answer["gap"], answer["cpu_s"])


def row(kind: str, n_layers: int, n_variants: int, args: argparse.Namespace) -> str:
    """A row of the table."""
    limits: dict[str, Any] = {"gap": args.gap, "seconds": args.seconds}
    solvers: dict[str, Callable[[Instance], Outcome]] = {
        "best": lambda made: ours(made, **limits),
        "HiGHS": lambda made: highs_alone(made, **limits),
    }
    if args.peer:
        solvers["CBC"] = lambda made: cbc(made, args.peer, **limits)
    made = [instance(kind, n_layers, n_variants, seed) for seed in range(args.instances)]
    outcomes = {name: [solve(each) for each in made] for name, solve in solvers.items()}
    times = {name: median(each.cpu_s for each in found) for name, found in outcomes.items()}
    cells = [kind, f"{n_layers} x {n_variants}"]
    for name, found in outcomes.items():
        cells.append(f"{sum(each.gap <= args.gap + 1e-9 for each in found)} of {len(found)}")
        cells.append(f"{times[name]:.2f} s" if name == "best" else f"{times[name] / times['best']:.1f}")
    cells.append(f"{max(each.gap for each in outcomes['best']):.1e}")
    if args.peer:
        pairs = zip(made, outcomes["best"], outcomes["CBC"], strict=True)
        cells.append(str(sum(is_worse(*each, args.seconds) for each in pairs)))
    cells.append(
        diverse([(each, found) for each, found in zip(made, outcomes["best"], strict=True)][: args.diverse], args)
    )
    return "| " + " | ".join(cells) + " |"


def is_worse(made: Instance, own: Outcome, other: Outcome, seconds: float) -> bool:
    """Whether `best` has a lower score than CBC: where it stopped at the gap, it goes on for the rest of the time."""
    if other.score is None or (own.score is not None and own.score >= other.score - 1e-9 * abs(other.score)):
        return False
    again = ours(made, gap=0.0, seconds=seconds)
    return again.score is None or again.score < other.score - 1e-9 * abs(other.score)


def diverse(made: list[tuple[Instance, Outcome]], args: argparse.Namespace) -> str:
    """Time of ten diverse solutions over the time of one."""
    ratios = [ours(each, gap=args.gap, seconds=None, k=N_DIVERSE).cpu_s / found.cpu_s for each, found in made]
    return f"{median(ratios):.1f}, {max(ratios):.1f}" if ratios else "-"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--instances", type=int, default=20, help="number of each size and kind")
    parser.add_argument("--diverse", type=int, default=4, help="number of them for which ten solutions are found")
    parser.add_argument("--seconds", type=float, default=10.0, help="time limit of each solver")
    parser.add_argument("--gap", type=float, default=1e-3, help="gap to be proved, as a share of the score")
    parser.add_argument("--peer", type=Path, help="Python of an environment with PuLP; without it CBC is left out")
    args = parser.parse_args()
    peer = ["CBC proves", "CBC / best"] if args.peer else []
    worse = ["lower score than CBC"] if args.peer else []
    head = ["kind", "size", "best proves", "best", "HiGHS proves", "HiGHS / best", *peer, "largest gap", *worse,
            "ten diverse / one"]  # fmt: skip
    print("| " + " | ".join(head) + " |\n|" + " --- |" * len(head), flush=True)
    for kind in KINDS:
        for n_layers, n_variants in SIZES:
            print(row(kind, n_layers, n_variants, args), flush=True)


if __name__ == "__main__":
    main()
