"""Choices within choices: the gates multiply, and an architecture is priced as the network that takes one summand."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from math import prod
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from latency_nas.errors import GraphError
from latency_nas.search.loss.loss import LatencyLoss
from latency_nas.search.supernet.naming import groups_of
from tests.styles import Fbnet, FbnetMixedOp, FbnetWithTable
from tests.supernets import MadeUp, MixedOp, conv_relu, snapshot

IMAGE = torch.zeros(1, 4, 8, 8)


def mixed(*kernels: int) -> MixedOp:
    return MixedOp([conv_relu(4, 4, kernel) for kernel in kernels])


class Edges(nn.Module):
    """PC-DARTS: a node sums its edges, whose weights are slices of one parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_relu(4, 4, 1)
        self.first, self.second = mixed(1, 3), mixed(3, 5)
        self.betas = nn.Parameter(torch.tensor([0.3, 9.0, -0.4]))

    def weights(self) -> Tensor:
        return torch.cat([self.betas[1:2].softmax(0), self.betas[::2].softmax(0)])[1:]

    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(x)
        return sum(w * edge for w, edge in zip(self.weights(), (self.first(x), self.second(y)), strict=True))

    def subnet(self, first: int, second: int, taken: int) -> nn.Module:
        return [self.first.ops[first], nn.Sequential(self.stem, self.second.ops[second])][taken]


class Stacked(Edges):
    def forward(self, x: Tensor) -> Tensor:
        edges = torch.stack([self.first(x), self.second(self.stem(x))], dim=1)
        return (edges * self.weights().view(1, 2, 1, 1, 1)).sum(dim=1)


class Sampled(Edges):
    """A straight-through Gumbel sample, with a temperature, and the addition begins with a zero."""

    def forward(self, x: Tensor) -> Tensor:
        gates = functional.gumbel_softmax(self.betas[::2] / 2.0, tau=5.0, hard=True)
        total: Any = 0
        total = total + gates[0] * self.first(x)
        total += gates[1] * self.second(self.stem(x))
        return total


class Depth(Edges):
    """TF-NAS: the depth of a stage is a choice among the outputs of its blocks."""

    def forward(self, x: Tensor) -> Tensor:
        w = self.betas[::2].softmax(0)
        y = self.first(x)
        return w[0] * y + w[1] * self.second(y)

    def subnet(self, first: int, second: int, taken: int) -> nn.Module:
        blocks = [self.first.ops[first], self.second.ops[second]]
        return nn.Sequential(*blocks[: taken + 1])


class Listed(nn.Module):
    """TF-NAS, with the blocks of a stage in a list as long as the weights of its depth."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([mixed(1, 3), mixed(3, 5)])
        self.betas = nn.Parameter(torch.tensor([0.3, -0.4]))

    def forward(self, x: Tensor) -> Tensor:
        outputs = []
        for block in self.blocks:
            x = block(x)
            outputs.append(x)
        return sum(w * y for w, y in zip(self.betas.softmax(-1), outputs, strict=True))

    def subnet(self, first: int, second: int, taken: int) -> nn.Module:
        return nn.Sequential(*[self.blocks[0].ops[first], self.blocks[1].ops[second]][: taken + 1])


class Heads(Edges):
    """DenseNAS: the weights of a head are a softmax over numbers of several parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.others = nn.ParameterList([torch.tensor([0.1, 0.2]), torch.tensor([0.5])])
        del self.betas

    def weights(self) -> Tensor:
        return functional.softmax(torch.stack([self.others[0][1], self.others[1][0]]), dim=-1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack(
            [w * y for w, y in zip(self.weights(), (self.first(x), self.second(self.stem(x))), strict=True)]
        ).sum(0)


class Residual(Edges):
    """What is added without a weight always runs."""

    def forward(self, x: Tensor) -> Tensor:
        w = self.betas[::2].softmax(0)
        return self.stem(x) + w[0] * self.first(x) + w[1] * self.second(x)

    def subnet(self, first: int, second: int, taken: int) -> nn.Module:
        return Sum(self.stem, [self.first.ops[first], self.second.ops[second]][taken])


class Inline(nn.Module):
    """The network itself holds edges, a matrix of weights for their ops, and weights of the edges."""

    def __init__(self) -> None:
        super().__init__()
        self.edges = nn.ModuleList([Ops(1, 3), Ops(3, 5)])
        self.alphas = nn.Parameter(torch.tensor([[0.2, -0.1], [0.4, 0.3]]))
        self.betas = nn.Parameter(torch.tensor([0.3, -0.4]))

    def forward(self, x: Tensor) -> Tensor:
        edges = [edge(x, row) for edge, row in zip(self.edges, self.alphas.softmax(-1), strict=True)]
        return sum(w * edge for w, edge in zip(self.betas.softmax(-1), edges, strict=True))

    def subnet(self, first: int, second: int, taken: int) -> nn.Module:
        return self.edges[taken].ops[[first, second][taken]]


class Ops(nn.Module):
    """An edge whose weights are those that it is called with."""

    def __init__(self, *kernels: int) -> None:
        super().__init__()
        self.ops = nn.ModuleList([conv_relu(4, 4, kernel) for kernel in kernels])

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        return sum(w * op(x) for w, op in zip(weights, self.ops, strict=True))


class FromNodes(Inline):
    """Each edge comes from a node of its own, and no edge from another."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_relu(4, 4, 5)

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.alphas.softmax(-1)
        w = self.betas.softmax(-1)
        total = w[0] * self.edges[0](x, first)
        return total + w[1] * self.edges[1](self.stem(x), second)

    def subnet(self, first: int, second: int, taken: int) -> nn.Module:
        return [self.edges[0].ops[first], nn.Sequential(self.stem, self.edges[1].ops[second])][taken]


class Sum(nn.Module):
    def __init__(self, one: nn.Module, other: nn.Module) -> None:
        super().__init__()
        self.one, self.other = one, other

    def forward(self, x: Tensor) -> Tensor:
        return self.one(x) + self.other(x)


NETS: dict[str, Callable[[], Any]] = {kind.__name__: kind for kind in (
    Edges, Stacked, Sampled, Depth, Listed, Heads, Residual, Inline, FromNodes,
)}  # fmt: skip


def attached(net: nn.Module) -> LatencyLoss:
    latency = LatencyLoss(MadeUp())
    latency.attach(net, IMAGE)
    return latency


@pytest.mark.parametrize("kind", NETS)
def test_an_architecture_is_priced_as_the_network_that_takes_one_summand(kind: str) -> None:
    net = NETS[kind]()
    before = snapshot(net)
    plan = attached(net).plan
    assert snapshot(net) == before
    assert [len(names) for names in plan.candidates] == [2, 2, 2]
    edges = [choice for choice in plan.choices if not choice or "betas" in choice or "others" in choice]
    assert len(edges) == 1  # a choice of the network itself has no name
    for indices in product(range(2), repeat=3):
        true_ms = MadeUp().predict(net.subnet(*indices), IMAGE).latency_ms
        assert plan.latency_ms(dict(zip(plan.choices, indices, strict=True))) == pytest.approx(true_ms, rel=1e-9)


@pytest.mark.parametrize("kind", NETS)
def test_the_term_has_the_gradient_of_the_expectation_over_all_architectures(kind: str) -> None:
    net = NETS[kind]()
    latency = attached(net)
    keys = ("alpha", "betas", "others")
    parameters = [value for name, value in net.named_parameters() if any(key in name for key in keys)]
    true_ms = {
        indices: MadeUp().predict(net.subnet(*indices), IMAGE).latency_ms for indices in product(range(2), repeat=3)
    }

    def enumerated() -> float:
        rows = [torch.tensor(row, dtype=torch.float64).exp() for row in latency.log_probabilities().values()]
        return sum(
            prod(float(row[index]) for row, index in zip(rows, indices, strict=True)) * cost_ms
            for indices, cost_ms in true_ms.items()
        )

    for parameter in parameters:
        parameter.data = parameter.data.double()
    assert latency.expected_ms().item() == pytest.approx(enumerated(), rel=1e-9)
    gradients = torch.autograd.grad(latency.expected_ms(), parameters, allow_unused=True)
    moved = 0
    for parameter, gradient in zip(parameters, gradients, strict=True):
        for index in range(parameter.numel()):
            step, numbers = 1e-4, parameter.data.view(-1)
            numbers[index] += step
            above = enumerated()
            numbers[index] -= 2 * step
            below = enumerated()
            numbers[index] += step
            slope = 0.0 if gradient is None else float(gradient.view(-1)[index])
            assert slope == pytest.approx((above - below) / (2 * step), rel=1e-5, abs=1e-9)
            moved += slope != 0
    assert moved == 6


@pytest.mark.parametrize("kind", NETS)
def test_a_nested_choice_is_discretized(kind: str) -> None:
    net = NETS[kind]()
    latency = attached(net)
    cheapest, dearest = latency.plan.bounds_ms()
    for target_ms in (cheapest * 1.001, dearest):
        latency.target_ms = target_ms
        found = latency.discretize()
        assert latency.architecture() == found
        assert MadeUp().predict(net.subnet(*found.values()), IMAGE).latency_ms <= target_ms


class Unlike(Edges):
    """Weights that are no softmax."""

    def weights(self) -> Tensor:
        return self.betas[::2].sigmoid()


class Alone(Edges):
    """One number of the softmax weights nothing."""

    def forward(self, x: Tensor) -> Tensor:
        return self.first(x) + self.weights()[1] * self.second(self.stem(x))


@pytest.mark.parametrize("kind", [Unlike, Alone])
def test_weights_that_no_choice_explains_are_named(kind: Callable[[], nn.Module]) -> None:
    with pytest.raises(GraphError) as caught:
        attached(kind())
    assert str(caught.value) == (
        "Expected parameters whose weights multiply tensors to be those of a choice: a softmax whose numbers weight "
        "the summands of one sum, all of the same shape. But those of `betas` weight something else: name this choice "
        "by groups_of or options_of with a function `gates` that reads the parameter."
    )


@pytest.mark.parametrize("kind", [Inline, FromNodes])
@pytest.mark.parametrize("weighted", [True, False])
def test_groups_may_be_among_the_candidates_of_a_group(kind: type[Inline], weighted: bool) -> None:
    net = kind()
    found, named = attached(net), LatencyLoss(MadeUp())
    groups = {"edge": net.edges, "first": net.edges[0].ops, "second": net.edges[1].ops}

    def gates(net: Any) -> dict[str, Tensor]:
        first, second = net.alphas.softmax(-1)
        return {"edge": net.betas.softmax(-1), "first": first, "second": second}

    named.attach(net, IMAGE, choices=groups_of(groups, gates=gates if weighted else None))
    assert {*named.plan.choices} == {*groups}
    for first, second, edge in product(range(2), repeat=3):
        true_ms = MadeUp().predict(net.subnet(first, second, edge), IMAGE).latency_ms
        found_ms = named.plan.latency_ms({"first": first, "second": second, "edge": edge})
        assert found_ms == pytest.approx(true_ms, rel=1e-9)
    if weighted:
        assert named.expected_ms().item() == pytest.approx(
            found.expected_ms().item(), rel=1e-6
        )  # weights of single precision


def test_numbers_of_a_table_that_gates_weight_are_no_choice() -> None:
    """FBNet adds up its latencies beside the sum of the candidates' outputs."""
    plans = []
    for kind in (FbnetMixedOp, FbnetWithTable):
        torch.manual_seed(0)
        net, latency = Fbnet(), LatencyLoss(MadeUp())
        net.blocks = nn.ModuleList(kind() for _ in range(3))
        plans.append(latency.attach(net, run=lambda net: net(torch.zeros(1, 3, 8, 8), 5.0)))
    assert len(plans[0].choices) == 3
    assert plans[0].costs == plans[1].costs
