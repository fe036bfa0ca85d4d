"""How near to their targets searches end, by measurement: targets x seeds on the digits example.

    python benchmarks/on_target_measured.py [--epochs 24] [--seeds 2] [--output runs/on_target_measured]

Each network that was found is exported and measured. Prints the target, the predicted and the measured latency of each
search's argmax architecture; then the same with the penalty off.
"""

from __future__ import annotations

import argparse
import logging
import sys
import warnings
from pathlib import Path

import torch
from lightning.pytorch import seed_everything

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))

import search_digits
from supernet import Supernet

from latency_nas import LatencyLoss, LatencyTable, read_supernet
from latency_nas.verdict.verdict import Verdict, verify


def search(table: LatencyTable, target_ms: float, weight: float, seed: int, options: argparse.Namespace) -> Verdict:
    """Search once, and measure the network that was found."""
    seed_everything(seed, verbose=False)
    supernet, example = Supernet(), torch.zeros(search_digits.INPUT_SHAPE)
    latency = LatencyLoss(table, target_ms, weight=weight)
    latency.attach(supernet, example)
    search_digits.search(supernet, latency, search_digits.Alternate(*search_digits.digits()[:2]), options.epochs)
    network = supernet.subnet(latency.architecture())
    return verify(network, example, table, target_ms=target_ms, file=options.output / "network.mnn")


def main() -> None:
    """Measure a table, then search and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--output", type=Path, default=Path("runs/on_target_measured"))
    options = parser.parse_args()
    graph, _ = read_supernet(Supernet(), torch.zeros(search_digits.INPUT_SHAPE))
    table, accuracy = search_digits.build_table(graph, times=6, rounds=8)
    print(f"table: {accuracy}")
    for weight, targets in ((2.0, (0.2, 0.28, 0.4)), (0.0, (0.2, 0.4))):
        print(f"\nweight {weight}\n{'target':>9} {'seed':>5} {'predicted':>10} {'measured':>9} {'off target':>11}")
        for target_ms in targets:
            for seed in range(options.seeds):
                verdict = search(table, target_ms, weight, seed, options)
                found = f"{verdict.estimate.latency_ms:10.4f} {verdict.measured.latency_ms:9.4f}"
                print(f"{target_ms:9.3f} {seed:5d} {found} {verdict.off_target:+11.1%}", flush=True)


if __name__ == "__main__":
    warnings.filterwarnings("ignore", module="lightning")
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    main()
