"""Supernets of MobileNetV3's size: 5 stages x 4 blocks x 3 kernels x 3 expansions, for 224 x 224 images."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import ClassVar

from torch import Tensor, nn, zeros
from torch.nn import functional
from torch.nn.parameter import Parameter

KERNELS, EXPANSIONS = (3, 5, 7), (3, 4, 6)
STAGES = ((24, 2), (40, 2), (80, 2), (112, 1), (160, 2))  # (channels, stride of the first block)


def stem() -> nn.Module:
    """To 16 channels, at half the resolution."""
    return nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.Hardswish())


def head() -> nn.Module:
    """To 1,000 classes."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(STAGES[-1][0], 1000))


def block_sizes() -> list[tuple[int, int, int]]:
    """(input channels, output channels, stride) of the 20 blocks."""
    sizes, c_in = [], 16
    for channels, first_stride in STAGES:
        for stride in (first_stride, 1, 1, 1):
            sizes.append((c_in, channels, stride))
            c_in = channels
    return sizes


class Bottleneck(nn.Sequential):
    """Expand, convolve depthwise, project; with a residual where shapes allow it."""

    def __init__(self, c_in: int, c_out: int, stride: int, kernel: int, expansion: int) -> None:
        wide = c_in * expansion
        super().__init__(
            nn.Conv2d(c_in, wide, 1, bias=False), nn.BatchNorm2d(wide), nn.Hardswish(),
            nn.Conv2d(wide, wide, kernel, stride, kernel // 2, groups=wide, bias=False), nn.BatchNorm2d(wide),
            nn.Hardswish(), nn.Conv2d(wide, c_out, 1, bias=False), nn.BatchNorm2d(c_out),
        )  # fmt: skip
        self.residual = stride == 1 and c_in == c_out

    def forward(self, x: Tensor) -> Tensor:
        """The block."""
        y = super().forward(x)
        return x + y if self.residual else y


class MixedBlock(nn.Module):
    """All kernels and expansions, and, where the stage may end before, the identity."""

    def __init__(self, c_in: int, c_out: int, stride: int, skips: bool) -> None:
        super().__init__()
        ops: list[nn.Module] = [Bottleneck(c_in, c_out, stride, *pair) for pair in product(KERNELS, EXPANSIONS)]
        self.ops = nn.ModuleList([*ops, nn.Identity()] if skips else ops)
        self.alpha = Parameter(zeros(len(self.ops)))

    def forward(self, x: Tensor) -> Tensor:
        """The weighted sum."""
        return sum(weight * op(x) for weight, op in zip(self.alpha.softmax(0), self.ops, strict=True))


class CandidateNet(nn.Sequential):
    """Every candidate is a module of its own; the last two blocks of a stage can be left out."""

    def __init__(self) -> None:
        blocks = [MixedBlock(*sizes, skips=number % 4 > 1) for number, sizes in enumerate(block_sizes())]
        super().__init__(stem(), *blocks, head())


class ElasticBlock(nn.Module):
    """Kernel and expansion are slices of the largest, as in OFA (arXiv 1908.09791)."""

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        wide = c_in * EXPANSIONS[-1]
        self.c_in, self.stride, self.residual = c_in, stride, stride == 1 and c_in == c_out
        self.expand, self.project = nn.Conv2d(c_in, wide, 1, bias=False), nn.Conv2d(wide, c_out, 1, bias=False)
        self.depth = nn.Conv2d(wide, wide, KERNELS[-1], stride, KERNELS[-1] // 2, groups=wide, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(n) for n in (wide, wide, c_out))
        self.kernel, self.expansion = KERNELS[-1], EXPANSIONS[-1]

    def norm(self, x: Tensor, number: int) -> Tensor:
        """A batch norm of the first channels."""
        n, norm = x.shape[1], self.norms[number]
        return functional.batch_norm(
            x, norm.running_mean[:n], norm.running_var[:n], norm.weight[:n], norm.bias[:n], self.training
        )

    def forward(self, x: Tensor) -> Tensor:
        """The block as it is configured."""
        n, cut = self.c_in * self.expansion, (KERNELS[-1] - self.kernel) // 2
        y = functional.hardswish(self.norm(functional.conv2d(x, self.expand.weight[:n]), 0))
        weight = self.depth.weight[:n, :, cut : KERNELS[-1] - cut, cut : KERNELS[-1] - cut]
        y = functional.conv2d(y, weight, None, self.stride, self.kernel // 2, groups=n)
        y = self.norm(functional.conv2d(functional.hardswish(self.norm(y, 1)), self.project.weight[:, :n]), 2)
        return x + y if self.residual else y


class ElasticNet(nn.Module):
    """Elastic kernel and expansion of each block, and depth of each stage."""

    OPTIONS: ClassVar = {
        **{f"kernel{block}": KERNELS for block in range(20)},
        **{f"expansion{block}": EXPANSIONS for block in range(20)},
        **{f"depth{stage}": (2, 3, 4) for stage in range(5)},
    }

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = stem(), head()
        self.blocks = nn.ModuleList(ElasticBlock(*sizes) for sizes in block_sizes())
        self.depths = [4] * 5

    def configured(self, config: Mapping[str, int]) -> ElasticNet:
        """Itself, configured."""
        for number, block in enumerate(self.blocks):
            block.kernel, block.expansion = config[f"kernel{number}"], config[f"expansion{number}"]
        self.depths[:] = [config[f"depth{stage}"] for stage in range(5)]
        return self

    def forward(self, x: Tensor) -> Tensor:
        """The network as it is configured."""
        x = self.stem(x)
        for stage, depth in enumerate(self.depths):
            for block in self.blocks[4 * stage : 4 * stage + depth]:
                x = block(x)
        return self.head(x)
