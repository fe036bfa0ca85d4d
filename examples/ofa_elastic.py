"""An elastic network in the manner of OFA: configurations are sampled, priced exactly, and the best one is picked.

    python examples/ofa_elastic.py [TABLE]

TABLE is the name or the file of a latency table; without one, this machine is measured (by MNN). There are no
architecture parameters, so nothing is added to the loss: configurations are filtered by a target in milliseconds.
"""

from __future__ import annotations

import itertools
import random
import sys
from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional

from latency_nas import LatencyLoss, LatencyTable, measure_table, options_of, read_model

EXAMPLE = torch.zeros(1, 1, 8, 8)
N_STAGES = 2
DEPTHS, KERNELS, WIDTHS = (1, 2, 3), (1, 3, 5), (8, 16, 24)
OPTIONS = {f"{kind}{stage}": options for stage in range(N_STAGES)
           for kind, options in (("depth", DEPTHS), ("kernel", KERNELS), ("width", WIDTHS))}  # fmt: skip
Config = dict[str, Any]


class ElasticConv(nn.Module):
    """Uses the middle of its kernel and the first channels (OFA, arXiv 1908.09791)."""

    def __init__(self) -> None:
        super().__init__()
        self.full = nn.Conv2d(max(WIDTHS), max(WIDTHS), max(KERNELS))
        self.kernel = self.width = 0

    def forward(self, x: Tensor) -> Tensor:
        cut = (max(KERNELS) - self.kernel) // 2
        inside = slice(cut, max(KERNELS) - cut)
        weight = self.full.weight[: self.width, : x.shape[1], inside, inside]
        return functional.conv2d(x, weight, self.full.bias[: self.width], padding=self.kernel // 2).relu()


class Supernet(nn.Module):
    """Two stages whose depth, kernel and width are elastic."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, min(WIDTHS), 3, padding=1)
        self.stages = nn.ModuleList(nn.ModuleList(ElasticConv() for _ in range(max(DEPTHS))) for _ in range(N_STAGES))
        self.classifier = nn.Linear(max(WIDTHS), 10)
        self.depths = [0] * N_STAGES

    def configured(self, config: Config) -> Supernet:
        for number, stage in enumerate(self.stages):
            self.depths[number] = config[f"depth{number}"]
            for conv in stage:
                conv.kernel, conv.width = config[f"kernel{number}"], config[f"width{number}"]
        return self

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        for depth, stage in zip(self.depths, self.stages, strict=True):
            for conv in stage[:depth]:
                x = conv(x)
        x = x.mean((2, 3))
        return functional.linear(x, self.classifier.weight[:, : x.shape[1]], self.classifier.bias)


def sample() -> Config:
    return {name: random.choice(options) for name, options in OPTIONS.items()}  # noqa: S311


def digits() -> tuple[Tensor, Tensor]:
    data = load_digits()
    return torch.tensor(data.images, dtype=torch.float32).unsqueeze(1) / 8 - 1, torch.tensor(data.target)


def train(supernet: Supernet, n_steps: int) -> None:
    """The sandwich rule: the largest, the smallest and one sampled network share each step (arXiv 1903.05134)."""
    images, labels = digits()
    optimizer = torch.optim.Adam(supernet.parameters(), lr=2e-3)
    largest, smallest = ({name: best(options) for name, options in OPTIONS.items()} for best in (max, min))
    for _ in range(n_steps):
        batch = torch.randint(1200, (64,))
        optimizer.zero_grad()
        for config in (largest, smallest, sample()):
            functional.cross_entropy(supernet.configured(config)(images[batch]), labels[batch]).backward()
        optimizer.step()


@torch.no_grad()
def pick(supernet: Supernet, latency: LatencyLoss, target_ms: float, n_tried: int) -> tuple[float, Config]:
    """The most accurate of the configurations between 90 % and 100 % of the target."""
    images, labels = (tensor[1200:] for tensor in digits())
    best: tuple[float, Config] = (0.0, {})
    tried = 0
    while tried < n_tried:
        config = sample()
        if not 0.9 * target_ms <= latency.price(config).latency_ms <= target_ms:
            continue
        tried += 1
        accuracy = float((supernet.configured(config)(images).argmax(1) == labels).float().mean())
        best = max(best, (accuracy, config), key=lambda pair: pair[0])
    return best


def measure(supernet: Supernet) -> LatencyTable:
    """Measure networks of all kernel sizes and pairs of widths: they contain every kernel."""
    networks = []
    for kernel, first, second in itertools.product(KERNELS, WIDTHS, WIDTHS):
        widths = {"width0": first, "width1": second}
        config = dict.fromkeys(OPTIONS, kernel) | dict.fromkeys(("depth0", "depth1"), max(DEPTHS)) | widths
        networks.append(read_model(supernet.configured(config), EXAMPLE))
    return measure_table(networks)


def main() -> None:
    random.seed(0)
    torch.manual_seed(0)
    supernet = Supernet()
    latency = LatencyLoss(sys.argv[1] if sys.argv[1:] else measure(supernet))
    plan = latency.attach(
        supernet, EXAMPLE, choices=options_of(OPTIONS, lambda net, config: net.configured(config))
    )  # a few dozen configurations are traced
    cheapest_ms, dearest_ms = plan.bounds_ms()
    train(supernet, n_steps=150)
    for share in (0.3, 0.6):
        target_ms = cheapest_ms + share * (dearest_ms - cheapest_ms)
        accuracy, config = pick(supernet, latency, target_ms, n_tried=40)
        print(f"target {target_ms:.4f} ms: {accuracy:.1%} in {latency.price(config).latency_ms:.4f} ms by {config}")


if __name__ == "__main__":
    main()
