"""Networks for the tests: small definitions of well-known families, and one snippet for each rule of fusion."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional


def conv_bn(c_in: int, c_out: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(c_out))


class SqueezeExcite(nn.Module):
    """Squeeze-and-excitation as in MobileNetV3 (arXiv 1905.02244)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, channels // 4, 1)
        self.expand = nn.Conv2d(channels // 4, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        squeezed = functional.relu(self.reduce(functional.adaptive_avg_pool2d(x, 1)))
        return x * functional.hardsigmoid(self.expand(squeezed))


class InvertedResidual(nn.Module):
    def __init__(self, c_in: int, c_out: int, expand: int, stride: int, act: type[nn.Module], se: bool) -> None:
        super().__init__()
        hidden = c_in * expand
        layers: list[nn.Module] = []
        if expand > 1:
            layers += [conv_bn(c_in, hidden, 1), act()]
        layers += [conv_bn(hidden, hidden, 3, stride, hidden), act()]
        if se:
            layers.append(SqueezeExcite(hidden))
        self.layers = nn.Sequential(*layers, conv_bn(hidden, c_out, 1))
        self.residual = stride == 1 and c_in == c_out

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x) if self.residual else self.layers(x)


class MobileNet(nn.Module):
    """MobileNetV2 (arXiv 1801.04381, table 2); with hard swish and squeeze-and-excitation, in the way of V3."""

    def __init__(self, act: type[nn.Module] = nn.ReLU6, se: bool = False) -> None:
        super().__init__()
        layers: list[nn.Module] = [conv_bn(3, 32, 3, 2), act()]
        c_in = 32
        for expand, channels, n_blocks, first_stride in (
            (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
        ):  # fmt: skip
            for number in range(n_blocks):
                layers.append(InvertedResidual(c_in, channels, expand, 1 if number else first_stride, act, se))
                c_in = channels
        self.features = nn.Sequential(*layers, conv_bn(c_in, 1280, 1), act())
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, 1000))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(functional.adaptive_avg_pool2d(self.features(x), 1).flatten(1))


class BasicBlock(nn.Module):
    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.first, self.second = conv_bn(c_in, c_out, 3, stride), conv_bn(c_out, c_out)
        self.down = conv_bn(c_in, c_out, 1, stride) if stride > 1 else nn.Identity()
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.second(self.relu(self.first(x)))
        y += self.down(x)
        return self.relu(y)


class ResNet18(nn.Module):
    """ResNet-18 (arXiv 1512.03385, table 1)."""

    def __init__(self) -> None:
        super().__init__()
        stages = [(64, 64, 1), (64, 128, 2), (128, 256, 2), (256, 512, 2)]
        blocks = [block for i, o, stride in stages for block in (BasicBlock(i, o, stride), BasicBlock(o, o, 1))]
        self.stem = nn.Sequential(conv_bn(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
        self.blocks, self.pool, self.fc = nn.Sequential(*blocks), nn.AdaptiveAvgPool2d(1), nn.Linear(512, 1000)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.flatten(self.pool(self.blocks(self.stem(x))), 1))


class Snippet(nn.Module):
    """A forward given as a function of two 8-channel convolutions and the input."""

    def __init__(self, function: Callable[[Snippet, Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function
        self.a, self.b = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.point, self.wide, self.norm = nn.Conv2d(8, 8, 1), nn.Conv2d(16, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.first, self.second, self.flat = nn.Linear(8, 16), nn.Linear(16, 10), nn.Linear(512, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


def _used_twice(net: Snippet, x: Tensor) -> Tensor:
    y = net.a(x)
    return functional.relu(y) + y


def _gated(net: Snippet, x: Tensor) -> Tensor:
    y = net.a(x)
    return y * torch.sigmoid(net.point(functional.adaptive_avg_pool2d(y, 1)))


# name -> forward on an input of shape (1, 8, 8, 8)
def _shuffled(x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    return x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


SNIPPETS: dict[str, Callable[[Snippet, Tensor], Tensor]] = {
    "add then relu": lambda net, x: functional.relu(net.a(x) + net.b(x)),
    "add then relu6": lambda net, x: functional.relu6(net.a(x) + net.b(x)),
    "mul then relu": lambda net, x: functional.relu(net.a(x) * net.b(x)),
    "convolution read twice": _used_twice,
    "add of the input": lambda net, x: net.a(x) + x,
    "norm alone": lambda net, x: net.norm(net.a(x) + x),
    "norm and relu between": lambda net, x: net.b(functional.relu(net.norm(net.a(x) + x))),
    "relu of the input": lambda net, x: net.a(functional.relu(x)),
    "two linear layers": lambda net, x: net.second(functional.relu(net.first(x.mean((2, 3))))),
    "concat": lambda net, x: net.wide(torch.cat([net.a(x), net.b(x)], 1)),
    "gate": _gated,
    "average pool": lambda net, x: functional.avg_pool2d(net.a(x), 2),
    "add of a number": lambda net, x: net.a(x) + 3,
    "flatten": lambda net, x: net.flat(net.a(x).flatten(1)),
    "shuffle": lambda net, x: net.b(_shuffled(net.a(x))),
    "shuffle of the input": lambda net, x: net.a(_shuffled(x)),
    "shuffle of a concat": lambda net, x: net.wide(_shuffled(torch.cat([net.a(x), net.b(x)], 1))),
    "shuffle, cut": lambda net, x: net.b(_shuffled(torch.cat([net.a(x), net.b(x)], 1))[:, 4:12]),
    "shuffle, joined": lambda net, x: net.wide(torch.cat([_shuffled(net.a(x)), net.b(x)], 1)),
    "shuffle, added": lambda net, x: net.point(_shuffled(net.a(x)) + net.b(x)),
    "shuffle, pooled": lambda net, x: _shuffled(net.a(x)).mean((2, 3)),
    "shuffle at the end": lambda net, x: _shuffled(net.a(x)),
}


def relu_of_maps() -> nn.Module:
    return nn.ReLU()
