"""Edges whose zero is chosen are absent: by extraction, from the derived network, and from its exported file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from latency_nas.search.supernet.supernet_space import supernet_space
from tests.graph.onnx.test_reader import exported
from tests.styles import Darts, DerivedNb201, Nb201, PcDarts, relu_conv_bn
from tests.supernets import MadeUp

IMAGE = torch.zeros(1, 3, 8, 8)
CELLS: dict[str, Callable[[], Any]] = {
    "DARTS": Darts,
    "PC-DARTS": PcDarts,
    "NAS-Bench-201, DARTS-V2": Nb201,
    "NAS-Bench-201, GDAS": lambda: Nb201(gdas=True),
}


def drawn(candidates: Mapping[str, tuple[str, ...]], n: int) -> list[dict[str, int]]:
    """Random architectures in which every other edge is zero."""
    random = np.random.default_rng(0)
    sizes = [len(names) for names in candidates.values()]
    rows = random.integers(0, sizes, (n, len(sizes))) * random.integers(0, 2, (n, len(sizes)))
    return [dict(zip(candidates, row, strict=True)) for row in rows.tolist()]


@pytest.mark.parametrize("style", CELLS)
def test_extraction_gives_the_derived_network(style: str) -> None:
    torch.manual_seed(0)
    net, estimator = CELLS[style](), MadeUp()
    space = supernet_space(net, IMAGE, estimator.fuse).space
    seen = set()
    for architecture in drawn(space.candidates, 12):
        extracted = estimator.price(space.calls(architecture))
        derived = estimator.predict(net.subnet(architecture), IMAGE)
        assert extracted.latency_ms == pytest.approx(derived.latency_ms, rel=1e-9)
        assert sorted(str(item.kernel) for item in extracted.kernels) == sorted(str(i.kernel) for i in derived.kernels)
        seen.add(extracted.latency_ms)
    assert len(seen) > 6


@pytest.mark.slow
@pytest.mark.parametrize("opset", [None, 13])
def test_an_exported_file_gives_the_derived_network(opset: int | None) -> None:
    """Written by the supernet's own code: each edge runs its candidate, and zeros are multiplied and added."""
    torch.manual_seed(0)
    net, estimator = Nb201(), MadeUp()
    for architecture in drawn({f"arch_parameters[{row}]": ("",) * 5 for row in range(6)}, 4)[1:]:
        own = WithZeros(net, architecture)
        by_file = estimator.predict(exported(own, IMAGE, opset=opset))
        derived = net.subnet(architecture)
        by_hand = estimator.predict(derived, IMAGE).latency_ms
        assert estimator.predict(own, IMAGE).latency_ms == pytest.approx(by_hand, rel=1e-9)
        if opset is not None:  # the older exporter writes its own pooling
            by_hand = estimator.predict(exported(derived, IMAGE, opset=opset)).latency_ms
        assert by_file.latency_ms == pytest.approx(by_hand, rel=1e-9)


class WithZeros(DerivedNb201):
    """The network of an architecture as NAS-Bench-201's code builds it."""

    def node_of(self, edges: Sequence[tuple[nn.Module, Tensor]]) -> Tensor:
        return sum(op(x) for op, x in edges)


class Block(nn.Module):
    """A cell of two edges, the second of which may be zero in any spelling."""

    def __init__(self, zero: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.stem, self.edge = nn.Conv2d(3, 4, 3, padding=1), relu_conv_bn(4, 3)
        self.zero = zero

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return torch.relu(sum([self.edge(x), self.zero(x)]))


ZEROS: dict[str, Callable[[Tensor], Tensor]] = {
    "a product": lambda x: x * 0,
    "a strided product": lambda x: x[:, :, ::1, ::1].mul(0.0),
    "zeros alike": torch.zeros_like,
    "new zeros": lambda x: x.new_zeros(x.shape),
    "zeros of a shape": lambda x: torch.zeros(x.shape),
    "filled": lambda x: torch.full_like(x, 3.0) * 0,
}


@pytest.mark.parametrize("zero", ZEROS)
def test_every_spelling_of_zero_is_an_absent_edge(zero: str) -> None:
    block = Block(ZEROS[zero])
    derived = nn.Sequential(block.stem, block.edge, nn.ReLU())
    found, expected = (MadeUp().predict(network, IMAGE) for network in (block, derived))
    assert [str(item.kernel) for item in found.kernels] == [str(item.kernel) for item in expected.kernels]


@pytest.mark.parametrize("initial", [0.0, 1.0])
def test_a_parameter_or_a_buffer_of_zeros_or_ones_is_no_constant_of_the_code(initial: float) -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.full((1,), initial))
            self.register_buffer("shift", torch.full((4, 1, 1), initial))
            self.op = nn.Conv2d(4, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.op(x) * self.scale + self.shift * 1

    kernels = [item.kernel.op for item in MadeUp().predict(Scaled(), torch.zeros(1, 4, 8, 8)).kernels]
    assert kernels.count("mul") == 1
    assert kernels.count("add") == 1
