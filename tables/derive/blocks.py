"""Blocks of the published networks, with Paddle's names of the activations."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

__all__ = ["ACTIVATIONS", "Classifier", "Residual", "SqueezeExcite", "conv", "divisible", "shuffle"]

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "hard_swish": nn.Hardswish,
    "hard_sigmoid": nn.Hardsigmoid,
    "sigmoid": nn.Sigmoid,
    "swish": nn.SiLU,
    "leaky_relu": lambda: nn.LeakyReLU(0.1),
    "clip": lambda: nn.Hardtanh(0.0, 1.0),
}


def divisible(value: float, divisor: int = 8) -> int:
    """The multiple of `divisor` nearest to `value`, no more than a tenth below it."""
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded


def conv(
    c_in: int, c_out: int, kernel: int | tuple[int, int], stride: int = 1, *, group: int = 1, act: str = "",
    bn: bool = True, pad: int | tuple[int, int] | None = None, bias: bool | None = None,
) -> nn.Sequential:  # fmt: skip
    """A convolution with "same" padding, batch normalisation and activation."""
    half = tuple((size - 1) // 2 for size in kernel) if isinstance(kernel, tuple) else (kernel - 1) // 2
    has_bias = not bn if bias is None else bias
    layers: list[nn.Module] = [
        nn.Conv2d(c_in, c_out, kernel, stride, half if pad is None else pad, groups=group, bias=has_bias)
    ]
    if bn:
        layers.append(nn.BatchNorm2d(c_out))
    if act:
        layers.append(ACTIVATIONS[act]())
    return nn.Sequential(*layers)


def shuffle(x: Tensor) -> Tensor:
    """Channel shuffle of two groups."""
    n, c, h, w = x.shape
    return x.reshape(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


class SqueezeExcite(nn.Module):
    """x * gate(expand(act(squeeze(mean of x))))."""

    def __init__(
        self, channels: int, squeezed: int, act: str = "relu", gate: str = "hard_sigmoid", *, linear: bool = False
    ) -> None:
        super().__init__()
        self.linear = linear
        make = nn.Linear if linear else (lambda a, b: nn.Conv2d(a, b, 1))
        self.body = nn.Sequential(
            make(channels, squeezed), ACTIVATIONS[act](), make(squeezed, channels), ACTIVATIONS[gate]()
        )

    def forward(self, x: Tensor) -> Tensor:
        mean = nn.functional.adaptive_avg_pool2d(x, 1)
        if not self.linear:
            return x * self.body(mean)
        return x * self.body(mean.flatten(1)).unsqueeze(2).unsqueeze(3)


class Residual(nn.Module):
    """act(body(x) + shortcut(x))."""

    def __init__(self, body: nn.Module, shortcut: nn.Module | None = None, act: str = "") -> None:
        super().__init__()
        self.body, self.shortcut = body, shortcut or nn.Identity()
        self.act = ACTIVATIONS[act]() if act else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.body(x) + self.shortcut(x))


class Classifier(nn.Module):
    """Features, global average, head, linear layer."""

    def __init__(
        self, features: nn.Module, channels: int, head: nn.Module | None = None, n_classes: int = 1000,
        softmax: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.features, self.head = features, head or nn.Identity()
        self.linear = nn.Linear(channels, n_classes)
        self.softmax = softmax

    def forward(self, x: Tensor) -> Tensor:
        x = self.head(nn.functional.adaptive_avg_pool2d(self.features(x), 1))
        x = self.linear(torch.flatten(x, 1))
        return x.softmax(1) if self.softmax else x
