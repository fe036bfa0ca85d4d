"""A search of cells in DARTS's style, in torch and in Paddle, whose deployed network a class builds from a genotype.

The supernet has a zero on each edge, batch norms without parameters, and half of the deployed network's channels. The
deployed network keeps two edges of a node, so that neither its layers nor their names are those of the supernet.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import paddle
import pytest
import torch

from latency_nas import (
    Budget,
    CountLimit,
    LatencyEstimator,
    LatencyLoss,
    PaddleLatencyLoss,
    ResourceCounter,
    best,
    sample_architectures,
)
from latency_nas.errors import SearchError
from latency_nas.search.plan.architecture import Architecture
from tests.supernets import MadeUp

CHANNELS = 4
NODES = ((0, 1), (2, 3, 4))  # edges of each node: from both inputs, and from all that is before
EDGES = tuple(f"edges.{number}" for number in range(5))
LIMITS = (
    CountLimit([EDGES[edge] for edge in NODES[0]], other_than=0, at_most=2, at_least=2),
    CountLimit([EDGES[edge] for edge in NODES[1]], other_than=0, at_most=2, at_least=1),
)
Genotype = Sequence[Sequence[tuple[int, int]]]  # the input and the operation of each edge of each node

# --- torch


def torch_op(index: int, channels: int, *, affine: bool) -> torch.nn.Module:
    if index == 1:
        return torch.nn.Identity()
    conv = torch.nn.Conv2d(channels, channels, 3, padding=1, bias=False)
    return torch.nn.Sequential(torch.nn.ReLU(), conv, torch.nn.BatchNorm2d(channels, affine=affine))


class TorchZero(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mul(0.0)


class TorchEdge(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        ops = [torch_op(index, CHANNELS, affine=False) for index in (1, 2)]
        self.ops = torch.nn.ModuleList([TorchZero(), *ops])
        self.alpha = torch.nn.Parameter(1e-3 * torch.randn(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return sum(weight * op(x) for weight, op in zip(self.alpha.softmax(0), self.ops, strict=True))


class TorchCells(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stems = torch.nn.ModuleList(
            [torch.nn.Conv2d(1, CHANNELS, kernel, padding=kernel // 2) for kernel in (1, 3)]
        )
        self.edges = torch.nn.ModuleList([TorchEdge() for _ in EDGES])
        self.head = torch.nn.Linear(2 * CHANNELS, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        states = [stem(x) for stem in self.stems]
        for edges in NODES:
            outputs = [self.edges[edge](state) for edge, state in zip(edges, states, strict=True)]
            states.append(sum(outputs[1:], outputs[0]))
        return self.head(torch.cat(states[2:], 1).mean((2, 3)))


class TorchDeployed(torch.nn.Module):
    def __init__(self, genotype: Genotype) -> None:
        super().__init__()
        wide = 2 * CHANNELS
        self.stems = torch.nn.ModuleList([torch.nn.Conv2d(1, wide, kernel, padding=kernel // 2) for kernel in (1, 3)])
        self.genotype = genotype
        self._ops = torch.nn.ModuleList([torch_op(op, wide, affine=True) for node in genotype for _, op in node])
        self.head = torch.nn.Linear(2 * wide, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        states, ops = [stem(x) for stem in self.stems], iter(self._ops)
        for node in self.genotype:
            outputs = [next(ops)(states[state]) for state, _ in node]
            states.append(sum(outputs[1:], outputs[0]))
        return self.head(torch.cat(states[2:], 1).mean((2, 3)))


# --- Paddle


def paddle_op(index: int, channels: int, *, affine: bool) -> paddle.nn.Layer:
    if index == 1:
        return paddle.nn.Identity()
    conv = paddle.nn.Conv2D(channels, channels, 3, padding=1, bias_attr=False)
    attr = None if affine else False
    norm = paddle.nn.BatchNorm2D(channels, weight_attr=attr, bias_attr=attr)
    return paddle.nn.Sequential(paddle.nn.ReLU(), conv, norm)


class PaddleZero(paddle.nn.Layer):
    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return x * 0.0


class PaddleEdge(paddle.nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.ops = paddle.nn.LayerList([PaddleZero(), *(paddle_op(index, CHANNELS, affine=False) for index in (1, 2))])
        self.alpha = self.create_parameter([3])

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        weights = paddle.nn.functional.softmax(self.alpha)
        return sum(weights[index] * op(x) for index, op in enumerate(self.ops))


class PaddleCells(paddle.nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.stems = paddle.nn.LayerList(
            [paddle.nn.Conv2D(1, CHANNELS, kernel, padding=kernel // 2) for kernel in (1, 3)]
        )
        self.edges = paddle.nn.LayerList([PaddleEdge() for _ in EDGES])
        self.head = paddle.nn.Linear(2 * CHANNELS, 3)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        states = [stem(x) for stem in self.stems]
        for edges in NODES:
            outputs = [self.edges[edge](states[number]) for number, edge in enumerate(edges)]
            states.append(sum(outputs[1:], outputs[0]))
        return self.head(paddle.concat(states[2:], 1).mean([2, 3]))


class PaddleDeployed(paddle.nn.Layer):
    def __init__(self, genotype: Genotype) -> None:
        super().__init__()
        wide = 2 * CHANNELS
        self.stems = paddle.nn.LayerList([paddle.nn.Conv2D(1, wide, kernel, padding=kernel // 2) for kernel in (1, 3)])
        self.genotype = genotype
        self._ops = paddle.nn.LayerList([paddle_op(op, wide, affine=True) for node in genotype for _, op in node])
        self.head = paddle.nn.Linear(2 * wide, 3)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        states, ops = [stem(x) for stem in self.stems], iter(self._ops)
        for node in self.genotype:
            outputs = [next(ops)(states[state]) for state, _ in node]
            states.append(sum(outputs[1:], outputs[0]))
        return self.head(paddle.concat(states[2:], 1).mean([2, 3]))


# --- both


class Framework:
    """The classes of one framework."""

    def __init__(self, loss: type, cells: type, deployed: type, example: Any, optimizer: Any) -> None:
        self.loss, self.cells, self.deployed = loss, cells, deployed
        self.example, self.optimizer = example, optimizer

    def derive(self, supernet: Any, architecture: Mapping[str, int]) -> Any:
        nodes = [[(state, architecture[EDGES[edge]]) for state, edge in enumerate(edges)] for edges in NODES]
        genotype = [[(state, op) for state, op in node if op] for node in nodes]
        if not genotype[0] or len(genotype[0]) + len(genotype[1]) > 4:
            raise AssertionError(f"a genotype outside the limits: {genotype}")
        return self.deployed(genotype)

    def attached(self, table: LatencyEstimator | None = None, **options: Any) -> tuple[Any, Any]:
        net = self.cells()
        latency = self.loss(table or MadeUp(), **options)
        latency.attach(net, self.example, derive=self.derive, limits=LIMITS)
        return net, latency


FRAMEWORKS = {
    "torch": lambda: Framework(
        LatencyLoss,
        TorchCells,
        TorchDeployed,
        torch.zeros(1, 1, 8, 8),
        lambda alphas: torch.optim.SGD(alphas, 0.5),
    ),
    "paddle": lambda: Framework(
        PaddleLatencyLoss,
        PaddleCells,
        PaddleDeployed,
        paddle.zeros([1, 1, 8, 8]),
        lambda alphas: paddle.optimizer.SGD(0.5, alphas),
    ),
}


@pytest.fixture(params=["torch", pytest.param("paddle", marks=pytest.mark.slow)])
def framework(request: pytest.FixtureRequest) -> Framework:
    return FRAMEWORKS[request.param]()


def allowed() -> Iterator[Architecture]:
    """Every architecture of two edges at the first node and one or two at the second."""
    for row in itertools.product(range(3), repeat=5):
        if all(row[:2]) and 1 <= sum(index > 0 for index in row[2:]) <= 2:
            yield Architecture(zip(EDGES, row, strict=True))


def set_alphas(net: Any, seed: int) -> None:
    rows = np.random.default_rng(seed).normal(size=(5, 3)).astype("float32")
    for edge, row in zip(net.edges, rows, strict=True):
        if isinstance(edge.alpha, torch.Tensor):
            edge.alpha.data = torch.from_numpy(row)
        else:
            edge.alpha.set_value(row)


def test_a_search_ends_on_its_target_with_two_edges_a_node(framework: Framework) -> None:
    net, latency = framework.attached(penalty="inequality")
    plan, estimator = latency.plan, MadeUp()
    assert plan.choices == EDGES
    every = list(allowed())
    costs = {tuple(one.values()): plan.cost(one) for one in every}
    assert plan.bounds_ms() == pytest.approx((min(costs.values()), max(costs.values())), rel=1e-12)

    rows = sample_architectures(plan, 20, seed=0)
    for row in rows:
        one = Architecture(zip(EDGES, map(int, row), strict=True))
        assert tuple(one.values()) in costs
        alone = estimator.predict(framework.derive(net, one), framework.example)
        assert latency.price(one).latency_ms == pytest.approx(alone.latency_ms, rel=1e-9)
        assert sorted(item.kernel.key for item in latency.price(one).kernels) == sorted(
            item.kernel.key for item in alone.kernels
        )

    with pytest.raises(SearchError) as caught:  # one edge at the first node would be cheaper: the limits exclude it
        latency.target_ms = 0.999 * plan.bounds_ms()[0]
    assert str(caught.value).startswith("Expected a target that the supernet can reach, from ")

    optimizer = framework.optimizer([edge.alpha for edge in net.edges])
    for seed, share in enumerate((0.2, 0.5, 0.9)):
        set_alphas(net, seed)
        latency.target_ms = min(costs.values()) + share * (max(costs.values()) - min(costs.values()))
        for step in range(3):
            latency().backward()
            optimizer.step()
            latency.step(step / 3)
        scores = latency.log_probabilities()
        within = [one for one in every if costs[tuple(one.values())] <= latency.target_ms]
        near = [one for one in within if costs[tuple(one.values())] >= 0.98 * latency.target_ms]
        likeliest = max(near or within, key=lambda one: sum(scores[name][index] for name, index in one.items()))
        assert latency.project(within=0.02) == likeliest
        assert latency.discretize(within=0.02) == latency.architecture() == likeliest
        [found] = best(plan, scores, Budget(plan, max_cost=latency.target_ms))
        assert found.architecture in within
        price = estimator.predict(framework.derive(net, likeliest), framework.example).latency_ms
        assert price <= latency.target_ms * (1 + 1e-12)


def test_parameters_of_the_derived_network_are_counted() -> None:
    """Those of the batch norms, which the supernet does not have, and of twice the channels."""
    framework = FRAMEWORKS["torch"]()
    net, size = framework.attached(ResourceCounter("params"))
    for one in list(allowed())[::5]:
        counted = sum(parameter.numel() for parameter in framework.derive(net, one).parameters())
        assert size.plan.cost(one) == counted
