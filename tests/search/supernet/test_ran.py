"""`sampled=True` prices the path that ran, whatever picked it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from latency_nas.errors import SearchError
from latency_nas.search.loss.loss import LatencyLoss
from tests.styles import Head, relu_conv_bn
from tests.supernets import MadeUp

IMAGE = torch.zeros(1, 4, 8, 8)


class Mixed(nn.Module):
    """Runs the operation that the user's own code picks, or all of them."""

    def __init__(self) -> None:
        super().__init__()
        self.ops = nn.ModuleList([relu_conv_bn(4, 1), relu_conv_bn(4, 3), nn.Identity()])
        self.alphas = nn.Parameter(torch.tensor([0.3, 0.1, 0.2]))
        self.active: int | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.active is None:
            return sum(w * op(x) for w, op in zip(self.alphas.softmax(-1), self.ops, strict=True))
        return self.ops[self.active](x)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Mixed(), Mixed()])
        self.head = Head(4)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return self.head(x)


@pytest.fixture
def net() -> Net:
    torch.manual_seed(0)
    return Net()


def test_the_path_that_the_user_picks_is_priced(net: Net) -> None:
    latency = LatencyLoss(MadeUp())
    plan = latency.attach(net, IMAGE, sampled=True)
    soft_ms = latency.expected_ms().item()
    seen = set()
    for picks in ((0, 0), (1, 2), (1, 1)):
        for block, pick in zip(net.blocks, picks, strict=True):
            block.active = pick
        net(IMAGE)
        expected_ms = latency.expected_ms()
        gates = plan.one_hot(dict(zip(plan.choices, picks, strict=True)))
        assert expected_ms.item() == pytest.approx(plan.expected_ms(gates), rel=1e-6)
        seen.add(round(expected_ms.item(), 6))
        slopes = torch.from_numpy(plan.gradient_ms(gates)).split(3)
        for block, slope in zip(net.blocks, slopes, strict=True):
            soft = block.alphas.detach().double().softmax(-1)
            (found,) = torch.autograd.grad(expected_ms, block.alphas, retain_graph=True)
            assert found.double().numpy() == pytest.approx((soft * (slope - soft @ slope)).numpy(), rel=1e-4)
    assert len({*seen, round(soft_ms, 6)}) == 4
    with torch.no_grad():
        assert latency.expected_ms().item() == pytest.approx(soft_ms, rel=1e-9)
    latency.detach()
    assert not any(module._forward_pre_hooks for module in net.modules())


def test_a_forward_that_draws_nothing_is_an_error(net: Net) -> None:
    latency = LatencyLoss(MadeUp())
    latency.attach(net, IMAGE, sampled=True)
    net(IMAGE)
    with pytest.raises(SearchError, match=r"one candidate of `blocks.0` .* but 3 ran: attach without `sampled`"):
        latency.expected_ms()
