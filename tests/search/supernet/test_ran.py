"""`sampled=True` prices the path that ran, whatever picked it."""

from __future__ import annotations

from typing import Any

import numpy as np
import paddle
import pytest
import torch

from latency_nas.errors import SearchError
from tests import paddle_styles
from tests.frameworks import gradients, loss_for, numbers, zeros
from tests.styles import Head, relu_conv_bn
from tests.supernets import MadeUp

pytestmark = pytest.mark.filterwarnings("ignore:When training, we now always track:UserWarning")


class Mixed(torch.nn.Module):
    """Runs the operation that the user's own code picks, or all of them."""

    def __init__(self) -> None:
        super().__init__()
        self.ops = torch.nn.ModuleList([relu_conv_bn(4, 1), relu_conv_bn(4, 3), torch.nn.Identity()])
        self.alphas = torch.nn.Parameter(torch.tensor([0.3, 0.1, 0.2]))
        self.active: int | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.active is None:
            return sum(w * op(x) for w, op in zip(self.alphas.softmax(-1), self.ops, strict=True))
        return self.ops[self.active](x)


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = torch.nn.ModuleList([Mixed(), Mixed()])
        self.head = Head(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x)
        return self.head(x)


class PaddleMixed(paddle.nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        convs = [paddle_styles.relu_conv_bn(4, kernel) for kernel in (1, 3)]
        self.ops = paddle.nn.LayerList([*convs, paddle.nn.Identity()])
        self.alphas = self.create_parameter([3])
        self.alphas.set_value(np.array([0.3, 0.1, 0.2], "float32"))
        self.active: int | None = None

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        if self.active is None:
            gates = paddle.nn.functional.softmax(self.alphas)
            return sum(gates[index] * op(x) for index, op in enumerate(self.ops))
        return self.ops[self.active](x)


class PaddleNet(paddle.nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = paddle.nn.LayerList([PaddleMixed(), PaddleMixed()])
        self.head = paddle_styles.head(4)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        for block in self.blocks:
            x = block(x)
        return self.head(x)


@pytest.fixture(params=[Net, PaddleNet], ids=["torch", "Paddle"])
def net(request: pytest.FixtureRequest) -> Any:
    torch.manual_seed(0)
    return request.param()


def test_the_path_that_the_user_picks_is_priced(net: Any) -> None:
    latency, x = loss_for(net, MadeUp()), zeros(net, 1, 4, 8, 8)
    plan = latency.attach(net, x, sampled=True)
    soft_ms = float(latency.expected_ms().detach())
    seen = set()
    for picks in ((0, 0), (1, 2), (1, 1)):
        for block, pick in zip(net.blocks, picks, strict=True):
            block.active = pick
        net(x)
        expected_ms = latency.expected_ms()
        gates = plan.one_hot(dict(zip(plan.choices, picks, strict=True)))
        assert float(expected_ms.detach()) == pytest.approx(plan.expected_ms(gates), rel=1e-6)
        seen.add(round(float(expected_ms.detach()), 6))
        alphas = [block.alphas for block in net.blocks]
        for alpha, slope, found in zip(
            alphas, plan.gradient_ms(gates).reshape(2, 3), gradients(expected_ms, alphas), strict=True
        ):
            soft = np.exp(numbers(alpha)) / np.exp(numbers(alpha)).sum()
            assert found == pytest.approx(soft * (slope - soft @ slope), rel=1e-4)
    assert len({*seen, round(soft_ms, 6)}) == 4
    with torch.no_grad(), paddle.no_grad():
        assert float(latency.expected_ms()) == pytest.approx(soft_ms, rel=1e-9)
    latency.detach()
    modules = net.modules() if isinstance(net, torch.nn.Module) else net.sublayers(include_self=True)
    assert not any(module._forward_pre_hooks for module in modules)


def test_a_forward_that_draws_nothing_is_an_error(net: Any) -> None:
    latency, x = loss_for(net, MadeUp()), zeros(net, 1, 4, 8, 8)
    latency.attach(net, x, sampled=True)
    net(x)
    with pytest.raises(SearchError, match=r"one candidate of `blocks.0` .* but 3 ran: attach without `sampled`"):
        latency.expected_ms()
