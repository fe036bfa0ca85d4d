"""Which numbers of a parameter gates are the softmax of, against the parameters that the test itself made them of."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from latency_nas.search.supernet.torch_framework import TORCH


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.tensor([[80.0, 0.0, -80.0, 3.0, 1.0]]))
        self.other = nn.Parameter(torch.zeros(3))


GATES: dict[str, tuple[Callable[[Net], Tensor], tuple[int, ...] | None]] = {
    "a row": (lambda net: net.alpha[0].softmax(0), (0, 1, 2, 3, 4)),
    "a part in another order": (lambda net: net.alpha[0, [3, 1, 4]].softmax(0), (3, 1, 4)),
    "a temperature": (lambda net: (net.alpha[0, :3] / 0.07).softmax(0), (0, 1, 2)),
    "the logarithm and back": (lambda net: net.alpha[0, :3].log_softmax(0).exp(), (0, 1, 2)),
    "two parameters": (lambda net: (net.alpha[0, :3] + net.other).softmax(0), None),
    "unequal scales": (lambda net: (net.alpha[0, :3] * torch.tensor([1.0, 2.0, 1.0])).softmax(0), None),
    "a shift": (lambda net: (net.alpha[0, :3] + torch.tensor([0.0, 1.0, 0.0])).softmax(0), None),
    "the negative": (lambda net: (-net.alpha[0, :3]).softmax(0), None),
    "sigmoids": (lambda net: net.alpha[0, :3].sigmoid() / 1.5, None),
    "one number for two": (lambda net: net.alpha[0, [0, 0, 1]].softmax(0), None),
    "no parameter": (lambda net: torch.ones(3) / 3, None),
    "random noise": (lambda net: nn.functional.gumbel_softmax(net.alpha[0]), None),
}


@pytest.mark.parametrize("kind", GATES)
def test_the_numbers_whose_softmax_gates_are(kind: str) -> None:
    net, (gates, expected) = Net(), GATES[kind]
    before, state, version = net.alpha.detach().clone(), torch.get_rng_state(), net.alpha._version
    found = TORCH.softmax_row(net, gates, logits=False)
    assert (None if found is None else found.elements) == expected
    assert torch.equal(net.alpha, before)
    assert torch.equal(torch.get_rng_state(), state)
    assert net.alpha._version == version
    if found is not None:
        assert found.tensor is net.alpha
        TORCH.raise_element(found, 2, 0.01)
        assert gates(net).argmax() == 2
        assert int((net.alpha != before).sum()) == 1


def test_logits_of_a_function() -> None:
    net = Net()
    found = TORCH.softmax_row(net, lambda net: net.alpha[0, 1:3], logits=True)
    assert found is not None
    assert found.elements == (1, 2)
