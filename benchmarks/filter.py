"""Candidates a second that `filter_by_budget` decides, its memory, and its ratio to OFA's latency table.

    python benchmarks/filter.py [memory] [disk] [flat] [equality] [peers] [--rows 4000000] [--ofa-python PYTHON]

Without a part's name it runs all. Spaces have 22 choices of 9 candidates; the plans have all kinds of errors (a shared
one, own variances, three families of regressed kernels), and each filter gives the three-way outcome at a confidence of
0.9. Times are of 11 runs: the fastest and the median of wall time, and of processor time, which other work on the
machine disturbs less.

- `memory`: uint8 rows in memory, by an additive plan, and by one with a term for each pair of candidates of neighbours.
- `disk`: the same rows from a Parquet file, counted, and written to a second file.
- `flat`: peak memory of a process that filters 100 million rows from file to file, and of one that only imports.
- `equality`: 1,000 architectures of a supernet of MobileNetV3's size: the largest relative difference from
  `CostPlan.estimate`, and from `LatencyEstimator` on their extracted graphs.
- `peers`: OFA's `ProxylessNASLatencyTable` (PyPI `ofa`) in an environment of its own, fed with an equal table, and a
  loop over `LatencyLoss.price`, in alternation with the filter in one thread: ratios of processor time. OFA's table
  gives a mean without an error. The environment needs ofa, PyYAML and torch; shims that `filter_peer.py` uses are
  listed.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1]))

from mobilenet import CandidateNet

from latency_nas import CostPlan, LatencyEstimator, LatencyLoss, read_supernet
from latency_nas.search.select.budget import Budget
from latency_nas.search.select.candidates_file import write_candidates
from latency_nas.search.select.filter import filter_by_budget
from latency_nas.search.select.outcome import BudgetFilter
from latency_nas.search.select.sampling import sample_architectures
from tests.random_plans import random_plan

HERE = Path(__file__).parent
SIZES = (9,) * 22
N_RUNS = 11
GROUP = 1 << 20
FLAT_ROWS = 100_000_000


def plan_of(*, neighbours: bool) -> CostPlan:
    """A plan with errors of every kind."""
    return random_plan(np.random.default_rng(0), SIZES, n_families=3, neighbours=neighbours)


def limit_of(plan: CostPlan) -> float:
    """The median cost: where most candidates are near to the limit."""
    return float(
        np.median(BudgetFilter.of([Budget(plan, 1.0)]).moments(sample_architectures(plan, 10_000, seed=9))[0][0])
    )


def report(label: str, n: int, run: Callable[[], object]) -> None:
    """Print the candidates a second of a function that filters `n`."""
    walls, processors = [], []
    for _ in range(N_RUNS):
        wall, processor = time.perf_counter(), time.process_time()
        found = run()
        walls.append(time.perf_counter() - wall)
        processors.append(time.process_time() - processor)
    wall, processor, usual = min(walls), min(processors), median(processors)
    print(f"{label}: {n / wall / 1e6:.1f} million a second ({n / median(walls) / 1e6:.1f} in the median)")
    print(f"    {processor / n * 1e9:.0f} ns of processor time each ({usual / n * 1e9:.0f} in the median): "
          f"{2 * n / processor / 1e6:.1f} ({2 * n / usual / 1e6:.1f}) million a second on two free cores")  # fmt: skip
    print("   ", str(found).splitlines()[0], flush=True)


def memory(options: argparse.Namespace) -> None:
    """Rows in memory."""
    for neighbours in (False, True):
        plan = plan_of(neighbours=neighbours)
        rows, limit = sample_architectures(plan, options.rows, seed=0), limit_of(plan)
        label = "in memory, terms of neighbours" if neighbours else "in memory, additive"
        report(label, len(rows), lambda: filter_by_budget(rows, plan, max_ms=limit))  # noqa: B023 - called at once


def parts(plan: CostPlan, n: int) -> Iterator[Any]:
    """Random rows, a row group at a time."""
    for seed, begin in enumerate(range(0, n, GROUP)):
        yield sample_architectures(plan, min(GROUP, n - begin), seed=seed)


def disk(options: argparse.Namespace) -> None:
    """The same from a Parquet file."""
    plan = plan_of(neighbours=False)
    limit = limit_of(plan)
    with tempfile.TemporaryDirectory() as folder:
        source, output = Path(folder, "candidates.parquet"), Path(folder, "within.parquet")
        write_candidates(source, plan, parts(plan, options.rows))
        print(f"a file of {source.stat().st_size / 1e6:.0f} MB for {options.rows:,} rows")
        report("from Parquet, counted", options.rows, lambda: filter_by_budget(source, plan, max_ms=limit))
        report(
            "from Parquet to Parquet", options.rows, lambda: filter_by_budget(source, plan, max_ms=limit, output=output)
        )


def flat(_: argparse.Namespace) -> None:
    """Peak memory of a process of its own."""
    plan = plan_of(neighbours=False)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "candidates.parquet")
        for n in (0, FLAT_ROWS // 10, FLAT_ROWS):
            write_candidates(source, plan, parts(plan, n))
            command = [sys.executable, __file__, "--child", str(source), f"{limit_of(plan)}"]
            found = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
            print(f"{n:,} rows from file to file: {found.stdout.strip()}", flush=True)


def child(source: str, limit: str) -> None:
    """Filter a file and print the peak memory of this process."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    output = Path(source).with_name("within.parquet")
    start = time.perf_counter()
    filtered = filter_by_budget(source, plan_of(neighbours=False), max_ms=float(limit), output=output)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"peak {peak / 1e3:.0f} MB, {before / 1e3:.0f} MB of it after the imports; {seconds:.0f} s; "
          f"{filtered.n_passed:,} rows written")  # fmt: skip


def mobile() -> tuple[CandidateNet, LatencyLoss]:
    """A supernet of MobileNetV3's size, priced by a table."""
    supernet, latency = CandidateNet().eval(), LatencyLoss("SD865")
    latency.attach(supernet, torch.zeros(1, 3, 224, 224))
    return supernet, latency


def equality(_: argparse.Namespace) -> None:
    """The largest relative differences on 1,000 architectures."""
    supernet, latency = mobile()
    plan, estimator = latency.plan, LatencyEstimator("SD865")
    rows = sample_architectures(plan, 1000, seed=0)
    costs, stds = BudgetFilter.of([Budget(plan, 1.0, confidence=0.9)]).moments(rows)[0]
    graph, _choices = read_supernet(supernet, torch.zeros(1, 3, 224, 224))
    architectures = [dict(zip(plan.choices, row, strict=True)) for row in rows.tolist()]
    routes = {
        "CostPlan.estimate": [plan.estimate(one) for one in architectures],
        "LatencyEstimator": [estimator.predict(graph.extract(one)) for one in architectures],
    }
    for name, estimates in routes.items():
        values = np.array([(estimate.value, estimate.std) for estimate in estimates])
        differences = np.abs(np.array([costs, stds]).T / values - 1).max(0)
        print(f"{name}, 1,000 architectures: mean within {differences[0]:.1e}, deviation within {differences[1]:.1e}")
    quantiles = np.array(
        [one.value + Budget(plan, 1.0, confidence=0.9).n_std * one.std for one in routes["CostPlan.estimate"]]
    )
    limit = float(np.median(quantiles))
    filtered = filter_by_budget(rows, plan, max_ms=limit)
    n_differing = int(((filtered.outcomes == 2) != (quantiles <= limit)).sum())
    print(f"outcomes that differ from the quantile of the estimate: {n_differing} of 1,000", flush=True)


def seconds_each(run: Callable[[], object], n: int) -> float:
    """Processor time a candidate."""
    start = time.process_time()
    run()
    return (time.process_time() - start) / n


def peers(options: argparse.Namespace) -> None:
    """In alternation with OFA's table and a loop over `price`."""
    plan = plan_of(neighbours=False)
    rows, few = sample_architectures(plan, 2_000_000, seed=0), sample_architectures(plan, 20_000, seed=1)
    limit = limit_of(plan)
    _, latency = mobile()
    architectures = [
        dict(zip(latency.plan.choices, row, strict=True))
        for row in sample_architectures(latency.plan, 100, seed=0).tolist()
    ]
    ours, loop, theirs, said = [], [], [], {}
    for _ in range(N_RUNS):
        ours.append(seconds_each(lambda: filter_by_budget(rows, plan, max_ms=limit, threads=1), len(rows)))
        loop.append(seconds_each(lambda: [latency.price(one).std_ms for one in architectures], len(architectures)))
        if options.ofa_python:
            request = {"fixed": plan.fixed.value, "costs": [[cost.value for cost in row] for row in plan.costs]}
            request["rows"] = few.tolist()
            command = [options.ofa_python, str(HERE / "filter_peer.py")]
            found = subprocess.run(command, check=True, capture_output=True, text=True, input=json.dumps(request))  # noqa: S603
            said = json.loads(found.stdout.splitlines()[-1])
            theirs.append(said["seconds"] / len(few))
    print(f"filter, one thread: {median(ours) * 1e9:.0f} ns of processor time each")
    print(f"loop over LatencyLoss.price: {median(loop) * 1e6:.0f} us each, {ratio(loop, ours)} x")
    if not options.ofa_python:
        print("OFA: give --ofa-python, the Python of an environment with ofa, PyYAML and torch")
        return
    costs = BudgetFilter.of([Budget(plan, 1.0)]).moments(few)[0][0]
    print(f"OFA's ProxylessNASLatencyTable: {median(theirs) * 1e6:.1f} us each, {ratio(theirs, ours)} x")
    print(f"    equal means within {np.abs(np.array(said['latencies_ms']) / costs - 1).max():.1e}")
    print(f"    shims: {'; '.join(said['shims'])}")


def ratio(theirs: list[float], ours: list[float]) -> str:
    """The median of the ratios of pairs, and the smallest one."""
    ratios = [their / our for their, our in zip(theirs, ours, strict=True)]
    return f"{median(ratios):,.0f} (at least {min(ratios):,.0f})"


PARTS = {"memory": memory, "disk": disk, "flat": flat, "equality": equality, "peers": peers}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []])
    parser.add_argument("--rows", type=int, default=4_000_000)
    parser.add_argument("--ofa-python", default="")
    parser.add_argument("--child", nargs=2)
    chosen = parser.parse_args()
    if chosen.child:
        child(*chosen.child)
    else:
        for part in chosen.parts or PARTS:
            PARTS[part](chosen)
