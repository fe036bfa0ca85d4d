"""What surrounds the operators of a supernet, against the extracted graph of every architecture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from latency_nas.engine import fuse
from latency_nas.graph import OpGraph
from latency_nas.kernel.kernel_call import KernelCall
from latency_nas.search.plan.diagrams import Diagrams
from latency_nas.search.plan.pricing import make_plan
from latency_nas.search.plan.space import Context
from latency_nas.search.supernet.contexts import contexts_of, merges_equals
from latency_nas.search.supernet.supernet import find_choices, read_choices
from latency_nas.search.supernet.supernet_space import graph_space
from tests.styles import Darts, Nb201, PcDarts
from tests.supernets import MadeUp, MixedOp

IMAGE = torch.zeros(1, 3, 8, 8)
SEEDS = range(3)


def read(net: nn.Module) -> tuple[OpGraph, Sequence[Any], dict[str, int]]:
    graph, choices = read_choices(net, find_choices(net), IMAGE)
    return graph, choices, {place: number for number, choice in enumerate(choices) for place in choice.places}


def rows_of(diagrams: Diagrams, n: int) -> list[tuple[int, ...]]:
    """Every n-th architecture, the one of first candidates among them."""
    return list(product(*map(range, diagrams.sizes)))[::n]


@pytest.fixture(scope="module")
def cells() -> tuple[OpGraph, dict[str, int], Diagrams, Mapping[str, Context]]:
    torch.manual_seed(0)
    graph, choices, places = read(Nb201())
    diagrams = Diagrams([len(choice.candidates) for choice in choices])
    return graph, places, diagrams, contexts_of(graph, places, diagrams, merged=True)


def test_nodes_of_equal_contexts_run_alike(cells: Any) -> None:
    """Whether a node is in the extracted graph is a function of its context, whatever the other choices are."""
    graph, places, diagrams, contexts = cells
    runs: dict[tuple[str, tuple[Any, ...]], bool] = {}
    for row in rows_of(diagrams, 37):
        names = {node.name for node in graph.extract({place: row[number] for place, number in places.items()}).nodes}
        for name, (functions, _) in contexts.items():
            key = name, tuple([diagrams.value(function, row) for function in functions])
            assert runs.setdefault(key, name in names) == (name in names)
    n_cases = Counter(name for name, _ in runs)
    assert max(n_cases.values()) < 128  # of 15,625 architectures


def test_what_an_engine_runs_for_a_node_is_a_function_of_its_context(cells: Any) -> None:
    """MNN folds an activation into the op before if nothing else reads that, and runs equal activations once."""
    graph, places, diagrams, contexts = cells
    kernels: dict[tuple[str, tuple[Any, ...]], set[tuple[Any, ...]]] = {}
    for row in rows_of(diagrams, 97):
        network = graph.extract({place: row[number] for place, number in places.items()})
        run: dict[str, list[Any]] = {}
        for call in fuse(network, "MNN"):
            run.setdefault(call.nodes[0] if call.nodes else call.reader, []).append(call.kernel)
        for name, (functions, _) in contexts.items():
            key = name, tuple([diagrams.value(function, row) for function in functions])
            kernels.setdefault(key, set()).add(tuple(run.get(name, ())))
    assert all(len(found) == 1 for found in kernels.values())
    folded = {kernel for found in kernels.values() for run in found for kernel in run if "act=relu" in kernel.key}
    assert len(folded) > 2


class Bottlenecks(nn.Module):
    """Blocks that end with a 1 x 1 convolution and no activation, and begin with one: opt may merge the two."""

    def __init__(self) -> None:
        super().__init__()
        self.ops = nn.ModuleList(
            MixedOp([self.block(1), self.block(2), self.block(6), nn.Identity()]) for _ in range(4)
        )

    @staticmethod
    def block(expand: int) -> nn.Module:
        c = 8 * expand
        return nn.Sequential(
            nn.Conv2d(8, c, 1, bias=False), nn.BatchNorm2d(c), nn.ReLU(), nn.Conv2d(c, 8, 1), nn.BatchNorm2d(8)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x.repeat(1, 3, 1, 1)[:, :8]
        for op in self.ops:
            x = op(x)
        return x


def test_an_engine_is_asked_whether_it_runs_equal_operators_once() -> None:
    merged = {engine: merges_equals(MadeUp(engine).fuse) for engine in ("MNN", "Paddle-Lite")}
    assert merged == {"MNN": True, "Paddle-Lite": False}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("make", "engine", "n_at_most"),
    [
        (Nb201, "MNN", 205),
        pytest.param(Nb201, "Paddle-Lite", 800, marks=pytest.mark.slow),
        (Darts, "MNN", 90),
        (PcDarts, "MNN", 40),  # its copies depend on what makes the parts of a concatenation
        (Bottlenecks, "Paddle-Lite", 100),
    ],
)
def test_few_architectures_give_an_exact_plan(make: type[nn.Module], engine: str, n_at_most: int, seed: int) -> None:
    torch.manual_seed(seed)
    graph, choices, _ = read(make())
    estimator = MadeUp(engine)
    space = graph_space(graph, choices, estimator.fuse)
    asked: list[Mapping[str, int]] = []

    def calls(architecture: Mapping[str, int]) -> Sequence[KernelCall]:
        asked.append(architecture)
        return space.calls(architecture)

    plan = make_plan(replace(space, calls=calls), estimator, seed=seed)
    assert len(asked) <= n_at_most
    generator = torch.Generator().manual_seed(seed)
    for _ in range(40):
        architecture = {
            name: int(torch.randint(len(names), (), generator=generator)) for name, names in space.candidates.items()
        }
        expected_ms = estimator.price(list(space.calls(architecture))).value
        assert plan.cost(architecture) == pytest.approx(expected_ms, rel=1e-9)
