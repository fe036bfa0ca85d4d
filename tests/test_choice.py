"""Where a supernet chooses: recognised, or named by hand."""

from __future__ import annotations

import pytest
import torch
from supernet import Supernet
from supernets import EXAMPLE, ChainNet, MatrixNet, MixedOp, candidates_of, graph_of
from torch import Tensor, nn

from latency_nas.errors import SearchError
from latency_nas.search.choice import Choice, find_choices, read_supernet

NOTHING_FOUND = (
    "Expected {kind} to hold modules that own a ModuleList of candidates and one parameter vector of the same length, "
    "but found none; module lists seen: {seen}. Name the choices: attach(supernet, x, choices=[Choice("
    "module='blocks.0', candidates=('blocks.0.ops.0', 'blocks.0.ops.1'), weights=lambda net: net.alphas[0])])."
)


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
    ("lengths", "vectors"), [((), 0), ((2,), 1), ((3, 3), 2)], ids=["no parameter", "another length", "two that fit"]
)
def test_what_came_near_is_listed(lengths: tuple[int, ...], vectors: int) -> None:
    with pytest.raises(SearchError) as caught:
        find_choices(nn.Sequential(nn.ReLU(), Odd(*lengths)))
    seen = f"`1.ops` (3 modules, {vectors} parameter vectors of its own)"
    assert str(caught.value) == NOTHING_FOUND.format(kind="Sequential", seen=seen)


def test_nothing_came_near() -> None:
    with pytest.raises(SearchError) as caught:
        find_choices(nn.Linear(2, 2))
    assert str(caught.value) == NOTHING_FOUND.format(kind="Linear", seen="none")


def test_a_matrix_on_the_root_is_not_recognised_but_can_be_named() -> None:
    supernet = MatrixNet()
    with pytest.raises(SearchError, match="module lists seen: `blocks` "):
        find_choices(supernet)
    weights = torch.stack([choice.weights(supernet) for choice in supernet.choices()])
    assert torch.equal(weights, supernet.matrix)


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
