"""Candidates that are children of the module that chooses: as in NNI, nearly so, and blocks that are no choices."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Any

import paddle
import pytest
import torch
from torch import Tensor, nn

from latency_nas.errors import SearchError
from latency_nas.search.loss.loss import LatencyLoss
from latency_nas.search.supernet.supernet import find_choices
from tests.supernets import MadeUp, conv_relu

IMAGE = torch.zeros(1, 4, 8, 8)
OPS = {"conv1x1": 1, "conv3x3": 3, "conv5x5": 5}


class LayerChoice(nn.Module):
    """NNI's: children by their own names, which it lists, a vector that other places may share, a softmax."""

    def __init__(self, alpha: nn.Parameter, numbered: bool = False) -> None:
        super().__init__()
        self.names: list[Any] = list(range(len(OPS))) if numbered else list(OPS)
        for name, kernel in zip(self.names, OPS.values(), strict=True):
            self.add_module(str(name), conv_relu(4, 4, kernel))
        self._arch_alpha, self._softmax = alpha, nn.Softmax(-1)

    def forward(self, x: Tensor) -> Tensor:
        weights = self._softmax(self._arch_alpha)
        return sum(w * getattr(self, str(name))(x) for w, name in zip(weights, self.names, strict=True))


class Numbered(nn.Module):
    """Children that are numbered as candidates."""

    def __init__(self, stem: str = "op_", name: str = "alphas") -> None:
        super().__init__()
        for number, kernel in enumerate(OPS.values()):
            self.add_module(f"{stem}{number}", conv_relu(4, 4, kernel))
        self.register_parameter(name, nn.Parameter(torch.zeros(3)))

    def forward(self, x: Tensor) -> Tensor:
        [alphas] = self._parameters.values()
        return sum(w * op(x) for w, op in zip(alphas.softmax(0), self.children(), strict=True))


class ReZero(nn.Module):
    """Layers in a row, whose outputs are scaled by as many numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.layer0, self.layer1, self.layer2 = (conv_relu(4, 4, 3) for _ in range(3))
        self.alpha = nn.Parameter(torch.zeros(3))

    def forward(self, x: Tensor) -> Tensor:
        for layer, scale in zip(self.children(), self.alpha, strict=True):
            x = x + scale * layer(x)
        return x


def alpha() -> nn.Parameter:
    return nn.Parameter(1e-3 * torch.randn(3))


SUPERNETS: dict[str, nn.Module] = {
    "NNI": nn.Sequential(LayerChoice(alpha()), LayerChoice(alpha())),
    "NNI, from lists": nn.Sequential(LayerChoice(alpha(), numbered=True), LayerChoice(alpha(), numbered=True)),
    "numbered": nn.Sequential(Numbered(), Numbered("path", "arch_weights")),
}


@pytest.mark.parametrize("kind", SUPERNETS)
def test_children_are_candidates(kind: str) -> None:
    net, latency = SUPERNETS[kind], LatencyLoss(MadeUp())
    latency.attach(net, IMAGE)
    assert latency.plan.choices == ("0", "1")
    candidates = [[child for child in op.children() if not isinstance(child, nn.Softmax)] for op in net]
    for one, other in product(range(3), repeat=2):
        true_ms = MadeUp().predict(nn.Sequential(candidates[0][one], candidates[1][other]), IMAGE).latency_ms
        assert latency.plan.latency_ms({"0": one, "1": other}) == pytest.approx(true_ms, rel=1e-9)
    architecture = [parameter for name, parameter in net.named_parameters() if name.count(".") == 1]
    assert len(architecture) == 2
    assert all(gradient.any() for gradient in torch.autograd.grad(latency.expected_ms(), architecture))
    latency.target_ms = sum(latency.plan.bounds_ms()) / 2
    assert latency.plan.latency_ms(latency.discretize()) <= latency.target_ms


def test_a_label_in_two_places_is_one_choice() -> None:
    shared, latency = alpha(), LatencyLoss(MadeUp())
    latency.attach(nn.Sequential(LayerChoice(shared), nn.MaxPool2d(2), LayerChoice(shared)), IMAGE)
    assert latency.plan.choices == ("0",)


class Switch(nn.Module):
    """Two vectors fit."""

    def __init__(self) -> None:
        super().__init__()
        self.op0, self.op1 = conv_relu(4, 4, 1), conv_relu(4, 4, 3)
        self.alpha, self.theta = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(2))


@pytest.mark.parametrize(
    "net",
    [ReZero(), Switch(), Numbered(name="bias"), Numbered("conv")],
    ids=["layers in a row", "two vectors", "another name", "layers by name"],
)
def test_what_may_be_no_choice_is_not_recognised(net: nn.Module) -> None:
    with pytest.raises(SearchError, match="children of a module beside a vector of their number"):
        find_choices(net)


class PaddleLayerChoice(paddle.nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.names = list(OPS)
        for name, kernel in OPS.items():
            self.add_sublayer(name, paddle.nn.Conv2D(4, 4, kernel, padding=kernel // 2))
        self.alpha, self.softmax = self.create_parameter([3]), paddle.nn.Softmax()


def test_the_same_in_paddle() -> None:
    found = find_choices(paddle.nn.Sequential(PaddleLayerChoice(), PaddleLayerChoice()))
    names: Mapping[str, tuple[str | None, ...]] = {choice.module: choice.candidates for choice in found}
    assert names == {place: tuple(f"{place}.{name}" for name in OPS) for place in ("0", "1")}
