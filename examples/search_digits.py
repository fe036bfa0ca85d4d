"""The whole run, small but real: measure this machine, search under a latency target, and measure what was found.

    python examples/search_digits.py --target-ms 0.3

1. Random architectures of the supernet are profiled with MNN, op by op, into a latency table of this machine.
2. The supernet is searched on handwritten digits, weights and architecture alternately, with `LatencyLoss` in its loss.
3. The network that was found is trained on, exported, measured, and set against its prediction and its target.
"""

from __future__ import annotations

import argparse
import logging
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from rich.console import Console
from sklearn.datasets import load_digits
from supernet import Supernet
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from latency_nas import (
    Accuracy,
    LatencyCallback,
    LatencyLoss,
    LatencyTable,
    OpGraph,
    breakdown_table,
    check_table,
    covering_architectures,
    measure_table,
    progress_bar,
    random_architectures,
    read_supernet,
    save_table,
    verify,
    write_page,
)

INPUT_SHAPE = (1, 1, 32, 32)
BATCH_SIZE = 60
N_TEST = 597
N_HELD_OUT = 20
WARM_UP = 0.25  # share of the epochs in which weights alone are trained, so that there is something to choose by


def digits() -> tuple[TensorDataset, TensorDataset, TensorDataset]:
    """Scikit-learn's digits at 32 x 32: 600 to train weights on, 600 to choose the architecture by, 597 to test."""
    data = load_digits()
    images = torch.tensor(data.images, dtype=torch.float32).unsqueeze(1) / 8 - 1
    images = functional.interpolate(images, size=INPUT_SHAPE[2:], mode="bilinear")
    labels = torch.tensor(data.target)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    parts = order[N_TEST::2], order[N_TEST + 1 :: 2], order[:N_TEST]
    weights, architecture, test = (TensorDataset(images[part], labels[part]) for part in parts)
    return weights, architecture, test


class Alternate:
    """Batches of two data sets in turn: one for the weights, one for the architecture."""

    def __init__(self, *datasets: TensorDataset) -> None:
        self.loaders = [DataLoader(dataset, BATCH_SIZE, shuffle=True, drop_last=True) for dataset in datasets]

    def __len__(self) -> int:
        return len(self.loaders) * min(map(len, self.loaders))

    def __iter__(self) -> Iterator[Any]:
        for batches in zip(*self.loaders, strict=True):
            yield from batches


class Search(LightningModule):
    """Trains weights and architecture parameters in turn. The callback adds the latency."""

    def __init__(self, supernet: Supernet) -> None:
        super().__init__()
        self.supernet = supernet
        chosen = set(map(id, supernet.architecture_parameters()))
        self.weights = [parameter for parameter in supernet.parameters() if id(parameter) not in chosen]

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        warming_up = self.current_epoch < WARM_UP * (self.trainer.max_epochs or 0)
        for_weights = warming_up or batch_idx % 2 == 0
        for parameter in self.weights:
            parameter.requires_grad_(for_weights)
        for parameter in self.supernet.architecture_parameters():
            parameter.requires_grad_(not for_weights)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        images, labels = batch
        return functional.cross_entropy(self.supernet(images), labels)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        weights = {"params": self.weights, "lr": 3e-3, "weight_decay": 1e-3}
        architecture = {
            "params": self.supernet.architecture_parameters(),
            "lr": 0.05,
            "betas": (0.5, 0.99),
            "weight_decay": 0.0,
        }
        return torch.optim.AdamW([weights, architecture])


class EpochProgress(Callback):
    """Advances a progress bar after each epoch."""

    def __init__(self, on_progress: Callable[[int, int], None]) -> None:
        self.on_progress = on_progress

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.on_progress(trainer.current_epoch + 1, trainer.max_epochs or 0)


def build_table(graph: OpGraph, times: int, rounds: int) -> tuple[LatencyTable, Accuracy]:
    """A latency table of this machine for every candidate, checked on architectures that were not metered."""
    metered = covering_architectures(graph.choices, times=times)
    others = random_architectures(graph.choices, N_HELD_OUT, seed=1, unlike=metered)
    with progress_bar(f"metering {len(metered)} networks") as on_progress:
        table = measure_table(
            [graph.extract(architecture) for architecture in metered], rounds=rounds, on_progress=on_progress
        )
    with progress_bar(f"checking on {len(others)} others") as on_progress:
        return check_table(
            table, [graph.extract(architecture) for architecture in others], rounds=rounds, on_progress=on_progress
        )


def search(supernet: Supernet, latency: LatencyLoss, batches: Alternate, epochs: int) -> list[dict[str, float]]:
    """Search, and give the figures of each epoch."""
    callback = LatencyCallback(latency, final_temperature=0.1)
    with progress_bar("searching") as on_progress:
        trainer = Trainer(
            max_epochs=epochs, callbacks=[callback, EpochProgress(on_progress)], accelerator="cpu", logger=False,
            enable_checkpointing=False, enable_model_summary=False, enable_progress_bar=False,
        )  # fmt: skip
        trainer.fit(Search(supernet), batches)
    history: list[dict[str, float]] = callback.history
    return history


def train_on(network: nn.Module, datasets: list[TensorDataset], epochs: int) -> None:
    """Train the network that was found on all training images, from the weights that it has in the supernet."""
    for parameter in network.parameters():
        parameter.requires_grad_(True)
    loader = DataLoader(torch.utils.data.ConcatDataset(datasets), BATCH_SIZE, shuffle=True)
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * len(loader))
    network.train()
    with progress_bar("training the network") as on_progress:
        for epoch in range(epochs):
            for images, labels in loader:
                optimizer.zero_grad()
                functional.cross_entropy(network(images), labels).backward()
                optimizer.step()
                schedule.step()
            on_progress(epoch + 1, epochs)


def accuracy_of(network: nn.Module, dataset: TensorDataset) -> float:
    """The share of images that are classified correctly."""
    images, labels = dataset.tensors
    network.eval()
    with torch.no_grad():
        return float((network(images).argmax(dim=1) == labels).float().mean())


def run(options: argparse.Namespace, console: Console) -> None:
    """The whole run."""
    started = time.monotonic()
    seed_everything(options.seed, verbose=False)
    example = torch.zeros(INPUT_SHAPE)
    supernet = Supernet()
    graph, _ = read_supernet(supernet, example)

    table, accuracy = build_table(graph, options.times, options.rounds)
    path = save_table(table, options.output / "table.parquet")
    console.print(f"{len(table)} kernels in {path}: {table.datasheet}")
    console.print(f"prediction on networks that were not metered: {accuracy}")

    latency = LatencyLoss(table, weight=options.weight)
    plan = latency.attach(supernet, example)
    cheapest, dearest = plan.bounds_ms()
    latency.target_ms = target_ms = options.target_ms or (cheapest + dearest) / 2
    console.print(f"searching for {target_ms:.3f} ms between {cheapest:.3f} and {dearest:.3f} ms")
    for_weights, for_architecture, test = digits()
    history = search(supernet, latency, Alternate(for_weights, for_architecture), options.epochs)

    architecture = latency.architecture()
    network = supernet.subnet(architecture)
    train_on(network, [for_weights, for_architecture], options.train_epochs)
    test_accuracy = accuracy_of(network, test)
    verdict = verify(network, example, table, target_ms=target_ms, file=options.output / "network.mnn")

    console.print(breakdown_table(verdict.estimate))
    console.print(f"measuring was {verdict.drift}")
    console.print(f"{verdict}; accuracy {test_accuracy:.1%} on {len(test)} test images")
    page = write_page(
        options.output / "report.html",
        title=f"A network for {target_ms:.3f} ms",
        verdict=verdict,
        plan=plan,
        architecture=architecture,
        labels=supernet.labels(),
        history=history,
        table=table,
        accuracy=accuracy,
        test_accuracy=test_accuracy,
        n_test=len(test),
    )
    console.print(f"report: {page} ({time.monotonic() - started:.0f} s in all)")


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--target-ms",
        type=float,
        help="latency to reach (default: half-way between the cheapest and the dearest architecture)",
    )
    parser.add_argument(
        "--weight", type=float, default=2.0, help="weight of the latency term; 0 switches it off (default: %(default)s)"
    )
    parser.add_argument("--epochs", type=int, default=24, help="number of epochs of the search (default: %(default)s)")
    parser.add_argument(
        "--train-epochs",
        type=int,
        default=12,
        help="number of epochs of the training (default: %(default)s)",
    )
    parser.add_argument(
        "--times", type=int, default=6, help="networks in which each candidate is metered (default: %(default)s)"
    )
    parser.add_argument("--rounds", type=int, default=8, help="repetitions of each network (default: %(default)s)")
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of weights, data order and sampling (default: %(default)s)"
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("runs/digits"),
        help="folder for table, network and page (default: %(default)s)",
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    warnings.filterwarnings("ignore", module="lightning")
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    run(parse(), Console())
