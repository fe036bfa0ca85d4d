"""A loop of your own, without Lightning, in three calls: attach, combine, step.

    python examples/plain_loop.py [TABLE]

TABLE is the name or the file of a latency table; without one, this machine is measured (by MNN).
"""

from __future__ import annotations

import sys

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional

from latency_nas import LatencyLoss, LatencyTable, Schedule, measure_supernet

EXAMPLE = torch.zeros(1, 1, 8, 8)


class Block(nn.Module):
    """Convolutions of three kernel sizes and a skip, weighted by the softmax of an architecture parameter."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        convs = [
            nn.Sequential(nn.Conv2d(channels, channels, k, padding=k // 2), nn.BatchNorm2d(channels), nn.ReLU())
            for k in (1, 3, 5)
        ]
        self.candidates = nn.ModuleList([*convs, nn.Identity()])
        self.alpha = nn.Parameter(torch.zeros(4))

    def forward(self, x: Tensor) -> Tensor:
        gates = self.alpha.softmax(0)
        return torch.stack([gate * op(x) for gate, op in zip(gates, self.candidates, strict=True)]).sum(0)


def make_supernet(channels: int = 16, n_blocks: int = 4) -> nn.Sequential:
    stem = nn.Sequential(nn.Conv2d(1, channels, 3, padding=1), nn.ReLU())
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10))
    return nn.Sequential(stem, *[Block(channels) for _ in range(n_blocks)], head)


def search(supernet: nn.Module, latency: LatencyLoss, n_steps: int = 200, batch_size: int = 64) -> None:
    data = load_digits()
    images, labels = torch.tensor(data.images, dtype=torch.float32).unsqueeze(1) / 8 - 1, torch.tensor(data.target)
    half = len(images) // 2
    weights = torch.optim.Adam([p for name, p in supernet.named_parameters() if "alpha" not in name], lr=3e-3)
    alphas = torch.optim.Adam([p for name, p in supernet.named_parameters() if "alpha" in name], lr=0.03)
    for step in range(n_steps):
        batch = torch.randint(half, (batch_size,))
        weights.zero_grad()
        functional.cross_entropy(supernet(images[batch]), labels[batch]).backward()
        weights.step()

        batch = half + torch.randint(half, (batch_size,))  # images that the weights have not seen
        alphas.zero_grad()
        loss = latency.combine(functional.cross_entropy(supernet(images[batch]), labels[batch]))  # the second call
        loss.backward()
        alphas.step()
        latency.step(progress=step / n_steps)  # the third: moves multiplier, weight and temperature


def measure(supernet: nn.Module) -> LatencyTable:
    return measure_supernet(supernet, EXAMPLE, times=3)


def main() -> None:
    torch.manual_seed(0)
    supernet = make_supernet()
    latency = LatencyLoss(
        sys.argv[1] if sys.argv[1:] else measure(supernet),
        penalty="equality",
        schedule=Schedule(warm_up=0.2, ramp=0.2, final_temperature=0.1),
    )
    plan = latency.attach(supernet, EXAMPLE)  # the first call
    print(plan.table())
    latency.target_ms = sum(plan.bounds_ms()) / 2
    search(supernet, latency)
    print(f"target {latency.target_ms:.4f} ms, argmax architecture {latency.argmax_ms():.4f} ms")
    print("never above the target:", found := latency.project(), latency.price(found).figure())


if __name__ == "__main__":
    main()
