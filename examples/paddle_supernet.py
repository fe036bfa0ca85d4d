"""A supernet in Paddle, searched under a latency target in dygraph mode.

    python examples/paddle_supernet.py --target 0.5

The supernet does not depend on latency: what makes it searchable is a parameter `alpha` in each `MixedOp`.
"""

from __future__ import annotations

import argparse

import paddle
from paddle import nn
from paddle.nn import functional

from latency_nas import PaddleLatencyLoss

N_CLASSES = 4


def conv_bn(channels: int, kernel: int, groups: int = 1) -> nn.Layer:
    conv = nn.Conv2D(channels, channels, kernel, padding=kernel // 2, groups=groups, bias_attr=False)
    return nn.Sequential(conv, nn.BatchNorm2D(channels), nn.ReLU())


class MixedOp(nn.Layer):
    """The sum of its candidates, each weighted by the softmax of `alpha` (DARTS, arXiv 1806.09055)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.candidates = nn.LayerList([
            conv_bn(channels, 3), conv_bn(channels, 5), conv_bn(channels, 3, groups=channels), nn.Identity()
        ])  # fmt: skip
        self.alpha = self.create_parameter([4], default_initializer=nn.initializer.Constant(0.0))

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        gates = functional.softmax(self.alpha)
        return paddle.add_n([gates[index] * layer(x) for index, layer in enumerate(self.candidates)])


class Supernet(nn.Layer):
    """Stem, mixed ops, head: 4^n architectures."""

    def __init__(self, channels: int = 16, n_blocks: int = 4) -> None:
        super().__init__()
        self.stem = nn.Conv2D(1, channels, 3, stride=2, padding=1)
        self.blocks = nn.Sequential(*[MixedOp(channels) for _ in range(n_blocks)])
        self.classifier = nn.Linear(channels, N_CLASSES)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return self.classifier(self.blocks(self.stem(x)).mean([2, 3]))


def stripes(n: int) -> tuple[paddle.Tensor, paddle.Tensor]:
    """Images of stripes in four directions, with noise; the class is the direction."""
    labels = paddle.randint(0, N_CLASSES, [n])
    grid = paddle.arange(16, dtype="float32")
    x, y = grid.reshape([1, 1, 16]), grid.reshape([1, 16, 1])
    angle = labels.astype("float32").reshape([n, 1, 1]) * (3.14159 / N_CLASSES)
    images = paddle.sin(x * paddle.cos(angle) + y * paddle.sin(angle)) + 0.5 * paddle.randn([n, 16, 16])
    return images.unsqueeze(1), labels


def search(latency: PaddleLatencyLoss, supernet: Supernet, *, steps: int) -> None:
    """Train weights and architecture parameters together; the three calls are attach, combine and step."""
    alphas = [block.alpha for block in supernet.blocks]
    weights = [parameter for name, parameter in supernet.named_parameters() if not name.endswith("alpha")]
    optimizers = (
        paddle.optimizer.Adam(0.003, parameters=weights),
        paddle.optimizer.Adam(0.1, parameters=alphas, beta1=0.5),
    )
    for step in range(steps):
        images, labels = stripes(32)
        loss = latency.combine(functional.cross_entropy(supernet(images), labels))
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.clear_grad()
        latency.step((step + 1) / steps)


def main(argv: list[str] | None = None) -> PaddleLatencyLoss:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", default="SD865", help="name or file of a latency table (default: %(default)s)")
    parser.add_argument("--target", type=float, default=0.5, help="share between the cheapest and the dearest")
    parser.add_argument("--steps", type=int, default=150)
    options = parser.parse_args(argv)
    paddle.seed(0)
    supernet = Supernet()
    latency = PaddleLatencyLoss(options.table, penalty="equality")
    cheapest_ms, dearest_ms = latency.attach(supernet, paddle.zeros([1, 1, 16, 16])).bounds_ms()
    latency.target_ms = cheapest_ms + options.target * (dearest_ms - cheapest_ms)
    search(latency, supernet, steps=options.steps)
    found_ms = latency.plan.latency_ms(latency.project())
    print(
        f"target {latency.target_ms:.4f} ms, argmax {latency.argmax_ms():.4f} ms, within the target {found_ms:.4f} ms"
    )
    print(latency.architecture())
    return latency


if __name__ == "__main__":
    main()
