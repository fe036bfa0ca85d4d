"""A supernet of searchable mobile inverted-bottleneck blocks for 32 x 32 grey images.

Nothing here depends on latency: what makes it searchable is an architecture parameter `alpha` in each `MixedBlock`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

KERNELS, EXPANSIONS = (3, 5, 7), (2, 4)
STAGES = ((24, 3), (48, 3), (96, 3))  # (channels, blocks); the first block of each halves the resolution
STEM, HEAD, N_CLASSES = 16, 192, 10


def conv_bn(
    c_in: int, c_out: int, kernel: int = 1, stride: int = 1, groups: int = 1, act: bool = True
) -> nn.Sequential:
    """Convolution, batch norm and, with `act`, ReLU6."""
    conv = nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(c_out), *([nn.ReLU6()] if act else []))


class InvertedBottleneck(nn.Module):
    """Expand, convolve depthwise, project; with a residual where shapes allow it (MobileNetV2, arXiv 1801.04381)."""

    def __init__(self, c_in: int, c_out: int, kernel: int, expansion: int, stride: int) -> None:
        super().__init__()
        hidden = c_in * expansion
        self.residual = stride == 1 and c_in == c_out
        self.layers = nn.Sequential(
            conv_bn(c_in, hidden), conv_bn(hidden, hidden, kernel, stride, hidden), conv_bn(hidden, c_out, act=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x) if self.residual else self.layers(x)


class MixedBlock(nn.Module):
    """One of several candidates: sampled by Gumbel-softmax while training, the most probable otherwise.

    Only the sampled candidate runs; its straight-through gate carries the gradient to `alpha` (GDAS, arXiv 1910.04465).
    """

    def __init__(self, candidates: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.labels = tuple(candidates)
        self.candidates = nn.ModuleList(candidates.values())
        self.alpha = nn.Parameter(1e-3 * torch.randn(len(candidates)))
        self.temperature = 1.0

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return self.chosen()(x)
        gates = functional.gumbel_softmax(self.alpha, tau=self.temperature, hard=True)
        index = int(gates.argmax())
        return gates[index] * self.candidates[index](x)

    def chosen(self) -> nn.Module:
        """The candidate with the largest architecture parameter."""
        return self.candidates[int(self.alpha.argmax())]


class Supernet(nn.Module):
    """Stem, nine mixed blocks in three stages, head: 6^3 x 7^6 = 25 million architectures.

    Args:
        stages: Number of channels and of blocks of each stage.
    """

    def __init__(self, stages: tuple[tuple[int, int], ...] = STAGES) -> None:
        super().__init__()
        self.stem = conv_bn(1, STEM, 3)
        blocks, c_in = [], STEM
        for channels, n_blocks in stages:
            for number in range(n_blocks):
                stride = 2 if number == 0 else 1
                candidates: dict[str, nn.Module] = {
                    f"k{kernel} e{expansion}": InvertedBottleneck(c_in, channels, kernel, expansion, stride)
                    for kernel in KERNELS
                    for expansion in EXPANSIONS
                }
                if stride == 1 and c_in == channels:
                    candidates["skip"] = nn.Identity()
                blocks.append(MixedBlock(candidates))
                c_in = channels
        self.blocks = nn.ModuleList(blocks)
        self.head = conv_bn(c_in, HEAD)
        self.classifier = nn.Linear(HEAD, N_CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.classifier(functional.adaptive_avg_pool2d(self.head(x), 1).flatten(1))

    def mixed_blocks(self) -> list[MixedBlock]:
        """The blocks that choose."""
        return [block for block in self.blocks if isinstance(block, MixedBlock)]

    def architecture_parameters(self) -> list[nn.Parameter]:
        """The architecture parameter of each choice."""
        return [block.alpha for block in self.mixed_blocks()]

    def labels(self) -> dict[str, tuple[str, ...]]:
        """A short name for each candidate of each choice."""
        return {name: block.labels for name, block in self.named_modules() if isinstance(block, MixedBlock)}

    def subnet(self, architecture: Mapping[str, int]) -> nn.Sequential:
        """The network of one architecture, which shares its weights with the supernet.

        Args:
            architecture: Name of each mixed block, such as ``"blocks.0"`` -> the index of its candidate.
        """
        blocks = zip(self.mixed_blocks(), architecture.values(), strict=True)
        layers = {
            "stem": self.stem,
            **{f"block{number}": block.candidates[index] for number, (block, index) in enumerate(blocks)},
            "head": self.head,
            "pool": nn.AdaptiveAvgPool2d(1),
            "flatten": nn.Flatten(),
            "classifier": self.classifier,
        }
        return nn.Sequential(OrderedDict(layers))
