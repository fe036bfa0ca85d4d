"""Scores of replacements against the losses of networks that are built by hand, in many styles of supernets."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from math import nan
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from latency_nas.errors import SearchError
from latency_nas.search.loss.loss import LatencyLoss
from latency_nas.search.plan.architecture import Architecture
from latency_nas.search.select.budget import Limit
from latency_nas.search.select.projection import project
from latency_nas.search.select.replacements import score_replacements
from latency_nas.search.supernet.naming import groups_of, options_of
from latency_nas.search.supernet.supernet import find_choices
from tests.killed import killed_and_resumed
from tests.styles import (
    CHANNELS,
    Chain,
    Darts,
    Fbnet,
    Nb201,
    Nested,
    Ofa,
    PcDarts,
    Proxyless,
    Residual,
    Spos,
    chain_ops,
)
from tests.supernets import MadeUp, snapshot

Scores = dict[str, list[float]]


def batches(n: int = 2) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(2, 3, 8, 8, generator=generator) for _ in range(n)]


def square(net: nn.Module, batch: Tensor) -> Tensor:
    return (net(batch) ** 2).mean()


def square_at_temperature(net: nn.Module, batch: Tensor) -> Tensor:
    return (net(*((batch, 5.0) if isinstance(net, Fbnet) else (batch,))) ** 2).mean()


def trained(net: Any) -> Any:
    """`net` with the statistics of its BatchNorms, and with parameters, far from what they are at first."""
    for parameter in net.parameters():
        if parameter.requires_grad and parameter.ndim:
            torch.nn.init.normal_(parameter, std=0.5)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.5, 2.0)
    return net


def by_hand(net: Any, base: Mapping[str, int], scores: Scores, subnet: Callable[[dict[str, int]], nn.Module]) -> Scores:
    """The scores of networks that are built for each replacement."""

    def score(architecture: dict[str, int]) -> float:
        with torch.no_grad():
            network = deepcopy(subnet(architecture)).eval()
            return -float(np.mean([float(square(network, batch)) for batch in batches()]))

    return {name: [score({**base, name: index}) for index in range(len(row))] for name, row in scores.items()}


def assert_equal(scores: Scores, expected: Scores) -> None:
    assert scores.keys() == expected.keys()
    for name, row in scores.items():
        assert row == pytest.approx(expected[name], rel=1e-6, abs=1e-9), name
    assert any(len(set(row)) > 1 for row in scores.values())


RECOGNISED: dict[str, Callable[[], Any]] = {
    "DARTS: a matrix on the root": Darts,
    "NAS-Bench-201: a matrix on the root": Nb201,
    "GDAS: one path that is drawn": lambda: Nb201(gdas=True),
    "FBNet: a parameter in each block, Gumbel gates": Fbnet,
    "FBNet: hard Gumbel gates": lambda: Fbnet(hard=True),
    "ProxylessNAS: two paths that are drawn": Proxyless,
    "SPOS: lists of lists": Spos,
    "nested, with None": Nested,
}


def choices_of(net: nn.Module) -> Any:
    """What says that a candidate that is None runs nothing; None for supernets without one."""
    return find_choices(net) if isinstance(net, Nested) else None


@pytest.mark.parametrize("style", RECOGNISED)
@pytest.mark.parametrize("given", [False, True])
def test_scores_are_losses_of_networks_built_by_hand(style: str, given: bool) -> None:
    torch.manual_seed(0)
    net = trained(RECOGNISED[style]())
    latency = LatencyLoss(MadeUp())
    latency.attach(
        net,
        run=lambda net: net(batches()[0], 5.0) if isinstance(net, Fbnet) else net(batches()[0]),
        choices=choices_of(net),
    )
    if given:
        random_choice = random.Random(0)
        base = {
            name: random_choice.randrange(len(names))
            for name, names in zip(latency.plan.choices, latency.plan.candidates, strict=True)
        }
    else:
        base = dict.fromkeys(latency.plan.choices, 0) if isinstance(net, Spos) else latency.architecture()
    scores = score_replacements(
        net, square_at_temperature, batches(), base=base if given else None, choices=choices_of(net)
    )
    assert {name: len(row) for name, row in scores.items()} == dict(
        zip(latency.plan.choices, map(len, latency.plan.candidates), strict=True)
    )
    assert_equal(scores, by_hand(net, base, scores, net.subnet))


def test_scores_and_a_budget_give_an_architecture() -> None:
    torch.manual_seed(0)
    net = trained(Spos())
    latency = LatencyLoss(MadeUp())
    plan = latency.attach(net, batches()[0])
    scores = score_replacements(net, square, batches())
    cheapest, dearest = plan.bounds()
    budget = Limit(plan=plan, max_cost=(cheapest + dearest) / 2)
    assert budget.keeps(project(scores, [budget]))


# --- choices that are named


class Stacked(Chain):
    """Gates by a function, which no parameter is for; the outputs are stacked, and changed in place."""

    def __init__(self) -> None:
        super().__init__([nn.ModuleList(chain_ops()) for _ in range(2)])
        self.row = nn.Parameter(torch.randn(2, 4))

    def gates(self) -> dict[str, Tensor]:
        return {"first": (2 * self.row[0]).softmax(0), "second": self.row[1].softmax(0)}

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for gates, block in zip(self.gates().values(), self.blocks, strict=True):
            outputs = [op(x) for op in block]
            for gate, output in zip(gates, outputs, strict=True):
                output.mul_(gate)
            x = torch.stack(outputs).sum(0)
        return self.head(x)


def test_groups_whose_gates_are_a_function() -> None:
    torch.manual_seed(0)
    net = trained(Stacked())
    groups = groups_of({"first": net.blocks[0], "second": net.blocks[1]}, gates=lambda net: net.gates())
    scores = score_replacements(net, square, batches(), choices=groups)
    base = {name: int(gates.argmax()) for name, gates in net.gates().items()}
    assert_equal(
        scores,
        by_hand(
            net, base, scores,
            lambda one: nn.Sequential(net.stem, net.blocks[0][one["first"]], net.blocks[1][one["second"]], net.head),
        ),
    )  # fmt: skip


class Sliced(nn.Module):
    """The block of `Ofa` with one kernel and expansion, whose weights are copies of slices."""

    def __init__(self, block: Any, kernel: int, expansion: int) -> None:
        super().__init__()
        n, cut = CHANNELS * expansion, (5 - kernel) // 2
        inside = slice(cut, 5 - cut)
        expand, project = nn.Conv2d(CHANNELS, n, 1), nn.Conv2d(n, CHANNELS, 1)
        depth = nn.Conv2d(n, n, kernel, padding=kernel // 2, groups=n)
        for conv, weight, bias in (
            (expand, block.expand.weight[:n], block.expand.bias[:n]),
            (depth, block.depth.weight[:n, :, inside, inside], block.depth.bias[:n]),
            (project, block.project.weight[:, :n], block.project.bias),
        ):
            conv.weight.data, conv.bias.data = weight.data.clone(), bias.data.clone()
        self.whole = Residual(nn.Sequential(expand, nn.ReLU(), depth, nn.ReLU(), project))

    def forward(self, x: Tensor) -> Tensor:
        return self.whole(x)


OFA_OPTIONS = {name: options for name, options in Ofa.OPTIONS.items() if name != "resolution"}


def sliced(net: Ofa, config: Mapping[str, int]) -> nn.Module:
    numbers = [2 * stage + number for stage in range(2) for number in range(config[f"depth{stage}"])]
    blocks = [Sliced(net.blocks[number], config[f"kernel{number}"], config[f"expansion{number}"]) for number in numbers]
    return nn.Sequential(net.stem, *blocks, net.head)


def test_options_are_scored_by_networks_of_slices() -> None:
    torch.manual_seed(0)
    net = trained(Ofa())
    options = options_of(OFA_OPTIONS, lambda net, config: net.configured({**config, "resolution": 8}))
    base = {name: values[-1] for name, values in OFA_OPTIONS.items()}
    before = vars(net.blocks[0]).copy()
    scores = score_replacements(net, square, batches(), choices=options, base=base)
    assert vars(net.blocks[0]) == before
    indices = {name: len(values) - 1 for name, values in OFA_OPTIONS.items()}
    config = lambda one: {name: OFA_OPTIONS[name][index] for name, index in one.items()}  # noqa: E731
    assert_equal(scores, by_hand(net, indices, scores, lambda one: sliced(net, config(one))))
    assert score_replacements(net, square, batches(), choices=options, base=Architecture(indices)) == scores


def test_derive_gives_the_network() -> None:
    """PC-DARTS weighs its edges; the networks that are derived from it have no such weights."""
    torch.manual_seed(0)
    net = trained(PcDarts())
    scores = score_replacements(net, square, batches(), derive=lambda net, one: net.subnet(one))
    base = {f"alphas_reduce[{row}]": int(net.alphas_reduce[row].argmax()) for row in range(5)}
    assert_equal(scores, by_hand(net, base, scores, net.subnet))


# --- what is left as it was


def state(net: nn.Module) -> dict[str, Any]:
    return {
        **snapshot(net),
        "forwards": [vars(module).get("forward") for module in net.modules()],
        "hooks": [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in net.modules()],
        "numpy": str(np.random.get_state()),
        "python": random.getstate(),
        "torch": torch.get_rng_state().tolist(),
    }


@pytest.mark.parametrize("style", RECOGNISED)
@pytest.mark.parametrize("fails", [False, True])
def test_the_supernet_is_left_as_it_was(style: str, fails: bool) -> None:
    net = trained(RECOGNISED[style]())
    before, n_calls = state(net), []

    def loss(net: nn.Module, batch: Tensor) -> Tensor:
        assert not any(module.training for module in net.modules())
        assert not torch.is_grad_enabled()
        n_calls.append(np.random.rand() + torch.rand(()).item())
        if fails and len(n_calls) == 7:
            raise RuntimeError
        next(iter(net.parameters())).data.mul_(1.5)
        return square_at_temperature(net, batch)

    if fails:
        with pytest.raises(RuntimeError):
            score_replacements(net, loss, batches(), choices=choices_of(net))
    else:
        first = score_replacements(net, loss, batches(), choices=choices_of(net))
        assert first == score_replacements(net, loss, batches(), choices=choices_of(net))
    after = state(net)
    for what, value in before.items():
        assert after[what] == value, what


# --- resuming


def slow_scores(path: Path | None, pause: Callable[[], None] = lambda: None, **more: Any) -> Scores:
    torch.manual_seed(0)
    net = trained(Spos())

    def loss(net: nn.Module, batch: Tensor) -> Tensor:
        pause()
        return square(net, batch) + torch.rand(())

    return score_replacements(net, loss, batches(), path=path, **more)


@pytest.mark.parametrize("n_before", [1, 2, 3, 14, 25])
def test_it_resumes_and_ends_with_the_same_numbers(tmp_path: Path, n_before: int) -> None:
    calls: list[int] = []

    def pause() -> None:
        calls.append(0)
        if len(calls) == n_before:
            raise KeyboardInterrupt

    file, steps = tmp_path / "scores.jsonl", []
    with pytest.raises(KeyboardInterrupt):
        slow_scores(file, pause)
    calls.clear()
    n_before = 0
    assert slow_scores(file, pause, on_progress=lambda done, total: steps.append((done, total))) == slow_scores(None)
    assert steps[0] == (1, 13)
    assert steps[-1] == (13, 13)
    assert len(calls) == 2 * len(steps) <= 2 * 13
    calls.clear()
    assert slow_scores(file, pause) == slow_scores(None)
    assert len(calls) == 2, "the base network alone"


KILLED = """
import sys, time
from pathlib import Path
from tests.search.select.test_replacements import slow_scores

Path(sys.argv[2]).touch()
slow_scores(sys.argv[1], lambda: time.sleep(0.05))
"""


@pytest.mark.slow
def test_killed_scoring_ends_with_the_same_numbers(tmp_path: Path) -> None:
    file = tmp_path / "scores.jsonl"
    assert killed_and_resumed(KILLED, file, tmp_path / "begun") > 0
    assert len(file.read_text().splitlines()) == 1 + 13
    assert slow_scores(file) == slow_scores(None)


# --- what is refused


def message(function: Callable[[], Any]) -> str:
    with pytest.raises(SearchError) as caught:
        function()
    return str(caught.value)


def test_a_file_of_other_weights_or_another_base(tmp_path: Path) -> None:
    file, net = tmp_path / "scores.jsonl", trained(Spos())
    score_replacements(net, square, batches(), path=file)
    with torch.no_grad():
        net.head[-1].bias.add_(0.1)
    text = message(lambda: score_replacements(net, square, batches(), path=file))
    assert text.startswith(
        f"Expected {file} to be of the same weights, loss and batches, but the loss of the base network was "
    )
    base = {f"blocks.{number}": 1 for number in range(4)}
    text = message(lambda: score_replacements(net, square, batches(), path=file, base=base))
    assert text.startswith(f"Expected {file} to be of the same arguments, but its base is ")


def test_a_loss_that_is_no_number_names_the_replacement(tmp_path: Path) -> None:
    file, net = tmp_path / "scores.jsonl", trained(Spos())
    with torch.no_grad():
        net.blocks[1][2][0].weight.fill_(nan)
    assert message(lambda: score_replacements(net, square, batches(), path=file)) == (
        "Expected the loss with blocks.1.2 for `blocks.1` to be a finite number, but got tensor(nan). What was "
        "evaluated before is kept in the file, if `path` names one."
    )
    assert len(file.read_text().splitlines()) == 1 + 1 + 3 + 1


def test_batches_that_can_be_gone_through_once() -> None:
    once: Iterator[Tensor] = iter(batches())
    assert message(lambda: score_replacements(Spos(), square, once)) == (
        "Expected batches that can be gone through several times, such as a list or a data loader, but got "
        "list_iterator."
    )
    assert message(lambda: score_replacements(Spos(), square, [])) == "Expected at least one batch, but got none."


class Unused(Spos):
    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks[0][0](self.stem(x)))


def test_choices_that_do_not_run() -> None:
    assert message(lambda: score_replacements(Unused(), square, batches())) == (
        "Expected every choice to run in the supernet's forward, but blocks.1, blocks.2, blocks.3 did not: give "
        "`derive`, which makes the network of an architecture."
    )


def test_a_candidate_that_is_none_needs_gates_that_can_be_set() -> None:
    net = Stacked()
    groups = groups_of({"first": [*net.blocks[0][:3], None], "second": net.blocks[1]}, gates=lambda net: net.gates())
    assert message(lambda: score_replacements(net, square, batches(), choices=groups)) == (
        "Expected the gates of `first` to be an architecture parameter, since one of its candidates is None, but a "
        "function gives them: give `derive`, which makes the network of an architecture."
    )


def test_candidates_that_two_choices_share() -> None:
    net = Spos()
    groups = groups_of({"first": net.blocks[0], "second": net.blocks[0]})
    assert message(lambda: score_replacements(net, square, batches(), choices=groups)) == (
        "Expected each candidate in one place, but those of `first` and `second` are the same modules: give `derive`, "
        "which makes the network of an architecture."
    )


def test_functions_that_give_no_module() -> None:
    net = Spos()
    assert message(lambda: score_replacements(net, square, batches(), derive=lambda net, one: None)) == (
        "Expected `derive` to give a module, but got NoneType."
    )
    options = options_of({"depth": (1, 2)}, lambda net, config: None)
    assert message(lambda: score_replacements(net, square, batches(), choices=options)) == (
        "Expected `configure` to give a module, but got NoneType."
    )
    assert message(lambda: score_replacements(None, square, batches())) == (
        "Expected a torch module, but got NoneType."
    )
