"""Small supernets to search, and latency tables that price every kernel of one with made-up, distinct latencies."""

from __future__ import annotations

import hashlib
import itertools
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from latency_nas.engine import fuse
from latency_nas.estimate import LatencyEstimator
from latency_nas.estimate.estimate import KernelEstimate
from latency_nas.graph import OpGraph
from latency_nas.graph.torch.reader import read_torch
from latency_nas.kernel import Kernel
from latency_nas.kernel.kernel_call import KernelCall
from latency_nas.search.loss.loss import LatencyLoss
from latency_nas.search.plan.plan import CostPlan
from latency_nas.search.plan.pricing import make_plan
from latency_nas.search.supernet.choice import Choice
from latency_nas.search.supernet.supernet import find_choices
from latency_nas.search.supernet.supernet_space import graph_space
from latency_nas.table import Datasheet, Entry, LatencyTable

DATASHEET = Datasheet(device="No device", engine="MNN", method="imported", threads=1, notes="made up for tests")
EXAMPLE = torch.zeros(1, 1, 8, 8)
SIZES = (3, 2, 4)  # numbers of candidates in the default `ChainNet`: 24 architectures


def conv_relu(c_in: int, c_out: int, kernel: int) -> nn.Sequential:
    """A block that begins with a convolution and ends with an activation: nothing is fused across its borders."""
    return nn.Sequential(
        nn.Conv2d(c_in, c_out, kernel, padding=kernel // 2, bias=False), nn.BatchNorm2d(c_out), nn.ReLU()
    )


def candidates_of(channels: int, size: int) -> list[nn.Module]:
    """The first `size` of five candidates."""
    return [*(conv_relu(channels, channels, kernel) for kernel in (1, 3, 5, 7)), nn.Identity()][-size:]


class MixedOp(nn.Module):
    """FBNet's style: candidates and a parameter; the output is the sum of all candidates, weighted by softmax."""

    def __init__(self, candidates: Sequence[nn.Module]) -> None:
        super().__init__()
        self.ops = nn.ModuleList(candidates)
        self.alpha = nn.Parameter(torch.linspace(-0.5, 0.5, len(candidates)))

    def forward(self, x: Tensor) -> Tensor:
        outputs = torch.stack([op(x) for op in self.ops])
        return torch.einsum("k,k...->...", self.alpha.softmax(0), outputs)


class ChainNet(nn.Module):
    """Stem, a chain of `MixedOp`, head.

    Args:
        sizes: Number of candidates of each mixed op.
        channels: Number of channels of every layer.
        ops: Mixed ops, instead of `sizes`.
    """

    def __init__(self, sizes: Sequence[int] = SIZES, channels: int = 4, ops: Sequence[nn.Module] = ()) -> None:
        super().__init__()
        self.stem = conv_relu(1, channels, 3)
        self.blocks = nn.ModuleList(ops or [MixedOp(candidates_of(channels, size)) for size in sizes])
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 3))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x)

    def alphas(self) -> list[nn.Parameter]:
        """The architecture parameters."""
        return [block.alpha for block in self.blocks]

    def subnet(self, architecture: Mapping[str, int]) -> nn.Sequential:
        """The network of one architecture."""
        chosen = [self.get_submodule(name).ops[index] for name, index in architecture.items()]
        return nn.Sequential(self.stem, *chosen, self.head)


class WeightedOp(nn.Module):
    """DARTS's style: candidates only; the weights are an argument."""

    def __init__(self, candidates: Sequence[nn.Module]) -> None:
        super().__init__()
        self.ops = nn.ModuleList(candidates)

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        return torch.stack([weight * op(x) for weight, op in zip(weights, self.ops, strict=True)]).sum(0)


class MatrixNet(ChainNet):
    """A chain whose architecture parameters are one matrix on the root: a plain tensor, as in DARTS."""

    def __init__(self, n_choices: int = 3, size: int = 3) -> None:
        super().__init__(ops=[WeightedOp(candidates_of(4, size)) for _ in range(n_choices)])
        self.matrix = torch.linspace(-1, 1, n_choices * size).view(n_choices, size).requires_grad_()

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block, row in zip(self.blocks, self.matrix.softmax(1), strict=True):
            x = block(x, row)
        return self.head(x)

    def choices(self, *, logits: bool = True) -> list[Choice]:
        """The choices, named one by one; without `logits`, the rows themselves are the gates."""
        return [
            Choice(
                module=f"blocks.{row}",
                candidates=tuple(f"blocks.{row}.ops.{index}" for index in range(self.matrix.shape[1])),
                weights=lambda net, row=row: net.matrix[row],
                logits=logits,
            )
            for row in range(len(self.blocks))
        ]


def made_up_ms(kernel: Kernel) -> float:
    """A latency from 0.01 to 1.01 ms, by a hash of the kernel."""
    return 0.01 + int.from_bytes(hashlib.sha256(kernel.key.encode()).digest()[:6]) / 2**48


def names_of(choices: Sequence[Choice]) -> dict[str, tuple[str, ...]]:
    """Choice -> candidates, as `read_torch` and `make_plan` take it."""
    return {choice.module: choice.candidates for choice in choices}


def all_architectures(sizes: Mapping[str, int]) -> list[dict[str, int]]:
    """Every architecture of a space."""
    return [dict(zip(sizes, picks, strict=True)) for picks in itertools.product(*map(range, sizes.values()))]


def graph_of(supernet: nn.Module, example: Tensor = EXAMPLE, choices: Sequence[Choice] | None = None) -> OpGraph:
    """The graph of the supernet, with all candidates."""
    return read_torch(supernet, example, choices=names_of(choices or find_choices(supernet)))


def table_of(supernet: nn.Module, example: Tensor = EXAMPLE, choices: Sequence[Choice] | None = None) -> LatencyTable:
    """A table of every kernel of the supernet, including those that two neighbouring candidates are fused to."""
    graph = graph_of(supernet, example, choices)
    max_size = max(graph.choices.values())
    pairs = itertools.product(range(max_size), repeat=2)
    architectures = [
        {name: pair[number % 2] % size for number, (name, size) in enumerate(graph.choices.items())} for pair in pairs
    ]
    kernels = {call.kernel: None for architecture in architectures for call in fuse(graph.extract(architecture), "MNN")}
    return LatencyTable.of({kernel: Entry(latency_ms=made_up_ms(kernel)) for kernel in kernels}, DATASHEET)


def plan_of(
    supernet: nn.Module,
    table: LatencyTable,
    example: Tensor = EXAMPLE,
    choices: Sequence[Choice] | None = None,
) -> CostPlan:
    """The plan of the supernet."""
    found = choices or find_choices(supernet)
    return make_plan(graph_space(graph_of(supernet, example, found), found, fuse), LatencyEstimator(table))


def loss_of(
    supernet: nn.Module,
    example: Tensor = EXAMPLE,
    *,
    choices: Sequence[Choice] | None = None,
    at: float = 0.5,
    **options: float | str,
) -> LatencyLoss:
    """A loss attached to the supernet, with a target at the share `at` between the cheapest and the dearest network."""
    loss = LatencyLoss(table_of(supernet, example, choices), **options)
    loss.attach(supernet, example, choices=choices)
    set_target(loss, at)
    return loss


def set_target(loss: LatencyLoss, share: float = 0.5) -> float:
    """Set the target to a share of the way from the cheapest to the dearest network, and give it."""
    cheapest, dearest = loss.plan.bounds()
    loss.target = cheapest + share * (dearest - cheapest)
    return loss.target


def snapshot(supernet: nn.Module) -> dict[str, Any]:
    """Everything that attaching could change, compared by value."""
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_forward_hooks_with_kwargs", "_forward_hooks_always_called")
    tensors = [*supernet.named_parameters(), *supernet.named_buffers()]
    return {
        "values": {name: (type(tensor), tensor.detach().numpy().tobytes()) for name, tensor in tensors},
        "same": {name: (id(tensor), tensor._version) for name, tensor in tensors},
        "needs gradient": {name: (tensor.requires_grad, tensor.grad) for name, tensor in tensors},
        "training": {name: module.training for name, module in supernet.named_modules()},
        "attributes": {name: sorted(module.__dict__) for name, module in supernet.named_modules()},
        "hooks": {name: [len(getattr(module, key)) for key in hooks] for name, module in supernet.named_modules()},
        "random": (torch.get_rng_state().tolist(), random.getstate(), str(np.random.get_state(legacy=False))),
    }


class MadeUp(LatencyEstimator):
    """Prices every kernel by its made-up latency."""

    def __init__(self, engine: str = "MNN") -> None:
        super().__init__(LatencyTable({}, replace(DATASHEET, engine=engine)))

    def _price(self, call: KernelCall) -> KernelEstimate:
        latency_ms = made_up_ms(call.kernel)
        return KernelEstimate(
            kernel=call.kernel, layer=call.layer, value=latency_ms, std=latency_ms / 10, source="table"
        )
