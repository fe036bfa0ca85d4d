"""Ops that change nothing by their arguments are left out, from every reader; those of parameters are not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from latency_nas.graph import OpGraph
from latency_nas.graph.onnx.reader import read_onnx
from latency_nas.graph.torch.reader import read_torch
from tests.graph.onnx.test_reader import exported

X = torch.zeros(1, 4, 8, 8)


class Around(nn.Module):
    """A convolution, and what is done to its output."""

    def __init__(self, then: Callable[[Tensor, nn.Parameter], Tensor]) -> None:
        super().__init__()
        self.op, self.then = nn.Conv2d(4, 4, 1), then
        self.parameter = nn.Parameter(torch.zeros(1, 4, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.then(self.op(x), self.parameter))


NOTHING: dict[str, Callable[[Tensor, nn.Parameter], Tensor]] = {
    "a sum from 0": lambda y, _: sum([y]),
    "y * 1": lambda y, _: y * 1,
    "1 * y": lambda y, _: 1.0 * y,
    "y / 1": lambda y, _: y / 1.0,
    "y + 0": lambda y, _: y + 0,
    "y - 0": lambda y, _: y - 0.0,
    "y + zeros": lambda y, _: y + torch.zeros(1, 4, 8, 8),
    "y * ones": lambda y, _: torch.ones(1) * y,
    "y + y * 0": lambda y, _: y + y * 0.0,
    "y * 0 + y": lambda y, _: y.mul(0.0) + y,
    "dropout": lambda y, _: nn.functional.dropout(y, training=False),
}
SOMETHING: dict[str, tuple[Callable[[Tensor, nn.Parameter], Tensor], str]] = {
    "0 - y": (lambda y, _: 0 - y, "sub"),
    "1 / y": (lambda y, _: 1 / y, "div"),
    "y * 2": (lambda y, _: y * 2, "mul"),
    "y * 0": (lambda y, _: y * 0, "mul"),
    "y + a parameter of zeros": (lambda y, parameter: y + parameter, "add"),
    "a wider sum": (lambda y, _: y[:, :1] + torch.zeros(1, 4, 1, 1), "add"),
}


def ops(graph: OpGraph) -> list[str]:
    return [node.op for node in graph.nodes]


@pytest.mark.parametrize("name", NOTHING)
def test_what_changes_nothing_is_left_out_of_a_module(name: str) -> None:
    assert ops(read_torch(Around(NOTHING[name]), X)) == ["conv2d", "relu"]


@pytest.mark.parametrize("name", SOMETHING)
def test_what_changes_something_stays(name: str) -> None:
    then, op = SOMETHING[name]
    found = ops(read_torch(Around(then), X))
    assert op in found or (op == "div" and "reciprocal" in found)


@pytest.mark.parametrize("name", NOTHING)
def test_what_changes_nothing_is_left_out_of_a_file(name: str) -> None:
    """The older exporter keeps products and sums with numbers that the newer one folds."""
    assert ops(read_onnx(exported(Around(NOTHING[name]).eval(), X, opset=13))) == ["conv2d", "relu"]
