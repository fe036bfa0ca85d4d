"""A zoo of well-known networks, at their published widths, each from a table: for the tests of readers and fusion.

`ZOO` maps each name to a function that makes the network and to the shape of its one input, which is small so that a
run takes milliseconds. Its numbers of parameters are those published (`N_PARAMS`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.networks import MobileNet, ResNet18

Make = Callable[[], nn.Module]


def divisible(value: float, by: int) -> int:
    """The nearest multiple of `by` that is at least nine tenths of `value`."""
    nearest = max(by, int(value + by / 2) // by * by)
    return nearest + by if nearest < 0.9 * value else nearest


def cba(
    c_in: int, c_out: int, kernel: int = 3, stride: int = 1, groups: int = 1, act: Make | None = nn.ReLU
) -> nn.Sequential:
    """Convolution, batch norm, activation."""
    conv = nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(c_out), *([act()] if act else []))


class Branches(nn.Module):
    """The outputs of several modules, concatenated over channels, or added."""

    def __init__(self, *branches: nn.Module, join: str = "concat", act: Make | None = None) -> None:
        super().__init__()
        self.branches, self.join = nn.ModuleList(branches), join
        self.act = act() if act else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        parts = [branch(x) for branch in self.branches]
        return self.act(torch.cat(parts, 1) if self.join == "concat" else sum(parts[1:], parts[0]))


def classifier(c_in: int, classes: int = 1000) -> nn.Sequential:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(c_in, classes))


class SqueezeExcite(nn.Module):
    def __init__(self, channels: int, hidden: int, act: Make = nn.ReLU, gate: Make = nn.Hardsigmoid) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, hidden, 1), act(), nn.Conv2d(hidden, channels, 1), gate()
        )

    def forward(self, x: Tensor) -> Tensor:
        return x * self.layers(x)


def bottleneck(
    c_in: int, c_out: int, hidden: int, stride: int = 1, groups: int = 1, se: int | None = None
) -> nn.Module:
    """The residual block of ResNet-50, ResNeXt, SENet and RegNet."""
    excite = [SqueezeExcite(c_out if groups == 1 else hidden, se, gate=nn.Sigmoid)] if se else []
    layers = [cba(c_in, hidden, 1), cba(hidden, hidden, 3, stride, groups)]
    last = cba(hidden, c_out, 1, act=None)
    main = nn.Sequential(*layers, *([last, *excite] if groups == 1 else [*excite, last]))
    short = nn.Identity() if stride == 1 and c_in == c_out else cba(c_in, c_out, 1, stride, act=None)
    return Branches(main, short, join="add", act=nn.ReLU)


def resnet50(width: int = 64, groups: int = 1, depths: Sequence[int] = (3, 4, 6, 3), se: bool = False) -> nn.Module:
    """ResNet-50 (arXiv 1512.03385, table 1); ResNeXt (1611.05431), Wide ResNet (1605.07146), SENet (1709.01507)."""
    layers: list[nn.Module] = [cba(3, 64, 7, 2), nn.MaxPool2d(3, 2, 1)]
    c_in = 64
    for stage, depth in enumerate(depths):
        for block in range(depth):
            c_out = 256 << stage
            stride = 2 if stage and not block else 1
            layers.append(bottleneck(c_in, c_out, width << stage, stride, groups, c_out // 16 if se else None))
            c_in = c_out
    return nn.Sequential(*layers, classifier(c_in))


def regnet(widths: Sequence[int], depths: Sequence[int], group_width: int, se: bool) -> nn.Module:
    """RegNet (arXiv 2003.13678, figure 16 and 17)."""
    layers: list[nn.Module] = [cba(3, 32, 3, 2)]
    c_in = 32
    for width, depth in zip(widths, depths, strict=True):
        for block in range(depth):
            squeezed = round(c_in / 4) if se else None
            layers.append(bottleneck(c_in, width, width, 1 if block else 2, width // group_width, squeezed))
            c_in = width
    return nn.Sequential(*layers, classifier(c_in))


def mobilenet_v1() -> nn.Module:
    """MobileNetV1 (arXiv 1704.04861, table 1)."""
    layers: list[nn.Module] = [cba(3, 32, 3, 2)]
    widths = (32, 64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)
    for number, (c_in, c_out) in enumerate(pairwise(widths)):
        layers += [cba(c_in, c_in, 3, 2 if number in {1, 3, 5, 11} else 1, c_in), cba(c_in, c_out, 1)]
    return nn.Sequential(*layers, classifier(1024))


# expansion, channels, blocks, kernel, stride of the first, squeeze-and-excitation, activation
Stage = tuple[float, int, int, int, int, bool, Make]


def inverted_residual(
    c_in: int, hidden: int, c_out: int, kernel: int, stride: int, act: Make, se: nn.Module | None = None
) -> nn.Module:
    layers = [cba(c_in, hidden, 1, act=act)] if hidden != c_in else []
    layers.append(cba(hidden, hidden, kernel, stride, hidden, act))
    main = nn.Sequential(*layers, *([se] if se else []), cba(hidden, c_out, 1, act=None))
    return Branches(main, nn.Identity(), join="add") if stride == 1 and c_in == c_out else main


def mobile(stem: int, stages: Sequence[Stage], head: int, act: Make) -> nn.Module:
    """EfficientNet, MnasNet and their like: inverted residuals from a table."""
    layers: list[nn.Module] = [cba(3, stem, 3, 2, act=act)]
    c_in = stem
    for expand, c_out, depth, kernel, stride, excite, stage_act in stages:
        for block in range(depth):
            hidden = round(c_in * expand)
            se = SqueezeExcite(hidden, c_in // 4, nn.SiLU, nn.Sigmoid) if excite else None
            layers.append(inverted_residual(c_in, hidden, c_out, kernel, 1 if block else stride, stage_act, se))
            c_in = c_out
    return nn.Sequential(*layers, cba(c_in, head, 1, act=act), classifier(head))


def efficientnet(act: Make, *, se: bool) -> nn.Module:
    """EfficientNet-B0 (arXiv 1905.11946, table 1), and Lite0: relu6 without squeeze-and-excitation."""
    table = [(1, 16, 1, 3, 1), (6, 24, 2, 3, 2), (6, 40, 2, 5, 2), (6, 80, 3, 3, 2), (6, 112, 3, 5, 1)]
    table += [(6, 192, 4, 5, 2), (6, 320, 1, 3, 1)]
    return mobile(32, [(*row, se, act) for row in table], 1280, act)


def mnasnet() -> nn.Module:
    """MnasNet-B1 (arXiv 1807.11626)."""
    table = [(1, 16, 1, 3, 1), (3, 24, 3, 3, 2), (3, 40, 3, 5, 2), (6, 80, 3, 5, 2), (6, 96, 2, 3, 1)]
    table += [(6, 192, 4, 5, 2), (6, 320, 1, 3, 1)]
    return mobile(32, [(*row, False, nn.ReLU) for row in table], 1280, nn.ReLU)


def proxyless() -> nn.Module:
    """ProxylessNAS-Mobile (arXiv 1812.00332, figure 4)."""
    table = [(1, 16, 1, 3, 1), (3, 32, 2, 5, 2), (3, 40, 4, 7, 2), (6, 80, 4, 7, 2), (3, 96, 4, 5, 1)]
    table += [(6, 192, 4, 7, 2), (6, 320, 1, 7, 1)]
    return mobile(32, [(*row, False, nn.ReLU6) for row in table], 1280, nn.ReLU6)


def mobilenet_v3(size: str) -> nn.Module:
    """MobileNetV3 (arXiv 1905.02244, tables 1 and 2)."""
    relu, swish = nn.ReLU, nn.Hardswish
    tables: dict[str, list[tuple[int, int, int, bool, Make, int]]] = {
        "large": [
            (3, 16, 16, False, relu, 1), (3, 64, 24, False, relu, 2), (3, 72, 24, False, relu, 1),
            (5, 72, 40, True, relu, 2), (5, 120, 40, True, relu, 1), (5, 120, 40, True, relu, 1),
            (3, 240, 80, False, swish, 2), (3, 200, 80, False, swish, 1), (3, 184, 80, False, swish, 1),
            (3, 184, 80, False, swish, 1), (3, 480, 112, True, swish, 1), (3, 672, 112, True, swish, 1),
            (5, 672, 160, True, swish, 2), (5, 960, 160, True, swish, 1), (5, 960, 160, True, swish, 1),
        ],
        "small": [
            (3, 16, 16, True, relu, 2), (3, 72, 24, False, relu, 2), (3, 88, 24, False, relu, 1),
            (5, 96, 40, True, swish, 2), (5, 240, 40, True, swish, 1), (5, 240, 40, True, swish, 1),
            (5, 120, 48, True, swish, 1), (5, 144, 48, True, swish, 1), (5, 288, 96, True, swish, 2),
            (5, 576, 96, True, swish, 1), (5, 576, 96, True, swish, 1),
        ],
    }  # fmt: skip
    layers: list[nn.Module] = [cba(3, 16, 3, 2, act=swish)]
    c_in = 16
    for kernel, hidden, c_out, se, act, stride in tables[size]:
        excite = SqueezeExcite(hidden, divisible(hidden / 4, 8)) if se else None
        layers.append(inverted_residual(c_in, hidden, c_out, kernel, stride, act, excite))
        c_in = c_out
    wide, head = {"large": (960, 1280), "small": (576, 1024)}[size]
    layers += [cba(c_in, wide, 1, act=swish), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(wide, head), swish()]
    return nn.Sequential(*layers, nn.Dropout(0.2), nn.Linear(head, 1000))


class Shuffle(nn.Module):
    """A unit of ShuffleNetV2 (arXiv 1807.11164, figure 3)."""

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        half, self.stride = c_out // 2, stride
        first = c_in if stride > 1 else half
        self.main = nn.Sequential(cba(first, half, 1), cba(half, half, 3, stride, half, act=None), cba(half, half, 1))
        self.short = (
            nn.Sequential(cba(c_in, c_in, 3, stride, c_in, act=None), cba(c_in, half, 1)) if stride > 1 else None
        )

    def forward(self, x: Tensor) -> Tensor:
        if self.short is None:
            kept, passed = x.chunk(2, dim=1)
            y = torch.cat([kept, self.main(passed)], 1)
        else:
            y = torch.cat([self.short(x), self.main(x)], 1)
        n, c, h, w = y.shape
        return y.view(n, 2, c // 2, h, w).transpose(1, 2).contiguous().view(n, c, h, w)


def shufflenet_v2(widths: Sequence[int]) -> nn.Module:
    layers: list[nn.Module] = [cba(3, 24, 3, 2), nn.MaxPool2d(3, 2, 1)]
    c_in = 24
    for c_out, depth in zip(widths, (4, 8, 4), strict=False):
        for block in range(depth):
            layers.append(Shuffle(c_in, c_out, 1 if block else 2))
            c_in = c_out
    return nn.Sequential(*layers, cba(c_in, widths[-1], 1), classifier(widths[-1]))


def fire(c_in: int, squeeze: int, expand: int) -> nn.Module:
    each = [nn.Sequential(nn.Conv2d(squeeze, expand, k, padding=k // 2), nn.ReLU()) for k in (1, 3)]
    return nn.Sequential(nn.Conv2d(c_in, squeeze, 1), nn.ReLU(), Branches(*each))


def squeezenet() -> nn.Module:
    """SqueezeNet 1.1 (arXiv 1602.07360, table 1, with the widths of the authors' release)."""
    layers: list[nn.Module] = [nn.Conv2d(3, 64, 3, 2), nn.ReLU(), nn.MaxPool2d(3, 2, ceil_mode=True)]
    c_in = 64
    for number, squeeze in enumerate((16, 16, 32, 32, 48, 48, 64, 64)):
        if number in {2, 4}:
            layers.append(nn.MaxPool2d(3, 2, ceil_mode=True))
        layers.append(fire(c_in, squeeze, 4 * squeeze))
        c_in = 8 * squeeze
    return nn.Sequential(
        *layers, nn.Dropout(), nn.Conv2d(512, 1000, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )


class Ghost(nn.Module):
    """A Ghost module (arXiv 1911.11907, figure 1)."""

    def __init__(self, c_in: int, c_out: int, act: Make | None) -> None:
        super().__init__()
        half = (c_out + 1) // 2
        self.c_out = c_out
        self.primary, self.cheap = cba(c_in, half, 1, act=act), cba(half, half, 3, 1, half, act)

    def forward(self, x: Tensor) -> Tensor:
        y = self.primary(x)
        return torch.cat([y, self.cheap(y)], 1)[:, : self.c_out]


def ghost_block(c_in: int, hidden: int, c_out: int, kernel: int, se: bool, stride: int) -> nn.Module:
    layers: list[nn.Module] = [Ghost(c_in, hidden, nn.ReLU)]
    if stride > 1:
        layers.append(cba(hidden, hidden, kernel, stride, hidden, act=None))
    if se:
        layers.append(SqueezeExcite(hidden, divisible(hidden / 4, 4)))
    main = nn.Sequential(*layers, Ghost(hidden, c_out, None))
    if stride == 1 and c_in == c_out:
        return Branches(main, nn.Identity(), join="add")
    short = nn.Sequential(cba(c_in, c_in, kernel, stride, c_in, act=None), cba(c_in, c_out, 1, act=None))
    return Branches(main, short, join="add")


def ghostnet() -> nn.Module:
    """GhostNet 1.0x (arXiv 1911.11907, table 1)."""
    table = [
        (3, 16, 16, False, 1), (3, 48, 24, False, 2), (3, 72, 24, False, 1), (5, 72, 40, True, 2),
        (5, 120, 40, True, 1), (3, 240, 80, False, 2), (3, 200, 80, False, 1), (3, 184, 80, False, 1),
        (3, 184, 80, False, 1), (3, 480, 112, True, 1), (3, 672, 112, True, 1), (5, 672, 160, True, 2),
        (5, 960, 160, False, 1), (5, 960, 160, True, 1), (5, 960, 160, False, 1), (5, 960, 160, True, 1),
    ]  # fmt: skip
    layers: list[nn.Module] = [cba(3, 16, 3, 2)]
    c_in = 16
    for kernel, hidden, c_out, se, stride in table:
        layers.append(ghost_block(c_in, hidden, c_out, kernel, se, stride))
        c_in = c_out
    pooled = [cba(c_in, 960, 1), nn.AdaptiveAvgPool2d(1), nn.Conv2d(960, 1280, 1), nn.ReLU(), nn.Flatten()]
    return nn.Sequential(*layers, *pooled, nn.Linear(1280, 1000))


class DenseLayer(nn.Module):
    def __init__(self, c_in: int, growth: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.BatchNorm2d(c_in),
            nn.ReLU(),
            cba(c_in, 4 * growth, 1),
            nn.Conv2d(4 * growth, growth, 3, 1, 1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.layers(x)], 1)


def densenet121() -> nn.Module:
    """DenseNet-121 (arXiv 1608.06993, table 1)."""
    layers: list[nn.Module] = [cba(3, 64, 7, 2), nn.MaxPool2d(3, 2, 1)]
    channels = 64
    for stage, depth in enumerate((6, 12, 24, 16)):
        if stage:
            layers += [nn.BatchNorm2d(channels), nn.ReLU(), nn.Conv2d(channels, channels // 2, 1, bias=False)]
            layers.append(nn.AvgPool2d(2))
            channels //= 2
        for _ in range(depth):
            layers.append(DenseLayer(channels, 32))
            channels += 32
    return nn.Sequential(*layers, nn.BatchNorm2d(channels), nn.ReLU(), classifier(channels))


def inception(c_in: int, one: int, three: tuple[int, int], five: tuple[int, int], pool: int) -> nn.Module:
    branches = [nn.Sequential(cba(c_in, c[0], 1), cba(c[0], c[1], k)) for c, k in ((three, 3), (five, 5))]
    pooled = nn.Sequential(nn.MaxPool2d(3, 1, 1), cba(c_in, pool, 1))
    return Branches(cba(c_in, one, 1), *branches, pooled)


def googlenet() -> nn.Module:
    """GoogLeNet (arXiv 1409.4842, table 1), with batch norm in place of local response norm."""
    table = [
        (192, 64, (96, 128), (16, 32), 32), (256, 128, (128, 192), (32, 96), 64), None,
        (480, 192, (96, 208), (16, 48), 64), (512, 160, (112, 224), (24, 64), 64),
        (512, 128, (128, 256), (24, 64), 64), (512, 112, (144, 288), (32, 64), 64),
        (528, 256, (160, 320), (32, 128), 128), None,
        (832, 256, (160, 320), (32, 128), 128), (832, 384, (192, 384), (48, 128), 128),
    ]  # fmt: skip
    stem = [cba(3, 64, 7, 2), nn.MaxPool2d(3, 2, 1), cba(64, 64, 1), cba(64, 192, 3), nn.MaxPool2d(3, 2, 1)]
    blocks = [inception(*row) if row else nn.MaxPool2d(3, 2, 1) for row in table]
    return nn.Sequential(*stem, *blocks, classifier(1024))


def vgg(table: Sequence[int | str], norm: bool, c_flat: int = 512) -> nn.Module:
    """VGG (arXiv 1409.1556, table 1); `c_flat` is what a 32 x 32 image leaves."""
    layers: list[nn.Module] = []
    c_in = 3
    for item in table:
        if isinstance(item, str):
            layers.append(nn.MaxPool2d(2))
        else:
            conv = nn.Conv2d(c_in, item, 3, padding=1)
            layers += [conv, nn.BatchNorm2d(item), nn.ReLU()] if norm else [conv, nn.ReLU()]
            c_in = item
    dense = [nn.Linear(c_flat, 4096), nn.ReLU(), nn.Dropout(), nn.Linear(4096, 4096), nn.ReLU(), nn.Dropout()]
    return nn.Sequential(*layers, nn.Flatten(), *dense, nn.Linear(4096, 1000))


VGG11 = (64, "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M")
VGG16 = (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M")


def alexnet() -> nn.Module:
    """AlexNet as one tower (arXiv 1404.5997), for a 64 x 64 image."""
    layers: list[nn.Module] = [nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2)]
    layers += [nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)]
    for c_in, c_out in ((192, 384), (384, 256), (256, 256)):
        layers += [nn.Conv2d(c_in, c_out, 3, padding=1), nn.ReLU()]
    dense = [nn.Dropout(), nn.Linear(256, 4096), nn.ReLU(), nn.Dropout(), nn.Linear(4096, 4096), nn.ReLU()]
    return nn.Sequential(*layers, nn.MaxPool2d(3, 2), nn.Flatten(), *dense, nn.Linear(4096, 1000))


class ChannelsLast(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1)


class ChannelsFirst(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 3, 1, 2)


class Scale(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(1e-6 * torch.ones(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


def image_norm(channels: int) -> nn.Sequential:
    return nn.Sequential(ChannelsLast(), nn.LayerNorm(channels, eps=1e-6), ChannelsFirst())


def convnext() -> nn.Module:
    """ConvNeXt-T (arXiv 2201.03545, table 9)."""
    widths, depths = (96, 192, 384, 768), (3, 3, 9, 3)
    layers: list[nn.Module] = [nn.Conv2d(3, 96, 4, 4), image_norm(96)]
    for stage, (width, depth) in enumerate(zip(widths, depths, strict=True)):
        if stage:
            layers += [image_norm(widths[stage - 1]), nn.Conv2d(widths[stage - 1], width, 2, 2)]
        for _ in range(depth):
            block = [nn.Conv2d(width, width, 7, padding=3, groups=width), ChannelsLast(), nn.LayerNorm(width, eps=1e-6)]
            block += [
                nn.Linear(width, 4 * width),
                nn.GELU(),
                nn.Linear(4 * width, width),
                ChannelsFirst(),
                Scale(width),
            ]
            layers.append(Branches(nn.Sequential(*block), nn.Identity(), join="add"))
    pooled = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LayerNorm(768, eps=1e-6), nn.Linear(768, 1000)]
    return nn.Sequential(*layers, *pooled)


class Attention(nn.Module):
    """Multi-head self-attention (arXiv 1706.03762, section 3.2)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.qkv, self.project = heads, nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        n, length, width = x.shape
        qkv = self.qkv(x).reshape(n, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        query, key, value = qkv.unbind(0)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        return self.project(mixed.transpose(1, 2).reshape(n, length, width))


class ViT(nn.Module):
    """ViT-Tiny/16 (arXiv 2010.11929; the widths of 2012.12877, table 1)."""

    def __init__(self, pixels: int, width: int = 192, depth: int = 12, heads: int = 3) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 16, 16)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.position = nn.Parameter(torch.zeros(1, 1 + (pixels // 16) ** 2, width))
        self.blocks = nn.Sequential(*[self.block(width, heads) for _ in range(depth)])
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 1000)

    @staticmethod
    def block(width: int, heads: int) -> nn.Module:
        attend = nn.Sequential(nn.LayerNorm(width), Attention(width, heads))
        mlp = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        return nn.Sequential(*[Branches(nn.Identity(), part, join="add") for part in (attend, mlp)])

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.position
        return self.head(self.norm(self.blocks(x))[:, 0])


class Transposed(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2)


def mixer(pixels: int, width: int = 512, depth: int = 8) -> nn.Module:
    """MLP-Mixer-S/16 (arXiv 2105.01601, table 1), for small images."""
    n_patches = (pixels // 16) ** 2

    def mlp(size: int, hidden: int) -> list[nn.Module]:
        return [nn.Linear(size, hidden), nn.GELU(), nn.Linear(hidden, size)]

    layers: list[nn.Module] = [nn.Conv2d(3, width, 16, 16), nn.Flatten(2), Transposed()]
    for _ in range(depth):
        tokens = nn.Sequential(nn.LayerNorm(width), Transposed(), *mlp(n_patches, 256), Transposed())
        channels = nn.Sequential(nn.LayerNorm(width), *mlp(width, 2048))
        layers += [Branches(nn.Identity(), part, join="add") for part in (tokens, channels)]
    return nn.Sequential(*layers, nn.LayerNorm(width))


class UNet(nn.Module):
    """U-Net (arXiv 1505.04597, figure 1), padded, with learned upsampling or a resize."""

    def __init__(self, *, learned: bool, width: int = 64, depth: int = 4) -> None:
        super().__init__()
        widths = [width << level for level in range(depth + 1)]
        self.down = nn.ModuleList([self.double(c_in, c_out) for c_in, c_out in pairwise([3, *widths])])
        wide = list(pairwise(widths[::-1]))
        self.up = nn.ModuleList(
            [
                nn.ConvTranspose2d(i, o, 2, 2)
                if learned
                else nn.Sequential(nn.Upsample(scale_factor=2, mode="nearest"), nn.Conv2d(i, o, 1))
                for i, o in wide
            ]
        )
        self.merge = nn.ModuleList([self.double(2 * o, o) for _, o in wide])
        self.head = nn.Conv2d(width, 2, 1)

    @staticmethod
    def double(c_in: int, c_out: int) -> nn.Sequential:
        return nn.Sequential(cba(c_in, c_out), cba(c_out, c_out))

    def forward(self, x: Tensor) -> Tensor:
        kept = []
        for level, layer in enumerate(self.down):
            x = layer(functional.max_pool2d(x, 2) if level else x)
            kept.append(x)
        kept.pop()
        for up, merge in zip(self.up, self.merge, strict=True):
            x = merge(torch.cat([kept.pop(), up(x)], 1))
        return self.head(x)


class SSDLite(nn.Module):
    """SSDLite on MobileNetV2 (arXiv 1801.04381, section 6.2): two feature maps, boxes and class scores."""

    def __init__(self, classes: int = 21, anchors: int = 6) -> None:
        super().__init__()
        features = MobileNet().features
        self.parts = nn.ModuleList([features[:16], features[16:]])
        widths = (160, 1280)
        self.scores, self.boxes = (
            nn.ModuleList(
                [nn.Sequential(cba(c, c, 3, 1, c, nn.ReLU6), nn.Conv2d(c, anchors * each, 1)) for c in widths]
            )
            for each in (classes, 4)
        )
        self.classes = classes

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        scores, boxes = [], []
        for part, score, box in zip(self.parts, self.scores, self.boxes, strict=True):
            x = part(x)
            scores.append(score(x).permute(0, 2, 3, 1).reshape(x.shape[0], -1, self.classes))
            boxes.append(box(x).permute(0, 2, 3, 1).reshape(x.shape[0], -1, 4))
        return {"scores": torch.cat(scores, 1).softmax(2), "boxes": torch.cat(boxes, 1)}


class FPN(nn.Module):
    """A feature pyramid on ResNet-18 (arXiv 1612.03144, figure 3)."""

    def __init__(self, width: int = 256) -> None:
        super().__init__()
        self.body = ResNet18()
        self.lateral = nn.ModuleList([nn.Conv2d(c, width, 1) for c in (64, 128, 256, 512)])
        self.smooth = nn.ModuleList([nn.Conv2d(width, width, 3, padding=1) for _ in range(4)])

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.body.stem(x)
        maps = []
        for stage, lateral in enumerate(self.lateral):
            x = self.body.blocks[2 * stage : 2 * stage + 2](x)
            maps.append(lateral(x))
        for low, high in ((2, 3), (1, 2), (0, 1)):
            maps[low] = maps[low] + functional.interpolate(maps[high], scale_factor=2, mode="nearest")
        return [smooth(each) for smooth, each in zip(self.smooth, maps, strict=True)]


def darknet19() -> nn.Module:
    """Darknet-19 (arXiv 1612.08242, table 6)."""
    layers: list[nn.Module] = []
    c_in = 3
    for widths in ((32,), (64,), (128, 64, 128), (256, 128, 256), (512, 256, 512, 256, 512), (1024, 512) * 2 + (1024,)):
        layers += [nn.MaxPool2d(2)] if layers else []
        for number, width in enumerate(widths):
            layers.append(cba(c_in, width, 1 if number % 2 else 3, act=lambda: nn.LeakyReLU(0.1)))
            c_in = width
    return nn.Sequential(*layers, nn.Conv2d(1024, 1000, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Softmax(1))


def repvgg() -> nn.Module:
    """RepVGG-A0 as deployed (arXiv 2101.03697, table 2)."""
    layers: list[nn.Module] = [nn.Conv2d(3, 48, 3, 2, 1), nn.ReLU()]
    c_in = 48
    for width, depth in ((48, 2), (96, 4), (192, 14), (1280, 1)):
        for block in range(depth):
            layers += [nn.Conv2d(c_in, width, 3, 1 if block else 2, 1), nn.ReLU()]
            c_in = width
    return nn.Sequential(*layers, classifier(c_in))


class Bert(nn.Module):
    """An encoder from transformers, built from its configuration, without a download."""

    def __init__(self, **sizes: int) -> None:
        super().__init__()
        from transformers import BertConfig, BertModel

        self.encoder = BertModel(BertConfig(**sizes), add_pooling_layer=False)

    def forward(self, input_ids: Tensor) -> Tensor:
        return self.encoder(input_ids, return_dict=False)[0]


TINY_BERT = {"hidden_size": 312, "num_hidden_layers": 4, "num_attention_heads": 12, "intermediate_size": 1200}

# name -> how to make it, and the shape of its image (or of its token ids)
ZOO: dict[str, tuple[Make, tuple[int, ...]]] = {
    "AlexNet": (alexnet, (1, 3, 64, 64)),
    "BERT": (lambda: Bert(**TINY_BERT), (1, 16)),
    "ConvNeXt-T": (convnext, (1, 3, 64, 64)),
    "Darknet19": (darknet19, (1, 3, 64, 64)),
    "DenseNet121": (densenet121, (1, 3, 64, 64)),
    "EfficientNet-B0": (lambda: efficientnet(nn.SiLU, se=True), (1, 3, 64, 64)),
    "EfficientNet-Lite0": (lambda: efficientnet(nn.ReLU6, se=False), (1, 3, 64, 64)),
    "FPN on ResNet18": (FPN, (1, 3, 64, 64)),
    "GhostNet": (ghostnet, (1, 3, 64, 64)),
    "GoogLeNet": (googlenet, (1, 3, 64, 64)),
    "MLP-Mixer-S/16": (lambda: mixer(64), (1, 3, 64, 64)),
    "MnasNet-B1": (mnasnet, (1, 3, 64, 64)),
    "MobileNetV1": (mobilenet_v1, (1, 3, 64, 64)),
    "MobileNetV2": (MobileNet, (1, 3, 64, 64)),
    "MobileNetV3-large": (lambda: mobilenet_v3("large"), (1, 3, 64, 64)),
    "MobileNetV3-small": (lambda: mobilenet_v3("small"), (1, 3, 64, 64)),
    "ProxylessNAS": (proxyless, (1, 3, 64, 64)),
    "RegNetX-400MF": (lambda: regnet((32, 64, 160, 384), (1, 2, 7, 12), 16, False), (1, 3, 64, 64)),
    "RegNetY-400MF": (lambda: regnet((48, 104, 208, 440), (1, 3, 6, 6), 8, True), (1, 3, 64, 64)),
    "RepVGG-A0": (repvgg, (1, 3, 64, 64)),
    "ResNeXt50": (lambda: resnet50(128, 32), (1, 3, 64, 64)),
    "ResNet18": (ResNet18, (1, 3, 64, 64)),
    "ResNet50": (resnet50, (1, 3, 64, 64)),
    "SE-ResNet50": (lambda: resnet50(se=True), (1, 3, 64, 64)),
    "SSDLite": (SSDLite, (1, 3, 96, 96)),
    "ShuffleNetV2-0.5": (lambda: shufflenet_v2((48, 96, 192, 1024)), (1, 3, 64, 64)),
    "ShuffleNetV2-1.0": (lambda: shufflenet_v2((116, 232, 464, 1024)), (1, 3, 64, 64)),
    "SqueezeNet-1.1": (squeezenet, (1, 3, 64, 64)),
    "U-Net": (lambda: UNet(learned=True), (1, 3, 32, 32)),
    "U-Net with resize": (lambda: UNet(learned=False), (1, 3, 32, 32)),
    "VGG11": (lambda: vgg(VGG11, norm=False), (1, 3, 32, 32)),
    "VGG16-BN": (lambda: vgg(VGG16, norm=True), (1, 3, 32, 32)),
    "ViT-Ti/16": (lambda: ViT(64), (1, 3, 64, 64)),
    "Wide-ResNet50": (lambda: resnet50(128), (1, 3, 64, 64)),
}


def example_input(name: str) -> Tensor:
    """Zeros that the network of that name takes."""
    shape = ZOO[name][1]
    return torch.zeros(shape, dtype=torch.int64 if name == "BERT" else torch.float32)


# as published, or of the authors' own release, by torchvision and timm
N_PARAMS = {
    "ConvNeXt-T": 28_589_128, "DenseNet121": 7_978_856, "EfficientNet-B0": 5_288_548, "EfficientNet-Lite0": 4_652_008,
    "MnasNet-B1": 4_383_312, "MobileNetV1": 4_231_976, "MobileNetV2": 3_504_872, "MobileNetV3-large": 5_483_032,
    "MobileNetV3-small": 2_542_856, "RegNetX-400MF": 5_157_512, "RegNetY-400MF": 4_344_144, "ResNeXt50": 25_028_904,
    "ResNet18": 11_689_512, "ResNet50": 25_557_032, "SE-ResNet50": 28_088_024, "ShuffleNetV2-0.5": 1_366_792,
    "ShuffleNetV2-1.0": 2_278_604, "SqueezeNet-1.1": 1_235_496, "Wide-ResNet50": 68_883_240,
}  # fmt: skip
