"""DARTS's cells: one matrix of architecture parameters for all cells, two optimizers, optimised by hand in Lightning.

    python examples/darts_cells.py [TABLE]

TABLE is the name or the file of a latency table; without one, this machine is measured (by MNN).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from latency_nas import LatencyCallback, LatencyLoss, LatencyTable, measure_supernet

EXAMPLE = torch.zeros(1, 1, 8, 8)
N_NODES = 2
N_EDGES = sum(2 + node for node in range(N_NODES))  # each node has an edge from both inputs and each node before it


def relu_conv_bn(channels: int, kernel: int) -> nn.Sequential:
    conv = nn.Conv2d(channels, channels, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(nn.ReLU(), conv, nn.BatchNorm2d(channels))


class MixedOp(nn.Module):
    """Mixes candidates by weights that are an argument (DARTS, arXiv 1806.09055)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        convs = [relu_conv_bn(channels, kernel) for kernel in (1, 3, 5)]
        self.ops = nn.ModuleList([*convs, nn.MaxPool2d(3, 1, 1), nn.Identity()])

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        return torch.stack([weight * op(x) for weight, op in zip(weights, self.ops, strict=True)]).sum(0)


class Cell(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.edges = nn.ModuleList(MixedOp(channels) for _ in range(N_EDGES))

    def forward(self, before: Tensor, last: Tensor, weights: Tensor) -> Tensor:
        states, edge = [before, last], 0
        for _ in range(N_NODES):
            inputs = [self.edges[edge + i](state, weights[edge + i]) for i, state in enumerate(states)]
            edge += len(states)
            states.append(torch.stack(inputs).sum(0))
        return states[-1] + states[-2]


class Supernet(nn.Module):
    """All cells use the same rows of `alphas`, which is a plain tensor and no parameter, as in DARTS."""

    def __init__(self, n_cells: int = 3, channels: int = 8) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, channels, 3, padding=1), nn.BatchNorm2d(channels))
        self.cells = nn.ModuleList(Cell(channels) for _ in range(n_cells))
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10))
        self.alphas = (1e-3 * torch.randn(N_EDGES, 5)).requires_grad_()

    def forward(self, x: Tensor) -> Tensor:
        before = last = self.stem(x)
        weights = self.alphas.softmax(dim=-1)
        for cell in self.cells:
            before, last = last, cell(before, last, weights)
        return self.head(last)


class Search(LightningModule):
    """Optimises by hand, so it calls the loss itself; the callback does everything else."""

    def __init__(self, supernet: Supernet, latency: LatencyLoss) -> None:
        super().__init__()
        self.supernet, self.latency = supernet, latency
        self.automatic_optimization = False

    def training_step(self, batch: list[Tensor], batch_idx: int) -> None:
        weights, alphas = self.optimizers()
        images, labels = batch
        half = len(images) // 2

        weights.zero_grad()
        self.manual_backward(functional.cross_entropy(self.supernet(images[:half]), labels[:half]))
        weights.step()

        alphas.zero_grad()
        loss = functional.cross_entropy(self.supernet(images[half:]), labels[half:])
        self.manual_backward(self.latency.combine(loss))
        alphas.step()

    def configure_optimizers(self) -> Sequence[torch.optim.Optimizer]:
        weights = torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9, weight_decay=3e-4)
        return weights, torch.optim.Adam([self.supernet.alphas], lr=0.03, betas=(0.5, 0.999))


def search(supernet: Supernet, latency: LatencyLoss, epochs: int) -> LatencyCallback:
    data = load_digits()
    images = torch.tensor(data.images, dtype=torch.float32).unsqueeze(1) / 8 - 1
    loader = DataLoader(TensorDataset(images, torch.tensor(data.target)), 128, shuffle=True, drop_last=True)
    callback = LatencyCallback(final_temperature=0.1)
    trainer = Trainer(
        max_epochs=epochs, callbacks=callback, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(Search(supernet, latency), loader)
    return callback


def measure(supernet: Supernet) -> LatencyTable:
    return measure_supernet(supernet, EXAMPLE, times=3)


def main() -> None:
    seed_everything(0)
    supernet = Supernet()
    latency = LatencyLoss(sys.argv[1] if sys.argv[1:] else measure(supernet), penalty="equality")
    plan = latency.attach(supernet, EXAMPLE)
    latency.target_ms = sum(plan.bounds_ms()) / 2
    callback = search(supernet, latency, epochs=12)
    for figures in callback.history:
        print(f"{figures['latency/expected_ms']:.4f} ms expected, {figures['latency/argmax_ms']:.4f} ms argmax")
    print(f"target {latency.target_ms:.4f} ms: {latency.architecture()}")


if __name__ == "__main__":
    main()
