"""FBNet's chain of mixed ops with Gumbel gates, searched under a constraint on its latency, with Lightning.

    python examples/fbnet_chain.py [TABLE]

TABLE is the name or the file of a latency table; without one, this machine is measured (by MNN).
"""

from __future__ import annotations

import copy
import sys

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from latency_nas import AugmentedLagrangian, LatencyCallback, LatencyLoss, LatencyTable, Schedule, measure_supernet

EXAMPLE = torch.zeros(1, 1, 8, 8)
N_TRAIN = 1437  # images to train on; the other 360 are for the test


class InvertedBottleneck(nn.Sequential):
    def __init__(self, channels: int, kernel: int, expansion: int) -> None:
        hidden = channels * expansion
        super().__init__(
            nn.Conv2d(channels, hidden, 1, bias=False), nn.BatchNorm2d(hidden), nn.ReLU(),
            nn.Conv2d(hidden, hidden, kernel, padding=kernel // 2, groups=hidden, bias=False), nn.BatchNorm2d(hidden),
            nn.ReLU(), nn.Conv2d(hidden, channels, 1, bias=False), nn.BatchNorm2d(channels),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x)


class MixedOp(nn.Module):
    """FBNet's mixed op (arXiv 1812.03443); of its Gumbel sample only the largest gate runs (GDAS, arXiv 1910.04465)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        convs = [InvertedBottleneck(channels, kernel, expansion) for kernel in (3, 5) for expansion in (1, 2, 4)]
        self.ops = nn.ModuleList([*convs, nn.Identity()])
        self.theta = nn.Parameter(1e-3 * torch.randn(len(self.ops)))
        self.tau = 5.0

    def forward(self, x: Tensor) -> Tensor:
        gates = functional.gumbel_softmax(self.theta, self.tau, hard=True)
        index = int(gates.argmax())
        return gates[index] * self.ops[index](x)


class Supernet(nn.Sequential):
    """Stem, stages of mixed ops, head. Nothing here depends on latency."""

    def __init__(self, channels: tuple[int, ...] = (8, 16, 32), n_blocks: int = 2) -> None:
        layers, c_in = [], 1
        for c_out in channels:  # each stage begins with a convolution that is not searched
            stride = 1 if c_in == 1 else 2
            layers += [nn.Conv2d(c_in, c_out, 3, stride, padding=1), nn.ReLU()]
            layers += [MixedOp(c_out) for _ in range(n_blocks)]
            c_in = c_out
        super().__init__(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(c_in, 10))


class Search(LightningModule):
    """Trains weights and architecture in turn, each on its own half of a batch; at first the weights alone."""

    def __init__(self, supernet: Supernet) -> None:
        super().__init__()
        self.supernet = supernet

    def is_arch_step(self, batch: list[Tensor], batch_idx: int) -> bool:  # called by the callback
        return batch_idx % 2 == 1 and self.current_epoch >= self.trainer.max_epochs // 4

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        half = slice(1, None, 2) if self.is_arch_step(batch, batch_idx) else slice(0, None, 2)
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(("theta" in name) == self.is_arch_step(batch, batch_idx))
        images, labels = batch
        return functional.cross_entropy(self.supernet(images[half]), labels[half])

    def on_train_epoch_start(self) -> None:
        for module in self.supernet:
            if isinstance(module, MixedOp):
                module.tau = 5.0 * 0.1 ** (self.current_epoch / self.trainer.max_epochs)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        weights = [parameter for name, parameter in self.named_parameters() if "theta" not in name]
        thetas = [parameter for name, parameter in self.named_parameters() if "theta" in name]
        return torch.optim.Adam([{"params": weights, "lr": 1e-2}, {"params": thetas, "lr": 0.03}])


def digits() -> tuple[Tensor, Tensor]:
    data = load_digits()
    return torch.tensor(data.images, dtype=torch.float32).unsqueeze(1) / 8 - 1, torch.tensor(data.target)


def search(latency: LatencyLoss, supernet: Supernet, epochs: int, *, discretization: float = 0.4) -> LatencyCallback:
    latency.use_schedule(Schedule(final_temperature=0.1, discretization=discretization))
    callback = LatencyCallback(latency, apply_to="arch")
    images, labels = digits()
    train = TensorDataset(images[:N_TRAIN], labels[:N_TRAIN])
    trainer = Trainer(
        max_epochs=epochs, callbacks=callback, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(Search(supernet), DataLoader(train, batch_size=64, shuffle=True, drop_last=True))
    return callback


@torch.no_grad()
def accuracy(supernet: Supernet, architecture: dict[str, int]) -> float:
    """The accuracy of one architecture on test images, with the supernet's weights and its own statistics."""
    images, labels = digits()
    layers = copy.deepcopy(supernet).named_children()
    found = nn.Sequential(*(layer.ops[architecture[k]] if k in architecture else layer for k, layer in layers))
    for module in found.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None  # statistics are then the mean of all batches
    found.train()(images[:N_TRAIN])
    return float((found.eval()(images[N_TRAIN:]).argmax(1) == labels[N_TRAIN:]).float().mean())


def measure(supernet: nn.Module) -> LatencyTable:
    return measure_supernet(supernet, EXAMPLE, times=3)


def main() -> None:
    seed_everything(0)
    supernet = Supernet()
    latency = LatencyLoss(
        sys.argv[1] if sys.argv[1:] else measure(supernet), penalty=AugmentedLagrangian("equality", rho=0.3, every=1)
    )
    cheapest_ms, dearest_ms = latency.attach(supernet, EXAMPLE).bounds_ms()
    latency.target_ms = (cheapest_ms + dearest_ms) / 2
    search(latency, supernet, epochs=16)
    print(f"target {latency.target_ms:.4f} ms, argmax architecture {latency.argmax_ms():.4f} ms")
    found = latency.discretize(within=0.03)  # the most probable architecture from 3 % below the target up to it
    print(f"discretized to {latency.argmax_ms():.4f} ms, {accuracy(supernet, found):.1%} accurate: {found}")


if __name__ == "__main__":
    main()
