"""How near to their targets searches end: constraints, a weight tuned at one target, the penalties of the literature.

    python benchmarks/on_target.py [--epochs 12] [--seeds 3] [--processes 1] [--output runs/on_target]

Each row is one way to steer a search to its target, over targets x seeds of `examples/fbnet_chain.py`. It gives how far
the argmax of every search is from its target: first at the end of the search, and in the line below after
`LatencyLoss.discretize`, with the most probable architecture that is not above the target and, if there is one, at most
3 % below it. Constraints have rows with and without `Schedule(discretization=...)`, which draws the parameters to such
an architecture; all other rows are without.

The fixed weight is tuned at one target: from small to large, until a search with the first seed ends within 3 %. The
argmax jumps, so that a weight a little larger need not give an architecture a little faster. The latency table is
of this machine, times 1000: FBNet's and ProxylessNAS's formulas take the logarithm of the latency in milliseconds,
which must be positive. The table and each finished search are kept in the output folder, so that an interrupted run
can be continued.
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import sys
import warnings
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))

import fbnet_chain
import numpy as np
import torch
from lightning.pytorch import seed_everything

from latency_nas import LatencyLoss, LatencyTable, load_table, save_table
from latency_nas.search.loss.constraint import AugmentedLagrangian
from latency_nas.table import Entry

TARGETS = (0.3, 0.5, 0.7)  # shares of the way from the cheapest to the dearest architecture
TUNED_AT = 0.3
TRIED = np.geomspace(5e-3, 2e-2, 9).round(5).tolist()  # weights of the linear penalty
DISCRETIZATION = 0.4
TUNED = "linear, tuned at one target"

# way to steer a search to its target -> function that makes the loss's options for each search
WAYS: dict[str, Callable[[], dict[str, Any]]] = {
    "equality, discretized": lambda: {"penalty": AugmentedLagrangian("equality", rho=0.3, every=1)},
    "inequality, discretized": lambda: {"penalty": AugmentedLagrangian("inequality", rho=0.3, every=1)},
    "equality": lambda: {"penalty": AugmentedLagrangian("equality", rho=0.3, every=1)},
    "inequality": lambda: {"penalty": AugmentedLagrangian("inequality", rho=0.3, every=1)},
    "learned weight (LightNAS)": lambda: {"penalty": "learned-weight"},
    TUNED: lambda: {"penalty": "linear"},
    "linear, 0.2 (ProxylessNAS add)": lambda: {"penalty": "linear", "weight": 0.2},
    "mul log (ProxylessNAS)": lambda: {"penalty": "proxyless-log"},
    "0.2 log^0.6 (FBNet)": lambda: {"penalty": "fbnet"},
    "log, 1": lambda: {"penalty": "log"},
    "soft product (MnasNet)": lambda: {"penalty": "mnasnet-soft"},
    "hard product (MnasNet)": lambda: {"penalty": "mnasnet-hard"},
    "absolute, 1 (TuNAS)": lambda: {"penalty": "absolute"},
    "hinge, 1": lambda: {"penalty": "hinge"},
}


class Search(NamedTuple):
    """One search: its way, its target as a share of the way to the dearest architecture, its seed and its length."""

    way: str
    share: float
    seed: int
    epochs: int
    weight: float | None = None


class Result(NamedTuple):
    """How far the argmax is from the target, as a share, before and after `discretize`, and the accuracy after it."""

    before: float
    after: float
    accuracy: float


def run_search(search: Search, table_file: Path) -> Result:
    """Search once."""
    warnings.filterwarnings("ignore", module="lightning")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    seed_everything(search.seed, verbose=False)
    supernet = fbnet_chain.Supernet()
    weight = {} if search.weight is None else {"weight": search.weight}
    latency = LatencyLoss(load_table(table_file), **WAYS[search.way](), **weight)
    cheapest_ms, dearest_ms = latency.attach(supernet, fbnet_chain.EXAMPLE).bounds_ms()
    latency.target_ms = target_ms = cheapest_ms + search.share * (dearest_ms - cheapest_ms)
    fbnet_chain.search(
        latency, supernet, search.epochs, discretization=DISCRETIZATION if "discretized" in search.way else 0.0
    )
    before = latency.argmax_ms() / target_ms - 1
    found = latency.discretize(within=0.03)
    return Result(before, latency.argmax_ms() / target_ms - 1, fbnet_chain.accuracy(supernet, found))


class Searches:
    """Runs searches, and keeps each that has finished in a file."""

    def __init__(self, folder: Path, n_processes: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.table_file, self.file = folder / "table.parquet", folder / "searches.jsonl"
        if not self.table_file.exists():
            save_table(measure(), self.table_file)
        lines = self.file.read_text().splitlines() if self.file.exists() else []
        read = [json.loads(line) for line in lines if line.endswith("]]")]  # a line may have been cut off
        self.finished = {Search(*search): Result(*result) for search, result in read}
        self.pool = ProcessPoolExecutor(n_processes, multiprocessing.get_context("spawn"))

    def run(self, searches: Iterable[Search]) -> list[Result]:
        """The results of searches, in the same order."""
        wanted = list(searches)
        new = [search for search in wanted if search not in self.finished]
        pending = {search: self.pool.submit(run_search, search, self.table_file) for search in new}
        for search, future in pending.items():
            self.finished[search] = future.result()
            with self.file.open("a") as file:
                file.write(json.dumps([search, self.finished[search]]) + "\n")
        return [self.finished[search] for search in wanted]


def measure() -> LatencyTable:
    """This machine's latencies, times 1000."""
    measured = fbnet_chain.measure(fbnet_chain.Supernet())
    return LatencyTable.of(
        {kernel: Entry(latency_ms=1000 * row.latency_ms) for kernel, row in measured.items()}, measured.datasheet
    )


def tune(searches: Searches, epochs: int) -> float:
    """The first weight of the linear penalty with which one search ends on one target, or the nearest."""
    tried: dict[float, float] = {}
    for weight in TRIED:
        (result,) = searches.run([Search(TUNED, TUNED_AT, 0, epochs, weight)])
        tried[weight] = result.before
        if abs(result.before) <= 0.03:
            break
    text = ", ".join(f"{weight:.3g}: {off:+.1%}" for weight, off in tried.items())
    print(f"\nlinear weights tried at target {TUNED_AT}, seed 0: {text}\n")
    return min(tried, key=lambda weight: abs(tried[weight]))


def show(way: str, results: list[Result], n_seeds: int) -> None:
    """Print a line for the argmax architectures, and one for those after `discretize`."""
    for label, number in ((way, 0), ("  discretized", 1)):
        offs = [result[number] for result in results]
        cells = [" ".join(f"{off:+7.1%}" for off in offs[i : i + n_seeds]) for i in range(0, len(offs), n_seeds)]
        n_within, worst, miss = sum(abs(off) <= 0.03 for off in offs), max(offs), fmean(map(abs, offs))
        accuracy = f"{fmean(result.accuracy for result in results):6.1%}" if number else ""
        figures = f"{n_within:2d}/{len(offs)} {worst:+7.1%} {miss:6.1%} {accuracy}"
        print(f"{label:31} | {' | '.join(cells)} | {figures}", flush=True)


def main() -> None:
    """Measure a table, tune a weight, then search."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--output", type=Path, default=Path("runs/on_target"))
    parser.add_argument("--ways", nargs="*", default=list(WAYS), choices=list(WAYS), metavar="WAY")
    options = parser.parse_args()
    searches = Searches(options.output, options.processes)
    print(f"targets {TARGETS} x {options.seeds} seeds | within 3 %, highest, mean miss, accuracy")
    for way in options.ways:
        weight = tune(searches, options.epochs) if way == TUNED else None
        wanted = [
            Search(way, share, seed, options.epochs, weight) for share in TARGETS for seed in range(options.seeds)
        ]
        show(way if weight is None else f"linear, {weight:.3g}, tuned", searches.run(wanted), options.seeds)


if __name__ == "__main__":
    main()
