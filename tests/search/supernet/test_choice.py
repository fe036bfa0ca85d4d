"""Where a supernet chooses: recognised, or named by hand."""

from __future__ import annotations

import pytest
import torch
from supernet import Supernet
from torch import Tensor, nn

from latency_nas.errors import SearchError
from latency_nas.search.loss.loss import LatencyLoss
from latency_nas.search.supernet.choice import Choice
from latency_nas.search.supernet.supernet import find_choices, read_supernet
from tests.supernets import EXAMPLE, ChainNet, MadeUp, MatrixNet, MixedOp, candidates_of, graph_of

NOTHING_FOUND = (
    "Expected {kind} to be a supernet of a known style (a module with a list of candidates and a parameter vector of "
    "its own; matrices with a row for each list of candidates in a cell; lists of lists of candidates, without "
    "architecture parameters), but it is none. Found: lists of modules: {lists}; parameter vectors beside them: "
    "{vectors}; matrices: {matrices}. Missing: {missing}. Name the choices: latency.attach(supernet, "
    "run=lambda net: net(x), groups={{'first': supernet.blocks[0].ops}}, "
    "gates=lambda net: {{'first': net.alphas[0].softmax(-1)}}); without architecture parameters leave `gates` out; an "
    "elastic supernet is given as latency.attach(supernet, x, options={{'depth': (2, 3, 4)}}, "
    "subnet=lambda net, config: net.subnet(**config))."
)
FLAT = (
    " Where `{path}` holds the candidates of several choices, n of each: held = supernet.get_submodule('{path}'); "
    "latency.attach(supernet, x, groups={{f'choice{{i}}': held[n * i : n * i + n] for i in range({n} // n)}})."
)
UNLIKE = "architecture parameters as long as the lists they would belong to"
NO_WEIGHTS = "architecture parameters, one for each of a list's modules"
NO_LISTS = "a ModuleList or ModuleDict of candidates"


def test_the_example_is_recognised() -> None:
    supernet = Supernet()
    choices = find_choices(supernet)
    assert [choice.module for choice in choices] == [f"blocks.{number}" for number in range(9)]
    assert [len(choice.candidates) for choice in choices] == [6, 7, 7] * 3
    for choice, block in zip(choices, supernet.mixed_blocks(), strict=True):
        assert choice.logits
        assert choice.weights(supernet) is block.alpha
        assert supernet.get_submodule(choice.module) is block
        assert [supernet.get_submodule(name) for name in choice.candidates] == list(block.candidates)


def test_weights_are_those_of_the_network_that_is_given() -> None:
    first, second = ChainNet(), ChainNet()
    assert find_choices(first)[1].weights(second) is second.blocks[1].alpha


def test_a_root_that_chooses_is_recognised() -> None:
    (choice,) = find_choices(MixedOp(candidates_of(4, 3)))
    assert (choice.module, choice.candidates) == ("", ("ops.0", "ops.1", "ops.2"))


class Odd(nn.Module):
    """A list of three modules beside parameters of some lengths."""

    def __init__(self, *lengths: int) -> None:
        super().__init__()
        self.ops = nn.ModuleList(candidates_of(4, 3))
        for number, length in enumerate(lengths):
            self.register_parameter(f"vector{number}", nn.Parameter(torch.zeros(length)))


@pytest.mark.parametrize(
    ("lengths", "vectors", "missing"),
    [
        ((), "none", NO_WEIGHTS),
        ((2,), "`1.vector0` (2)", UNLIKE),
        ((3, 3), "`1.vector0` (3), `1.vector1` (3)", UNLIKE),
    ],
    ids=["no parameter", "another length", "two that fit"],
)
def test_what_was_found_and_what_is_missing_is_said(lengths: tuple[int, ...], vectors: str, missing: str) -> None:
    with pytest.raises(SearchError) as caught:
        find_choices(nn.Sequential(nn.ReLU(), Odd(*lengths)))
    flat = "" if lengths else FLAT.format(path="1.ops", n=3)
    found = NOTHING_FOUND.format(
        kind="Sequential", lists="`1.ops` (3 modules)", vectors=vectors, matrices="none", missing=missing
    )
    assert str(caught.value) == found + flat


class FlatSpos(nn.Module):
    """One list of all candidates, three a layer; a path of indices runs."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.ModuleList([*candidates_of(1, 3), *candidates_of(1, 3)])

    def forward(self, x: Tensor, path: tuple[int, int] = (0, 0)) -> Tensor:
        for layer, choice in enumerate(path):
            x = self.features[3 * layer + choice](x)
        return x


def test_a_flat_list_gets_the_lines_that_name_its_choices() -> None:
    supernet, latency = FlatSpos(), LatencyLoss(MadeUp())
    with pytest.raises(SearchError) as caught:
        latency.attach(supernet, EXAMPLE)
    lines = str(caught.value).rpartition("n of each: ")[2].rstrip(".")
    exec(lines, {"supernet": supernet, "latency": latency, "x": EXAMPLE, "n": 3})  # noqa: S102
    assert latency.plan.choices == ("choice0", "choice1")
    assert latency.plan.candidates[1] == ("features.3", "features.4", "features.5")


def test_nothing_was_found() -> None:
    with pytest.raises(SearchError) as caught:
        find_choices(nn.Linear(2, 2))
    assert str(caught.value) == NOTHING_FOUND.format(
        kind="Linear", lists="none", vectors="none", matrices="none", missing=NO_LISTS
    )


def test_a_matrix_that_does_not_fit_is_listed() -> None:
    supernet = MatrixNet()
    supernet.matrix = torch.zeros(2, 3, requires_grad=True)
    with pytest.raises(SearchError) as caught:
        find_choices(supernet)
    lists = "`blocks` (3 modules), `blocks.0.ops` (3 modules), `blocks.1.ops` (3 modules), `blocks.2.ops` (3 modules)"
    assert str(caught.value) == NOTHING_FOUND.format(
        kind="MatrixNet", lists=lists, vectors="none", matrices="`matrix` (2 x 3)", missing=UNLIKE
    )


def test_a_matrix_on_the_root_is_recognised() -> None:
    supernet = MatrixNet()
    choices = find_choices(supernet)
    assert [choice.module for choice in choices] == ["matrix[0]", "matrix[1]", "matrix[2]"]
    assert [choice.candidates for choice in choices] == [choice.candidates for choice in supernet.choices()]
    assert torch.equal(torch.stack([choice.weights(supernet) for choice in choices]), supernet.matrix)


class Backwards(ChainNet):
    """Runs its blocks from the last to the first."""

    def forward(self, x: Tensor) -> Tensor:
        return self.head(nn.Sequential(self.stem, *reversed(self.blocks))(x))


def test_choices_are_in_the_order_in_which_they_run() -> None:
    supernet = Backwards()
    graph, choices = read_supernet(supernet, EXAMPLE)
    assert [choice.module for choice in choices] == ["blocks.2", "blocks.1", "blocks.0"]
    assert [choice.weights(supernet) for choice in choices] == [block.alpha for block in reversed(supernet.blocks)]
    assert graph == graph_of(supernet)
    assert graph.choices == {"blocks.2": 4, "blocks.1": 2, "blocks.0": 3}


def test_choices_that_are_named_are_the_ones_that_are_read() -> None:
    named = MatrixNet().choices()[1:]
    graph, choices = read_supernet(MatrixNet(), EXAMPLE, named)
    assert choices == tuple(named)
    assert list(graph.choices) == ["blocks.1", "blocks.2"]


def test_a_choice_has_two_candidates_or_more() -> None:
    with pytest.raises(SearchError) as caught:
        Choice(module="blocks.0", candidates=("blocks.0.ops.0",), weights=lambda net: torch.zeros(1))
    assert str(caught.value) == "Expected at least two candidates of `blocks.0`, but got 1."
