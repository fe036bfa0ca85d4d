"""One battery for every latency term: torch and Paddle, the same network, table, figures and errors in both."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np
import paddle
import pytest
import torch

from latency_nas import (
    CostPlan,
    Factor,
    LatencyEstimator,
    LatencyLoss,
    PaddleLatencyLoss,
    Schedule,
    find_choices,
    groups_of,
    options_of,
    read_supernet,
)
from latency_nas.errors import QuantityError, SearchError
from latency_nas.estimate.resource_counter import ResourceCounter
from latency_nas.search.loss.constraint import CONSTRAINTS
from latency_nas.search.loss.penalty import FACTORS, PENALTIES
from latency_nas.search.plan.architecture import Architecture
from latency_nas.table import Entry, LatencyTable
from tests.supernets import DATASHEET, MadeUp

SHAPE = (1, 1, 8, 8)
KERNELS = (1, 3, 5)
N_BLOCKS = 3


class TorchMixed(torch.nn.Module):
    def __init__(self, *, sampled: bool = False) -> None:
        super().__init__()
        convs = [torch.nn.Conv2d(4, 4, kernel, padding=kernel // 2, bias=False) for kernel in KERNELS]
        self.candidates = torch.nn.ModuleList([*convs, torch.nn.Identity()])
        self.alpha = torch.nn.Parameter(torch.zeros(4))
        self.sampled, self.drawn = sampled, torch.zeros(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gates = self.alpha.softmax(0)
        if self.sampled:
            gates = self.drawn = torch.nn.functional.gumbel_softmax(self.alpha)
        return sum(gate * layer(x) for gate, layer in zip(gates, self.candidates, strict=True))


class TorchNet(torch.nn.Module):
    """Runs only the candidates in `path`, one of each block, where the network is configured."""

    def __init__(self, *, sampled: bool = False) -> None:
        super().__init__()
        self.stem = torch.nn.Conv2d(1, 4, 3, padding=1, bias=False)
        self.blocks = torch.nn.ModuleList([TorchMixed(sampled=sampled) for _ in range(N_BLOCKS)])
        self.path: list[int] | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x).relu()
        for number, block in enumerate(self.blocks):
            x = (block(x) if self.path is None else block.candidates[self.path[number]](x)).relu()
        return x


class PaddleMixed(paddle.nn.Layer):
    def __init__(self, *, sampled: bool = False) -> None:
        super().__init__()
        convs = [paddle.nn.Conv2D(4, 4, kernel, padding=kernel // 2, bias_attr=False) for kernel in KERNELS]
        self.candidates = paddle.nn.LayerList([*convs, paddle.nn.Identity()])
        self.alpha = self.create_parameter([4])
        self.sampled, self.drawn = sampled, paddle.zeros([4])

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        gates = paddle.nn.functional.softmax(self.alpha)
        if self.sampled:
            gates = self.drawn = paddle.nn.functional.gumbel_softmax(self.alpha.reshape([1, 4]))[0]
        return sum(gates[index] * layer(x) for index, layer in enumerate(self.candidates))


class PaddleNet(paddle.nn.Layer):
    def __init__(self, *, sampled: bool = False) -> None:
        super().__init__()
        self.stem = paddle.nn.Conv2D(1, 4, 3, padding=1, bias_attr=False)
        self.blocks = paddle.nn.LayerList([PaddleMixed(sampled=sampled) for _ in range(N_BLOCKS)])
        self.path: list[int] | None = None

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        relu = paddle.nn.functional.relu
        x = relu(self.stem(x))
        for number, block in enumerate(self.blocks):
            x = relu(block(x) if self.path is None else block.candidates[self.path[number]](x))
        return x


class Framework:
    """The loss, the network and the functions of one framework."""

    def __init__(self, loss: type, net: type, example: Any, softmax: Callable[[Any], Any]) -> None:
        self.loss, self.net, self.example, self.softmax = loss, net, example, softmax

    def attached(self, net: Any = None, *, how: Mapping[str, Any] | None = None, **options: Any) -> tuple[Any, Any]:
        """A supernet with known parameters, and a loss attached to it, with its target in the middle."""
        net = self.net() if net is None else net
        set_alphas(net)
        latency = self.loss(MadeUp(), **options)
        latency.attach(net, self.example, **(how or {}))
        latency.target_ms = sum(latency.plan.bounds_ms()) / 2
        return net, latency


FRAMEWORKS = {
    "torch": Framework(LatencyLoss, TorchNet, torch.zeros(SHAPE), lambda alpha: alpha.softmax(-1)),
    "paddle": Framework(PaddleLatencyLoss, PaddleNet, paddle.zeros(SHAPE), paddle.nn.functional.softmax),
}


@pytest.fixture(params=FRAMEWORKS)
def framework(request: pytest.FixtureRequest) -> Framework:
    return FRAMEWORKS[request.param]


def set_alphas(net: Any, seed: int = 0) -> np.ndarray:
    drawn = np.random.default_rng(seed).normal(size=(N_BLOCKS, 4)).astype("float32")
    for block, row in zip(net.blocks, drawn, strict=True):
        if isinstance(block.alpha, torch.Tensor):
            block.alpha.data = torch.from_numpy(row.copy())
        else:
            block.alpha.set_value(row)
    return drawn


def gradients(net: Any) -> np.ndarray:
    return np.stack([np.asarray(block.alpha.grad) for block in net.blocks])


def prices_ms(plan: CostPlan) -> list[float]:
    """The prices of all architectures."""
    paths = itertools.product(range(4), repeat=N_BLOCKS)
    return [plan.latency_ms(dict(zip(plan.choices, path, strict=True))) for path in paths]


def number(value: Any) -> float:
    return float(value.detach())


# --- the plan


def test_the_plan_is_the_estimator_on_each_network(framework: Framework) -> None:
    net, latency = framework.attached()
    estimator = LatencyEstimator(latency_table(net, framework))
    for path in ([0, 1, 2], [3, 3, 3], [2, 0, 1]):
        net.path = path
        alone = estimator.predict(net, framework.example)
        found = latency.price(dict(zip(latency.plan.choices, path, strict=True)))
        assert found.latency_ms == pytest.approx(alone.latency_ms, rel=1e-9)
        assert found.std_ms == alone.std_ms
        assert {item.kernel for item in found.kernels} == {item.kernel for item in alone.kernels}


def latency_table(net: Any, framework: Framework) -> LatencyTable:
    """The made-up prices of every kernel, as a table."""
    latency = framework.loss(MadeUp())
    latency.attach(net, framework.example)
    rows = {item.kernel: Entry(latency_ms=item.value, std_ms=item.std) for item in kernels_of(latency)}
    return LatencyTable.of(rows, DATASHEET)


def kernels_of(latency: Any) -> list[Any]:
    paths = [dict.fromkeys(latency.plan.choices, index) for index in range(4)]
    return [item for path in paths for item in latency.price(path).kernels]


def test_a_supernet_is_read_with_every_candidate(framework: Framework) -> None:
    graph, choices = read_supernet(framework.net(), framework.example)
    assert [choice.module for choice in choices] == [f"blocks.{number}" for number in range(N_BLOCKS)]
    assert graph.choices == dict.fromkeys([choice.module for choice in choices], 4)
    assert [node.op for node in graph.extract(dict.fromkeys(graph.choices, 3)).nodes].count("conv2d") == 1


def test_the_plan_says_on_how_many_networks_it_was_confirmed(framework: Framework) -> None:
    net, latency = framework.attached()
    assert latency.plan.n_checked == 8
    assert latency.attach(net, framework.example, check=3).n_checked == 3
    with pytest.raises(SearchError) as caught:
        latency.attach(net, framework.example, check="all")
    assert str(caught.value) == "Expected `check` to be 'auto' or a number of architectures, but got 'all'."


def test_groups_and_options_name_the_same_choices(framework: Framework) -> None:
    names = [f"block{number}" for number in range(N_BLOCKS)]

    def gates(net: Any) -> dict[str, Any]:
        return {name: framework.softmax(block.alpha) for name, block in zip(names, net.blocks, strict=True)}

    def configure(net: Any, config: dict[str, Any]) -> Any:
        net.path = [config[name] for name in names]
        return net

    net, latency = framework.attached()
    groups = groups_of({name: net.blocks[i].candidates for i, name in enumerate(names)}, gates=gates)
    options = options_of(dict.fromkeys(names, (0, 1, 2, 3)), configure, gates=gates)
    for choices in (groups, options, [options]):
        _, named = framework.attached(net, how={"choices": choices})
        assert named.plan.choices == tuple(names)
        assert prices_ms(named.plan) == pytest.approx(prices_ms(latency.plan), rel=1e-9)
        assert number(named.expected_ms()) == pytest.approx(number(latency.expected_ms()), rel=1e-6)
        assert net.path is None, "the supernet is left as it was"
    config = dict(zip(names, (3, 0, 1), strict=True))
    assert named.price(config).latency_ms == pytest.approx(latency.plan.latency_ms(
        dict(zip(latency.plan.choices, (3, 0, 1), strict=True))
    ))  # fmt: skip
    assert named.config(named.project()) == dict(named.project())


def test_modules_and_options_together(framework: Framework) -> None:
    """The last block is configured (0 or 3, by another name); the others are weighted."""

    net, latency = framework.attached()
    last = {"conv": net.blocks[2].candidates[0], "skip": net.blocks[2].candidates[3]}

    def one_of(net: Any, config: dict[str, Any]) -> Any:
        net.blocks[2].forward = last[config["last"]].forward
        return net

    options = options_of({"last": ("conv", "skip")}, one_of)
    weighted = [choice for choice in find_choices(net) if choice.module != "blocks.2"]
    mixed = framework.loss(MadeUp(), penalty="linear")
    mixed.attach(net, framework.example, choices=[*weighted, options])
    assert mixed.plan.choices == ("blocks.0", "blocks.1", "last")
    for path in ([0, 2, 0], [1, 1, 1], [3, 0, 1]):
        known = dict(zip(latency.plan.choices, [*path[:2], 3 * path[2]], strict=True))
        found = mixed.plan.latency_ms(dict(zip(mixed.plan.choices, path, strict=True)))
        assert found == pytest.approx(latency.plan.latency_ms(known), rel=1e-9)
    assert "forward" not in vars(net.blocks[2])

    with pytest.raises(SearchError, match="Expected a configuration in use, since `last` has no weights"):
        mixed()
    for name, index in {"conv": 0, "skip": 1}.items():  # the term is that of the weights, at the configuration
        mixed.use_config({"last": name})
        rows = [np.exp(mixed.log_probabilities()[choice]) for choice in ("blocks.0", "blocks.1")]
        expected_ms = sum(
            rows[0][i] * rows[1][j] * mixed.plan.latency_ms({"blocks.0": i, "blocks.1": j, "last": index})
            for i, j in itertools.product(range(4), repeat=2)
        )
        assert number(mixed.expected_ms()) == pytest.approx(expected_ms, rel=1e-6)
        mixed().backward()
        assert all(np.abs(np.asarray(block.alpha.grad)).max() > 0 for block in net.blocks[:2])

    cheapest, dearest = mixed.plan.bounds_ms()
    mixed.target_ms = cheapest + 0.6 * (dearest - cheapest)
    found = mixed.project({"last": "skip"})
    assert found["last"] == "skip"
    assert mixed.price(found).latency_ms <= mixed.target_ms
    scores = mixed.log_probabilities()
    best = max(
        (pair for pair in itertools.product(range(4), repeat=2) if mixed.plan.latency_ms(
            dict(zip(mixed.plan.choices, (*pair, 1), strict=True))) <= mixed.target_ms),
        key=lambda pair: scores["blocks.0"][pair[0]] + scores["blocks.1"][pair[1]],
    )  # fmt: skip
    assert (found["blocks.0"], found["blocks.1"]) == best
    chosen = mixed.discretize()
    assert mixed.config(chosen) == found == mixed.config(mixed.architecture())
    assert mixed.argmax_ms() == mixed.plan.latency_ms(chosen) <= mixed.target_ms


@cache
def configured(framework: Framework) -> Any:
    """A loss that is attached to a network whose three blocks are configured by names."""
    kinds = {"1x1": 0, "3x3": 1, "5x5": 2, "skip": 3}

    def configure(net: Any, config: dict[str, Any]) -> Any:
        net.path = [kinds[config[f"block{number}"]] for number in range(N_BLOCKS)]
        return net

    options = options_of({f"block{number}": tuple(kinds) for number in range(N_BLOCKS)}, configure)
    return framework.attached(how={"choices": options}, penalty="inequality")[1]


def test_configurations_within_a_budget(framework: Framework) -> None:
    latency = configured(framework)
    budget_ms = latency.target_ms
    every = [dict(zip(latency.options, names, strict=True)) for names in itertools.product(*latency.options.values())]
    kept = [config for config in every if latency.price(config).latency_ms <= budget_ms]
    drawn = [latency.random(seed=seed) for seed in range(40)]
    assert drawn == [latency.random(max_ms=budget_ms, seed=seed) for seed in range(40)]
    assert len({str(config) for config in drawn}) > 10
    assert all(config in kept for config in drawn)
    assert latency.random(max_cost=latency.plan.bounds_ms()[0], seed=0) == min(
        every, key=lambda config: latency.price(config).latency_ms
    )
    with pytest.raises(SearchError, match=r"Expected a budget that an architecture keeps, but got .* \(the least is"):
        latency.random(max_ms=0.5 * latency.plan.bounds_ms()[0])
    assert [latency.project(config) for config in kept[:3]] == kept[:3]
    for config in (config for config in every if config not in kept):
        found = latency.project(config)
        assert found in kept
        changes = [sum(other[name] != option for name, option in config.items()) for other in kept]
        nearest = [other for other, n in zip(kept, changes, strict=True) if n == min(changes)]
        cost_ms = max(latency.price(other).latency_ms for other in nearest)
        assert latency.price(found).latency_ms == pytest.approx(cost_ms, rel=1e-6)
    for use, message in {
        lambda: latency.project(): "Expected a configuration with each choice that has no weights, but it lacks "
        "block0, block1, block2: latency.project(config) gives the nearest one within the budget.",
        lambda: latency.project({"block9": "3x3"}): "Expected choices of the supernet, but it has no `block9`.",
        lambda: latency.use_config({"block0": "3x3"}): "Expected a configuration with each choice that has no weights, "
        "but it lacks block1, block2.",
        lambda: framework.attached()[1].use_config({}): "Expected choices without weights to configure, but all "
        "choices have weights.",
    }.items():
        with pytest.raises(SearchError) as caught:
            use()
        assert str(caught.value) == message


def test_a_configuration_in_use_is_what_the_term_prices(framework: Framework) -> None:
    """As a controller or an evolution needs it: the term, the multiplier and the figures are those of one network."""
    latency = configured(framework)
    over = {f"block{number}": "5x5" for number in range(N_BLOCKS)}
    latency.use_config(over)
    cost_ms = latency.price(over).latency_ms
    assert number(latency.expected_ms()) == pytest.approx(cost_ms, rel=1e-9)
    assert latency.config(latency.architecture()) == over
    assert latency.argmax_ms() == pytest.approx(cost_ms, rel=1e-9)
    before = number(latency())
    for _ in range(20):
        latency.step()
    violated = cost_ms > latency.target_ms
    assert (number(latency()) > before) == violated
    within = latency.project(over)
    latency.use_config(within)
    assert number(latency.expected_ms()) == pytest.approx(latency.price(within).latency_ms, rel=1e-9)
    assert latency.config(latency.project()) == within == latency.config(latency.discretize())
    assert number(latency.combine(latency() * 0.0 + 2.0)) == pytest.approx(2.0 + number(latency()), rel=1e-6)


def test_a_derived_network_is_what_is_priced(framework: Framework) -> None:
    """Here the deployed network is a new one, with the path of the architecture."""

    def derive(net: Any, architecture: Architecture) -> Any:
        deployed = framework.net()
        deployed.path = list(architecture.values())
        return deployed

    _, latency = framework.attached()
    _, derived = framework.attached(how={"derive": derive})
    assert prices_ms(derived.plan) == pytest.approx(prices_ms(latency.plan), rel=1e-9)
    with pytest.raises(SearchError) as caught:
        framework.attached(how={"derive": lambda net, architecture: 3})
    assert str(caught.value) == "Expected `derive` to give a module, but got int."


# --- the term


@pytest.mark.parametrize("penalty", [*PENALTIES, *CONSTRAINTS])
def test_term_and_gradient_are_the_same_in_both(penalty: str) -> None:
    found = {}
    for name, framework in FRAMEWORKS.items():
        net, latency = framework.attached(penalty=penalty, temperature=0.7, weight=1.5)
        latency.target_ms = 1.1 * latency.plan.bounds_ms()[0]
        for _ in range(20):  # so that a constraint's multiplier has moved
            latency.step()
        term = latency()
        term.backward()
        found[name] = number(term), number(latency.combine(0.0 * term + 2.0)), gradients(net)
        assert found[name][0] != 0
    assert found["paddle"][:2] == pytest.approx(found["torch"][:2], abs=1e-6)
    np.testing.assert_allclose(found["paddle"][2], found["torch"][2], atol=1e-6)


@pytest.mark.parametrize("penalty", FACTORS)
def test_factors_are_the_same_in_both(penalty: str) -> None:
    found = {}
    for name, framework in FRAMEWORKS.items():
        net, latency = framework.attached(penalty=penalty, weight=0.8)
        task = (net.blocks[0].alpha.sum() * 0.0) + 2.0
        whole = latency.combine(task)
        whole.backward()
        found[name] = number(whole), gradients(net)
        with pytest.raises(SearchError) as caught:
            latency()
        kind = type(FACTORS[penalty]).__name__
        assert str(caught.value) == f"Expected latency.combine(task_loss): {kind} multiplies the task's loss."
    assert found["paddle"][0] == pytest.approx(found["torch"][0], rel=1e-6)
    np.testing.assert_allclose(found["paddle"][1], found["torch"][1], atol=1e-6)


class Ratio(Factor):
    """MnasNet's factor, written by a user: one class, and nothing else."""

    def __call__(self, cost: torch.Tensor, target: float | None) -> torch.Tensor:
        assert target is not None
        return (cost / target) ** 0.07


def test_a_factor_of_the_users_own(framework: Framework) -> None:
    net, latency = framework.attached(penalty=Ratio(), weight=1.0)
    task = (net.blocks[0].alpha.sum() * 0.0) + 2.0
    expected = 2.0 * (number(latency.expected_ms()) / latency.target_ms) ** 0.07
    assert number(latency.combine(task)) == pytest.approx(expected, rel=1e-6)


def test_the_quantile_is_compared_with_the_target(framework: Framework) -> None:
    net = framework.net()
    rows = {item.kernel: Entry(latency_ms=item.value, std_ms=0.1 * item.value) for item in
            kernels_of(framework.attached(net)[1])}  # fmt: skip
    latency = framework.loss(LatencyTable.of(rows, DATASHEET), target_quantile=0.9, penalty="linear")
    latency.attach(net, framework.example)
    latency.target_ms = 1.2 * sum(latency.plan.bounds_ms()) / 2
    quantile = number(latency.expected_ms()) + 1.2815515655446004 * number(latency.std_ms())
    assert number(latency()) == pytest.approx(quantile / latency.target_ms - 1, rel=1e-5)
    estimate = latency.price(latency.project())
    assert estimate.latency_ms + 1.2815515655446004 * estimate.std_ms <= latency.target_ms


def test_what_the_forward_drew_prices_the_step(framework: Framework) -> None:
    net, latency = framework.attached(framework.net(sampled=True), how={"sampled": True}, penalty="linear")
    by_weights = number(latency.expected_ms())
    seen = set()
    for _ in range(8):
        output = net(framework.example)
        drawn = np.concatenate([np.asarray(block.drawn.detach()) for block in net.blocks])
        assert number(latency.expected_ms()) == pytest.approx(latency.plan.expected_ms(drawn), rel=1e-6)
        seen.add(drawn.tobytes())
    assert len(seen) == 8
    (output.sum() * 0.0 + latency()).backward()
    assert np.abs(gradients(net)).max() > 0, "through what was drawn"
    assert latency.architecture() == framework.attached()[1].architecture(), "that of the parameters, not of the draw"
    latency.detach()
    net(framework.example)
    latency.attach(net, framework.example)
    assert number(latency.expected_ms()) == pytest.approx(by_weights, rel=1e-6)


# --- the end of a search


def test_project_names_what_discretize_makes(framework: Framework) -> None:
    net, latency = framework.attached()
    before = [np.asarray(block.alpha.detach()).copy() for block in net.blocks]
    projected = latency.project()
    assert isinstance(projected, Architecture)
    assert all(np.array_equal(block.alpha.detach(), was) for block, was in zip(net.blocks, before, strict=True))
    assert latency.discretize() == projected == latency.architecture()
    assert latency.argmax_ms() == latency.plan.latency_ms(projected) <= latency.target_ms
    assert latency.argmax_ms() >= 0.97 * latency.target_ms or latency.project(within=None) == projected
    for block, was, index in zip(net.blocks, before, projected.values(), strict=True):
        changed = np.flatnonzero(np.asarray(block.alpha.detach()) != was).tolist()
        assert changed in ([], [index])


def gates_of(net: Any, framework: Framework, *, temperature: float = 1.0, shift: float = 0.0) -> dict[str, Any]:
    """Gates of the blocks, which a function makes of their parameters."""
    alphas = {f"block{number}": block.alpha for number, block in enumerate(net.blocks)}
    shifts = framework.example.flatten()[:4] + framework.example.exp().flatten().cumsum(0)[:4] * shift  # 1, 2, 3, 4
    return {name: framework.softmax(alpha / temperature + shifts) for name, alpha in alphas.items()}


@pytest.mark.parametrize("temperature", [0.1, 1.0, 5.0])
def test_gates_of_a_function_are_discretized(framework: Framework, temperature: float) -> None:
    """Where they are the softmax of a row, autograd knows the row; saturated gates have no slopes of their own."""
    net = framework.net()
    groups = groups_of(
        {f"block{number}": block.candidates for number, block in enumerate(net.blocks)},
        gates=lambda net: gates_of(net, framework, temperature=temperature / 100),
    )
    net, latency = framework.attached(net, how={"choices": groups})
    latency.target_ms = (latency.plan.bounds_ms()[0] + latency.argmax_ms()) / 2
    before = [np.asarray(block.alpha.detach()).copy() for block in net.blocks]
    projected = latency.project()
    assert projected != latency.architecture()
    assert latency.discretize() == projected == latency.architecture()
    assert latency.argmax_ms() <= latency.target_ms
    for block, was, index in zip(net.blocks, before, projected.values(), strict=True):
        alpha = np.asarray(block.alpha.detach())
        assert alpha.argmax() == index
        assert np.flatnonzero(alpha != was).tolist() in ([], [index])


def test_gates_that_are_no_softmax_are_set_by_the_user(framework: Framework) -> None:
    net, calls = framework.net(), []
    modules = {f"block{number}": block.candidates for number, block in enumerate(net.blocks)}

    def set_architecture(net: Any, architecture: Architecture) -> None:
        calls.append(dict(architecture))
        for block, index in zip(net.blocks, architecture.values(), strict=True):
            row = np.zeros(4, "float32")
            row[index] = 9.0
            is_torch = isinstance(block.alpha, torch.Tensor)
            block.alpha.data.copy_(torch.from_numpy(row)) if is_torch else block.alpha.set_value(row)

    def attached(**more: Any) -> Any:
        gates = lambda net: gates_of(net, framework, shift=0.5)  # noqa: E731
        latency = framework.attached(net, how={"choices": groups_of(modules, gates=gates, **more)})[1]
        latency.target_ms = (latency.plan.bounds_ms()[0] + latency.argmax_ms()) / 2
        return latency

    latency = attached()
    values = [np.asarray(block.alpha.detach()).copy() for block in net.blocks]
    with pytest.raises(SearchError) as caught:
        latency.discretize()
    assert str(caught.value) == (
        "Expected weights of `block0` that can be moved, which are the softmax of as many numbers of one parameter, "
        "but a function gives others: give groups_of or options_of `set_architecture`, a function of the supernet and "
        "an architecture that makes it the argmax, or take the architecture that latency.project() gives."
    )
    assert all(np.array_equal(block.alpha.detach(), was) for block, was in zip(net.blocks, values, strict=True))
    latency = attached(set_architecture=set_architecture)
    found = latency.discretize()
    assert calls == [found]
    assert latency.architecture() == found
    with pytest.raises(SearchError, match=r"which `set_architecture` sets where it is given, but block"):
        attached(set_architecture=lambda net, architecture: None).discretize()


def test_a_search_is_drawn_to_its_target(framework: Framework) -> None:
    net, latency = framework.attached(weight=0.0, schedule=Schedule(discretization=0.5, final_temperature=0.2))
    projected = latency.project()
    for step in range(60):
        latency.step(step / 60)
        term = latency()
        term.backward()
        for block in net.blocks:
            gradient = np.asarray(block.alpha.grad)
            moved = np.asarray(block.alpha.detach()) - 0.5 * gradient
            if isinstance(block.alpha, torch.Tensor):
                block.alpha.data, block.alpha.grad = torch.from_numpy(moved), None
            else:
                block.alpha.set_value(moved)
                block.alpha.clear_gradient()
    assert latency.architecture() == projected
    assert latency.on_target(0.03) or latency.project(within=None) == projected


def test_state_is_saved_and_resumed(framework: Framework) -> None:
    net, latency = framework.attached(penalty="equality", schedule=Schedule(final_temperature=0.1, discretization=0.5))
    for step in range(30):
        latency.step(step / 40)
    _, again = framework.attached(net, penalty="equality", schedule=latency_schedule(latency))
    state = latency.state_dict()
    again.load_state_dict(state) if framework.loss is LatencyLoss else again.set_state_dict(state)
    assert number(again()) == number(latency())
    assert again.figures() == latency.figures()
    assert again.fingerprint() == latency.fingerprint()


def latency_schedule(latency: Any) -> Schedule:
    loss = latency if isinstance(latency, LatencyLoss) else latency.torch_loss
    return loss.schedule


# --- figures and messages


def test_figures_and_summary_are_the_same_in_both() -> None:
    figures, summaries = [], []
    for framework in FRAMEWORKS.values():
        _, latency = framework.attached(penalty="inequality")
        figures.append({name.replace("blocks.", ""): value for name, value in latency.figures().items()})
        summaries.append([line for line in latency.summary().splitlines() if "in all" in line or "expected" in line])
    assert figures[0] == pytest.approx(figures[1], rel=1e-5)
    assert "latency/multiplier" in figures[0]
    assert summaries[0] == summaries[1] != []


def test_errors_are_the_same_in_both(framework: Framework) -> None:
    _, latency = framework.attached()
    cheapest, dearest = latency.plan.bounds_ms()
    for use, message in {
        lambda: framework.loss(MadeUp())(): "Expected the loss to be attached: call latency.attach(supernet, "
        "example_input) first.",
        lambda: setattr(latency, "target_ms", -1.0): "Expected `target_ms` to be a positive number of milliseconds, "
        "but got -1.0.",
        lambda: setattr(latency, "target_ms", 2 * dearest): f"Expected a target that the supernet can reach, from "
        f"{cheapest:.4g} ms (its cheapest architecture) to {dearest:.4g} ms (its dearest), but got "
        f"{2 * dearest:.4g} ms.",
        lambda: latency.price({"blocks.0": 7}): "Expected an architecture with a candidate for each choice and no "
        "more, but blocks.1, blocks.2 differ.",
        lambda: latency.config(latency.architecture()): "Expected a supernet that was attached by its options: no "
        "other has configurations.",
        lambda: framework.loss(MadeUp(), penalty="log(LAT^beta)"): "Expected `penalty` to be one formula, but "
        "'log(LAT^beta)' is read in two ways. FBNet published the factor alpha * log(LAT)^beta: penalty='fbnet', with "
        "latency.combine(task_loss). log(LAT^beta) is a misreading of it and only beta * log(LAT): penalty='log', "
        "weight=beta.",
    }.items():
        with pytest.raises(SearchError) as caught:
            use()
        assert str(caught.value) == message


def test_a_count_is_not_called_milliseconds(framework: Framework) -> None:
    net = framework.net()
    size = framework.loss(ResourceCounter("params"), penalty="hinge")
    plan = size.attach(net, framework.example)
    size.target = sum(plan.bounds()) / 2
    chosen = size.discretize()
    assert size.argmax_cost() == size.price(chosen).value == plan.cost(chosen) <= size.target
    assert "latency/expected_params" in size.figures()
    for use in (size.expected_ms, size.std_ms, size.argmax_ms, lambda: size.target_ms):
        with pytest.raises(QuantityError):
            use()


def test_a_supernet_of_the_other_framework_is_refused() -> None:
    with pytest.raises(SearchError) as caught:
        LatencyLoss(MadeUp()).attach(PaddleNet(), paddle.zeros(SHAPE))  # type: ignore[arg-type]
    assert str(caught.value) == (
        "Expected a torch module, but got PaddleNet: a supernet written in Paddle is searched by PaddleLatencyLoss."
    )
    with pytest.raises(SearchError) as caught:
        PaddleLatencyLoss(MadeUp()).attach(TorchNet(), torch.zeros(SHAPE))
    assert str(caught.value) == "Expected a Paddle layer, but got TorchNet."
