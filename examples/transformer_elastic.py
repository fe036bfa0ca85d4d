"""A transformer encoder whose heads and feed-forward widths are searched, under a limit of latency and parameters.

    python examples/transformer_elastic.py [TABLE]

TABLE is the name or the file of a latency table; without one, this machine is measured (by MNN).
"""

from __future__ import annotations

import itertools
import sys
from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional

from latency_nas import LatencyLoss, LatencyTable, ResourceCounter, Targets, measure_table, options_of, read_model

N_TOKENS, DIM, HEAD_DIM, N_LAYERS = 16, 32, 8, 3
EXAMPLE = torch.zeros(1, N_TOKENS, 4)  # 16 patches of 2 x 2 pixels
HEADS, WIDTHS = (1, 2, 4), (16, 32, 64)
OPTIONS = {f"{kind}{layer}": options for layer in range(N_LAYERS)
           for kind, options in (("heads", HEADS), ("width", WIDTHS))}  # fmt: skip


class Layer(nn.Module):
    """Attention and feed-forward; masks may weight the heads and the hidden units."""

    def __init__(self, n_heads: int, width: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.norm1, self.norm2 = nn.LayerNorm(DIM), nn.LayerNorm(DIM)
        self.qkv = nn.Linear(DIM, 3 * n_heads * HEAD_DIM)
        self.out = nn.Linear(n_heads * HEAD_DIM, DIM)
        self.up, self.down = nn.Linear(DIM, width), nn.Linear(width, DIM)

    def forward(self, x: Tensor, heads: Tensor | None = None, units: Tensor | None = None) -> Tensor:
        batch = x.shape[0]
        q, k, v = self.qkv(self.norm1(x)).view(batch, N_TOKENS, 3, self.n_heads, HEAD_DIM).permute(2, 0, 3, 1, 4)
        scores = (q @ k.transpose(-2, -1) * HEAD_DIM**-0.5).softmax(-1)
        attended = scores @ v
        if heads is not None:
            attended = attended * heads[:, None, None]
        x = x + self.out(attended.transpose(1, 2).reshape(batch, N_TOKENS, self.n_heads * HEAD_DIM))
        hidden = self.up(self.norm2(x)).relu()
        return x + self.down(hidden if units is None else hidden * units)


class Encoder(nn.Module):
    def __init__(self, heads: list[int], widths: list[int]) -> None:
        super().__init__()
        self.embed = nn.Linear(4, DIM)
        self.layers = nn.ModuleList(Layer(*pair) for pair in zip(heads, widths, strict=True))
        self.classifier = nn.Linear(DIM, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        for layer in self.layers:
            x = layer(x)
        return self.classifier(x.mean(1))


class Supernet(Encoder):
    """The largest encoder; unit i is weighted by the probability that the width is above i (as in FBNetV2)."""

    def __init__(self) -> None:
        super().__init__([max(HEADS)] * N_LAYERS, [max(WIDTHS)] * N_LAYERS)
        self.alphas = nn.ParameterDict({name: torch.zeros(len(options)) for name, options in OPTIONS.items()})
        self.tau = 1.0

    def gates(self) -> dict[str, Tensor]:
        return {name: (alpha / self.tau).softmax(0) for name, alpha in self.alphas.items()}

    def forward(self, x: Tensor) -> Tensor:
        gates = self.gates()
        x = self.embed(x)
        for number, layer in enumerate(self.layers):
            heads, units = (
                gates[name] @ (torch.arange(max(OPTIONS[name])) < torch.tensor(OPTIONS[name])[:, None]).float()
                for name in (f"heads{number}", f"width{number}")
            )
            x = layer(x, heads, units)
        return self.classifier(x.mean(1))

    def subnet(self, config: dict[str, Any]) -> Encoder:
        """The network to be deployed; its weights are trained anew."""
        return Encoder(*[[config[f"{kind}{layer}"] for layer in range(N_LAYERS)] for kind in ("heads", "width")])


def search(supernet: Supernet, latency: Targets, n_steps: int, batch_size: int = 64) -> None:
    data = load_digits()
    images, labels = torch.tensor(data.images, dtype=torch.float32) / 8 - 1, torch.tensor(data.target)
    tokens = functional.unfold(images.unsqueeze(1), 2, stride=2).transpose(1, 2)
    weights = torch.optim.Adam([p for name, p in supernet.named_parameters() if "alphas" not in name], lr=2e-3)
    alphas = torch.optim.Adam(supernet.alphas.parameters(), lr=0.03)
    half = len(tokens) // 2
    for step in range(n_steps):
        supernet.tau = 0.1 ** (step / n_steps)
        batch = torch.randint(half, (batch_size,))
        weights.zero_grad()
        functional.cross_entropy(supernet(tokens[batch]), labels[batch]).backward()
        weights.step()
        batch = half + torch.randint(half, (batch_size,))
        alphas.zero_grad()
        latency.combine(functional.cross_entropy(supernet(tokens[batch]), labels[batch])).backward()
        alphas.step()
        latency.step()


def measure(supernet: Supernet) -> LatencyTable:
    """Measure networks whose layers are all the same: they contain every kernel."""
    configs = [
        {name: heads if name.startswith("heads") else width for name in OPTIONS}
        for heads, width in itertools.product(HEADS, WIDTHS)
    ]
    return measure_table([read_model(supernet.subnet(config), EXAMPLE) for config in configs])


def main() -> None:
    torch.manual_seed(0)
    supernet = Supernet()
    table = sys.argv[1] if sys.argv[1:] else measure(supernet)
    latency = Targets({
        "device": LatencyLoss(table, penalty="inequality"),
        "size": LatencyLoss(ResourceCounter("params"), penalty="inequality"),
    })  # fmt: skip
    plans = latency.attach(
        supernet,
        EXAMPLE,
        choices=options_of(OPTIONS, lambda net, config: net.subnet(config), gates=lambda net: net.gates()),
    )
    for name, loss in latency.by_name().items():
        loss.target = sum(plans[name].bounds()) / 2
    search(supernet, latency, n_steps=300)
    found = latency.project()
    for name, loss in latency.by_name().items():
        projected, unit = loss.plan.cost(found), loss.quantity.unit
        print(f"{name}: target {loss.target:.4g}, argmax {loss.argmax_cost():.4g}, projected {projected:.4g} {unit}")
    print({name: OPTIONS[name][index] for name, index in found.items()})


if __name__ == "__main__":
    main()
