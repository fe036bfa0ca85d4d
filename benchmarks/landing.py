"""Where searches land: constraints, a weight tuned at one target, and the penalties of the literature.

    python benchmarks/landing.py [--epochs 8] [--seeds 3] [--processes 2]

Each row is one way to hold a search to its target, over targets x seeds of `examples/fbnet_chain.py`. `argmax` is the
estimated latency of the likeliest architecture against the target; `landed` the same after `LatencyLoss.land`, the last
step of a search under a hard budget: the likeliest architecture that is not above the target and, if there is one, at
most 3 % below it becomes the argmax. The table is of this machine, times 1000: FBNet's and ProxylessNAS's formulas take
the logarithm of the latency in milliseconds, which must be positive.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import sys
import warnings
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))

import fbnet_chain
from lightning.pytorch import seed_everything

from latency_nas import LatencyLoss, LatencyTable
from latency_nas.search.constraint import AugmentedLagrangian
from latency_nas.table import Entry

TARGETS = (0.3, 0.5, 0.7)  # of the way from the cheapest to the dearest architecture
TUNED_AT = 0.5
TRIED = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6)  # weights

# how a search is held to its target -> the loss's options, made anew for each search
WAYS: dict[str, Any] = {
    "constraint: equality": lambda: {"penalty": AugmentedLagrangian("equality", rho=0.3, every=1)},
    "linear, 0.2 (ProxylessNAS add)": lambda: {"penalty": "linear", "weight": 0.2},
    "absolute, 1 (TuNAS)": lambda: {"penalty": "absolute"},
    "hinge, 1": lambda: {"penalty": "hinge"},
    "FBNet 0.2 log^0.6": lambda: {"penalty": "fbnet"},
    "MnasNet hard": lambda: {"penalty": "mnasnet-hard"},
    "MnasNet soft": lambda: {"penalty": "mnasnet-soft"},
    "ProxylessNAS mul log": lambda: {"penalty": "proxyless-log"},
    "learned weight (LightNAS)": lambda: {"penalty": "learned-weight"},
    "log, 1": lambda: {"penalty": "log"},
    "constraint: inequality": lambda: {"penalty": AugmentedLagrangian("inequality", rho=0.3, every=1)},
}

Landed = tuple[float, float]


def land(search: tuple[str, float, int, float], table: LatencyTable, epochs: int) -> Landed:
    """Search once: how far the argmax architecture is from the target, as a share, before and after landing."""
    way, share, seed, weight = search
    quiet()
    seed_everything(seed, verbose=False)
    supernet = fbnet_chain.Supernet()
    latency = LatencyLoss(table, **(WAYS[way]() if way in WAYS else {"penalty": "linear", "weight": weight}))
    cheapest_ms, dearest_ms = latency.attach(supernet, fbnet_chain.EXAMPLE).bounds_ms()
    latency.target_ms = target_ms = cheapest_ms + share * (dearest_ms - cheapest_ms)
    fbnet_chain.search(latency, supernet, epochs)
    before = latency.argmax_ms() / target_ms - 1
    latency.land(within=0.03)
    return before, latency.argmax_ms() / target_ms - 1


def tune(pool: ProcessPoolExecutor, table: LatencyTable, epochs: int) -> float:
    """The weight of the linear penalty that lands nearest on one target with one seed."""
    searches = [("tuned", TUNED_AT, 0, weight) for weight in TRIED]
    offs = [off for off, _ in pool.map(partial(land, table=table, epochs=epochs), searches)]
    tried = ", ".join(f"{weight:g}: {off:+.1%}" for weight, off in zip(TRIED, offs, strict=True))
    print(f"linear weights at target {TUNED_AT}, seed 0: {tried}", flush=True)
    return min(zip(TRIED, offs, strict=True), key=lambda pair: abs(pair[1]))[0]


def show(way: str, landed: list[Landed], n_seeds: int) -> None:
    """One row for the argmax architectures, one for the landed ones."""
    for name, offs in (("argmax", [off for off, _ in landed]), ("landed", [off for _, off in landed])):
        cells = [" ".join(f"{off:+7.1%}" for off in offs[i : i + n_seeds]) for i in range(0, len(offs), n_seeds)]
        within = sum(abs(off) <= 0.03 for off in offs)
        above = sum(off > 0.01 for off in offs)
        label = way if name == "argmax" else ""
        print(f"{label:31} {name:9} | {' | '.join(cells)} | {within:2d} of {len(offs)}, {above:2d}", flush=True)


def quiet() -> None:
    """Keep Lightning's notes out of the table."""
    warnings.filterwarnings("ignore", module="lightning")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


def main() -> None:
    """Measure a table, tune a weight, then search."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    quiet()
    measured = fbnet_chain.measure(fbnet_chain.Supernet())
    rows = {kernel: Entry(latency_ms=1000 * row.latency_ms) for kernel, row in measured.items()}
    table = LatencyTable.of(rows, measured.datasheet)
    print(f"{'':41} | targets {TARGETS} x {options.seeds} seeds, off target | within 3 %, above by > 1 %")
    with ProcessPoolExecutor(options.processes, multiprocessing.get_context("spawn")) as pool:
        weight = 0.0
        for way in [next(iter(WAYS)), "tuned", *list(WAYS)[1:]]:
            weight = tune(pool, table, options.epochs) if way == "tuned" else weight
            searches = [(way, share, seed, weight) for share in TARGETS for seed in range(options.seeds)]
            landed = list(pool.map(partial(land, table=table, epochs=options.epochs), searches))
            show(way if way != "tuned" else f"linear, {weight:.3g} (tuned)", landed, options.seeds)


if __name__ == "__main__":
    main()
