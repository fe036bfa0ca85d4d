"""The choices of a supernet: recognised, or named by hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from supernet import Supernet
from torch import Tensor, nn

from latency_nas.errors import SearchError
from latency_nas.search.loss.loss import LatencyLoss
from latency_nas.search.supernet.choice import Choice
from latency_nas.search.supernet.naming import groups_of, options_of
from latency_nas.search.supernet.supernet import find_choices, read_supernet
from tests.supernets import EXAMPLE, ChainNet, MadeUp, MatrixNet, MixedOp, candidates_of, graph_of

NOTHING_FOUND = (
    "Expected {kind} to be a supernet of a known style (a module with a list of candidates and a parameter vector of "
    "its own; a module whose children are candidates, with a parameter vector of its own; matrices with a row for each "
    "list of candidates in a cell; lists of lists of candidates, without architecture parameters), but it is none. "
    "Found: lists of modules: {lists}; parameter vectors: {vectors}; matrices: {matrices}. Name the choices: {lines}"
)
BESIDE = (
    "latency.attach(supernet, x, choices=groups_of({'1': supernet[1].ops}, "
    "gates=lambda net: {'1': net[1].vector0.softmax(-1)})) (with an entry for each choice)."
)
NO_WEIGHTS = (
    "latency.attach(supernet, x, choices=groups_of({'1.ops': supernet[1].ops})) (with an entry for each choice, and "
    "gates=... where there are weights; if the list holds n candidates of each of several choices: "
    "ops = list(supernet[1].ops); "
    "groups_of({f'choice{i}': ops[n * i : n * i + n] for i in range(3 // n)}))."
)
WIDTHS = (
    "latency.attach(supernet, x, choices=options_of({'width0': WIDTHS}, configure, "
    "gates=lambda net: {'width0': net[1].vector0.softmax(-1)})) (with an entry of 2 options for each choice; "
    "configure(net, config) sets them and returns what runs)."
)
CONFIGURED = (
    "latency.attach(supernet, x, choices=options_of({'depth': (2, 3, 4)}, lambda net, config: net.subnet(**config))) "
    "(where the function returns what runs for a configuration)."
)
ROWS = (
    "latency.attach(supernet, x, choices=groups_of({f'choice{i}': ops for i, ops in enumerate([supernet.blocks[0].ops, "
    "supernet.blocks[1].ops])}, gates=lambda net: {f'choice{i}': row for i, row in "
    "enumerate(net.matrix.softmax(-1))})) (with the 2 lists in the order of the rows)."
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


class Unrecognised(nn.Module):
    """A list of three modules beside parameters of some lengths."""

    def __init__(self, *lengths: int) -> None:
        super().__init__()
        self.ops = nn.ModuleList(candidates_of(4, 3))
        for number, length in enumerate(lengths):
            self.register_parameter(f"vector{number}", nn.Parameter(torch.zeros(length)))


@pytest.mark.parametrize(
    ("lengths", "vectors", "lines"),
    [
        ((), "none", NO_WEIGHTS),
        ((2,), "`1.vector0` (2)", WIDTHS),
        ((3, 3), "`1.vector0` (3), `1.vector1` (3)", BESIDE),
    ],
    ids=["no parameter", "another length", "two that fit"],
)
def test_the_message_gives_what_was_found_and_the_lines_to_write(
    lengths: tuple[int, ...], vectors: str, lines: str
) -> None:
    with pytest.raises(SearchError) as caught:
        find_choices(nn.Sequential(nn.ReLU(), Unrecognised(*lengths)))
    assert str(caught.value) == NOTHING_FOUND.format(
        kind="Sequential", lists="`1.ops` (3 modules)", vectors=vectors, matrices="none", lines=lines
    )


class FlatSpos(nn.Module):
    """One list of all candidates, three a layer; a path of indices runs."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.ModuleList([*candidates_of(1, 3), *candidates_of(1, 3)])

    def forward(self, x: Tensor, path: tuple[int, int] = (0, 0)) -> Tensor:
        for layer, choice in enumerate(path):
            x = self.features[3 * layer + choice](x)
        return x


class Children(nn.Module):
    """Its candidates are its children, beside one vector of that length, but nothing says that they are no layers."""

    def __init__(self) -> None:
        super().__init__()
        for name, candidate in zip("abc", candidates_of(1, 3), strict=True):
            self.add_module(name, candidate)
        self.alpha = nn.Parameter(torch.zeros(3))

    def forward(self, x: Tensor) -> Tensor:
        return sum(gate * op(x) for gate, op in zip(self.alpha.softmax(-1), self.children(), strict=True))


class TwoRows(MatrixNet):
    """More lists than rows."""

    def __init__(self) -> None:
        super().__init__()
        self.matrix = torch.zeros(2, 3, requires_grad=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block, row in zip(self.blocks, self.matrix.softmax(1), strict=False):
            x = block(x, row)
        return self.head(x)


class WidthsBesideLists(MatrixNet):
    """Weights of widths, beside lists that could be taken for their candidates."""

    def __init__(self) -> None:
        super().__init__()
        del self.matrix
        self.width_attentions = nn.Parameter(torch.zeros(2, 3))


class Widths(nn.Module):
    """A convolution whose width is chosen by a row of a matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.alphas = nn.Parameter(torch.zeros(2, 2))
        self.width = 4

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.conv2d(x, torch.zeros(self.width, 1, 3, 3))


def configure(net: Widths, config: dict[str, int]) -> Widths:
    net.width = config["width0"]
    return net


@pytest.mark.parametrize(
    ("make", "choices"),
    [(Children, {"alpha": 3}), (TwoRows, {"choice0": 3, "choice1": 3}), (Widths, {"width0": 2})],
)
def test_the_lines_that_are_suggested_attach_the_supernet(
    make: Callable[[], nn.Module], choices: dict[str, int]
) -> None:
    supernet, latency = make(), LatencyLoss(MadeUp())
    with pytest.raises(SearchError) as caught:
        latency.attach(supernet, EXAMPLE)
    line = str(caught.value).partition("Name the choices: ")[2].partition(" (with ")[0]
    names = {"groups_of": groups_of, "options_of": options_of, "configure": configure, "WIDTHS": (4, 8)}
    exec(line, {"supernet": supernet, "latency": latency, "x": EXAMPLE, **names})  # noqa: S102
    assert dict(zip(latency.plan.choices, map(len, latency.plan.candidates), strict=True)) == choices
    latency.expected().backward()


def test_weights_of_widths_are_not_suggested_for_modules() -> None:
    with pytest.raises(SearchError, match=r"choices=options_of\(\{'width0': WIDTHS\}, .* net\.width_attentions\[0\]"):
        find_choices(WidthsBesideLists())


def test_children_beside_a_vector_are_listed() -> None:
    with pytest.raises(SearchError, match=r"Found: children of a module beside a vector of their number: `1` \(3\); "):
        find_choices(nn.Sequential(nn.ReLU(), Children()))


def test_a_flat_list_gets_the_lines_that_name_its_choices() -> None:
    supernet, latency = FlatSpos(), LatencyLoss(MadeUp())
    with pytest.raises(SearchError) as caught:
        latency.attach(supernet, EXAMPLE)
    first, second = str(caught.value).partition("of several choices: ")[2].rstrip(".)").split("; ")
    names = {"supernet": supernet, "groups_of": groups_of, "n": 3}
    exec(f"{first}\nchoices = {second})", names)  # noqa: S102
    latency.attach(supernet, EXAMPLE, choices=names["choices"])
    assert latency.plan.choices == ("choice0", "choice1")
    assert latency.plan.candidates[1] == ("features.3", "features.4", "features.5")


def test_nothing_was_found() -> None:
    with pytest.raises(SearchError) as caught:
        find_choices(nn.Linear(2, 2))
    assert str(caught.value) == NOTHING_FOUND.format(
        kind="Linear", lists="none", vectors="none", matrices="none", lines=CONFIGURED
    )


def test_a_matrix_that_does_not_fit_is_listed() -> None:
    with pytest.raises(SearchError) as caught:
        find_choices(TwoRows())
    lists = "`blocks` (3 modules), `blocks.0.ops` (3 modules), `blocks.1.ops` (3 modules), `blocks.2.ops` (3 modules)"
    assert str(caught.value) == NOTHING_FOUND.format(
        kind="TwoRows", lists=lists, vectors="none", matrices="`matrix` (2 x 3)", lines=ROWS
    )


def test_what_is_no_supernet_is_refused() -> None:
    with pytest.raises(SearchError) as caught:
        find_choices(3)
    assert str(caught.value) == "Expected the supernet to be a torch module or a Paddle layer, but got int."


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
