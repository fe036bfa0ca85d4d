"""Three spaces of networks in MMT's manner: blocks that are classes with a text of their own, and an op space of each.

`metering.py` gives these networks and blocks to mnn-meter and to this library.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["CHOICES", "DEMO", "SHAPES", "network", "ops_yaml"]


class _Block(nn.Module):
    """A module that names itself, since MMT knows an op by its text, and is made of one argument.

    MMT pairs shapes with the values of the first argument alone, and multiplies the others out.
    """

    def __init__(self, spec: Sequence[Any]) -> None:
        super().__init__()
        self.spec = tuple(spec)

    def __repr__(self) -> str:
        return "-".join(map(str, (type(self).__name__, *self.spec, "")))


def _conv(c_in: int, c_out: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(c_out))


class ResidualBlock(_Block):
    """ResNet's basic block (arXiv 1512.03385, figure 5)."""

    def __init__(self, spec: Sequence[int]) -> None:
        super().__init__(spec)
        in_channels, out_channels, kernel = spec
        self.first, self.second = _conv(in_channels, out_channels, kernel), _conv(out_channels, out_channels, kernel)

    def forward(self, x: Tensor) -> Tensor:
        """A sum with the input."""
        return functional.relu(x + self.second(functional.relu(self.first(x))))


class DownBlock(_Block):
    """ResNet's basic block that halves the size."""

    def __init__(self, spec: Sequence[int]) -> None:
        super().__init__(spec)
        in_channels, out_channels, kernel = spec
        self.first, self.second = _conv(in_channels, out_channels, kernel, 2), _conv(out_channels, out_channels, kernel)
        self.side = _conv(in_channels, out_channels, 1, 2)

    def forward(self, x: Tensor) -> Tensor:
        """A sum with the input, projected."""
        return functional.relu(self.side(x) + self.second(functional.relu(self.first(x))))


class InvertedBlock(_Block):
    """MobileNetV3's block (arXiv 1905.02244): expansion, depthwise, squeeze-and-excitation, projection."""

    def __init__(self, spec: Sequence[int]) -> None:
        super().__init__(spec)
        in_channels, out_channels, kernel, expand, stride = spec
        hidden = in_channels * expand
        self.expand = _conv(in_channels, hidden, 1)
        self.depthwise = _conv(hidden, hidden, kernel, stride, hidden)
        self.reduce, self.excite = nn.Conv2d(hidden, hidden // 4, 1), nn.Conv2d(hidden // 4, hidden, 1)
        self.project = _conv(hidden, out_channels, 1)
        self.residual = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        """With hard swish."""
        y = functional.hardswish(self.depthwise(functional.hardswish(self.expand(x))))
        scale = self.excite(functional.relu(self.reduce(functional.adaptive_avg_pool2d(y, 1))))
        y = self.project(y * functional.hardsigmoid(scale))
        return x + y if self.residual else y


_EDGES: dict[str, Callable[[int, int], nn.Module]] = {
    "separable3": lambda c, stride: nn.Sequential(_conv(c, c, 3, stride, c), _conv(c, c, 1), nn.ReLU()),
    "separable5": lambda c, stride: nn.Sequential(_conv(c, c, 5, stride, c), _conv(c, c, 1), nn.ReLU()),
    "plain3": lambda c, stride: nn.Sequential(_conv(c, c, 3, stride), nn.ReLU()),
    "maximum3": lambda c, stride: nn.Sequential(nn.MaxPool2d(3, stride, 1), _conv(c, c, 1), nn.ReLU()),
}


class CellBlock(_Block):
    """A cell of two edges (as in arXiv 1806.09055) that are joined and mixed."""

    def __init__(self, spec: Sequence[Any]) -> None:
        super().__init__(spec)
        in_channels, out_channels, edge, stride = spec
        self.left = _EDGES["separable3"](in_channels, stride)
        self.right = _EDGES[edge](in_channels, stride)
        self.mix = _conv(2 * in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Both edges read the input."""
        return functional.relu(self.mix(torch.cat([self.left(x), self.right(x)], 1)))


class ResNetBasicBlock(ResidualBlock):
    """The block of MMT's demo. Its op space has all combinations of arguments, most of which are invalid."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, kernel: int) -> None:
        super().__init__((in_channels, out_channels, kernel))
        if stride != 1:
            raise ValueError(f"Expected stride 1, but got {stride}.")


class ResNetDownBlock(DownBlock):
    """The other block of MMT's demo."""

    def __init__(self, in_channels: int, out_channels: int, stride: list[int], kernel: int) -> None:
        super().__init__((in_channels, out_channels, kernel))
        if stride != [2, 1]:
            raise ValueError(f"Expected strides 2 and 1, but got {stride}.")


class _Network(nn.Module):
    def __init__(self, stem: list[nn.Module], blocks: list[nn.Module], channels: int) -> None:
        super().__init__()
        self.stem, self.blocks = nn.Sequential(*stem), nn.Sequential(*blocks)
        self.pool, self.head = nn.AdaptiveAvgPool2d((1, 1)), nn.Linear(channels, 10)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.pool(self.blocks(self.stem(x))).flatten(1))
        return y


_KERNELS = (3, 5, 7)
_STAGES = ((64, 64), (64, 128), (128, 256), (256, 512))  # channels of ResNet18, two blocks each
_MOBILE = (  # channels in, channels out, stride
    (16, 24, 2), (24, 24, 1), (24, 40, 2), (40, 40, 1), (40, 80, 2), (80, 80, 1), (80, 160, 2), (160, 160, 1),
)  # fmt: skip
_MOBILE_CANDIDATES = ((3, 3), (5, 6), (3, 6))  # kernel, expansion
_CELLS = ((24, 48, 2), (48, 48, 1), (48, 48, 1), (48, 96, 2), (96, 96, 1), (96, 96, 1), (96, 192, 2), (192, 192, 1))

_ARGUMENTS: Mapping[type[nn.Module], tuple[str, ...]] = {
    nn.Conv2d: ("in_channels", "out_channels", "kernel_size", "stride", "padding"),
    nn.BatchNorm2d: ("num_features",),
    nn.MaxPool2d: ("kernel_size", "stride", "padding"),
    nn.AdaptiveAvgPool2d: ("output_size",),
    nn.Linear: ("in_features", "out_features"),
}

# MMT's own demo: 80 combinations, of which 44 are ops
DEMO = """
metering_spaces:
  ResNetBasicBlock:
    in_channels: [64, 128, 256, 512]
    out_channels: [64, 128, 256, 512]
    stride: [1]
    kernel: [3, 5, 7]
    input_shape: [[1, 64, 112, 112], [1, 128, 56, 56], [1, 256, 28, 28], [1, 512, 14, 14]]
  ResNetDownBlock:
    in_channels: [64, 128, 256]
    out_channels: [128, 256, 512]
    stride: [[2, 1]]
    kernel: [3, 5, 7]
    input_shape: [[1, 64, 112, 112], [1, 128, 56, 56], [1, 256, 28, 28]]
torch.nn:
  Conv2d:
    {in_channels: [3], out_channels: [64], kernel_size: [7], stride: [2], padding: [3], input_shape: [[1, 3, 224, 224]]}
  BatchNorm2d: {num_features: [64], input_shape: [[1, 64, 112, 112]]}
  MaxPool2d: {kernel_size: [3], stride: [2], padding: [1], input_shape: [[1, 64, 112, 112]]}
  AdaptiveAvgPool2d: {output_size: [[1, 1]], input_shape: [[1, 512, 14, 14]]}
  Linear: {in_features: [512], out_features: [10], input_shape: [[1, 512]]}
"""

# space -> choice -> how many candidates it has
CHOICES: Mapping[str, Mapping[str, int]] = {
    "resnet18": {f"block{number}": len(_KERNELS) for number in range(8)},
    "mobilenet": {f"block{number}": len(_MOBILE_CANDIDATES) for number in range(len(_MOBILE))},
    "cells": {f"block{number}": len(_EDGES) for number in range(len(_CELLS))},
}
SHAPES: Mapping[str, tuple[int, ...]] = {
    "resnet18": (1, 3, 112, 112),
    "mobilenet": (1, 3, 224, 224),
    "cells": (1, 3, 128, 128),
}


def _resnet18(picks: list[int]) -> nn.Module:
    blocks: list[nn.Module] = []
    for number, pick in enumerate(picks):
        c_in, c_out = _STAGES[number // 2]
        down = number % 2 == 0 and c_in != c_out
        blocks.append((DownBlock if down else ResidualBlock)((c_in if down else c_out, c_out, _KERNELS[pick])))
    stem: list[nn.Module] = [nn.Conv2d(3, 64, 7, 2, 3), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    return _Network(stem, blocks, 512)


def _mobilenet(picks: list[int]) -> nn.Module:
    blocks: list[nn.Module] = [
        InvertedBlock((c_in, c_out, *_MOBILE_CANDIDATES[pick], stride))
        for (c_in, c_out, stride), pick in zip(_MOBILE, picks, strict=True)
    ]
    return _Network([nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.Hardswish()], blocks, 160)


def _cells(picks: list[int]) -> nn.Module:
    blocks: list[nn.Module] = [
        CellBlock((c_in, c_out, list(_EDGES)[pick], stride))
        for (c_in, c_out, stride), pick in zip(_CELLS, picks, strict=True)
    ]
    return _Network([nn.Conv2d(3, 24, 3, 2, 1), nn.BatchNorm2d(24), nn.ReLU()], blocks, 192)


_MAKE: Mapping[str, Callable[[list[int]], nn.Module]] = {
    "resnet18": _resnet18, "mobilenet": _mobilenet, "cells": _cells,
}  # fmt: skip


def network(space: str, architecture: Mapping[str, int]) -> nn.Module:
    """One network of a space."""
    return _MAKE[space]([architecture[choice] for choice in CHOICES[space]]).eval()


def ops_yaml(space: str, path: Path) -> Path:
    """Write MMT's ``ops.yaml`` of a space: every module that networks of it are made of."""
    ops: dict[str, dict[str, dict[str, tuple[dict[str, Any], list[int]]]]] = {}

    def note(module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        own, shape = isinstance(module, _Block), list(arguments[0].shape)
        classes = ops.setdefault(__name__ if own else "torch.nn", {})
        classes.setdefault(type(module).__name__, {})[f"{module!r}{shape}"] = (_arguments(module), shape)

    for pick in range(max(CHOICES[space].values())):
        model = network(space, {choice: min(pick, n - 1) for choice, n in CHOICES[space].items()})
        parts = [module for module in model.modules() if isinstance(module, _Block) or not list(module.children())]
        inside = {id(part) for block in parts if isinstance(block, _Block) for part in block.modules()}
        inside -= {id(block) for block in parts if isinstance(block, _Block)}
        handles = [part.register_forward_pre_hook(note) for part in parts if id(part) not in inside]
        with torch.no_grad():
            model(torch.ones(SHAPES[space]))
        for handle in handles:
            handle.remove()
    entries = {
        parent: {name: _entry(list(found.values())) for name, found in classes.items()}
        for parent, classes in ops.items()
    }
    path.write_text(yaml.safe_dump(entries, sort_keys=False))
    return path


def _entry(found: list[tuple[dict[str, Any], list[int]]]) -> dict[str, Any]:
    """A class of MMT's: its specifications with a shape each, or the arguments that it has once in a network."""
    shapes = [shape for _, shape in found]
    if not found[0][0]:
        return {"no_params": True, "input_shape": shapes}
    lists = {name: [arguments[name] for arguments, _ in found] for name in found[0][0]}
    if len(lists) > 1 and len(found) > 1:
        raise ValueError("Expected one module of this kind in a space, since MMT would multiply their arguments.")
    return {**lists, "input_shape": shapes}


def _arguments(module: nn.Module) -> dict[str, Any]:
    if isinstance(module, _Block):
        return {"spec": list(module.spec)}
    values = {name: getattr(module, name) for name in _ARGUMENTS.get(type(module), ())}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
