"""The expected latency and its gradient, against plain lookups, brute force and finite differences."""

from __future__ import annotations

import copy
import pickle
import random
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from supernet import Supernet
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from latency_nas.errors import InputMismatchError, LatencyNASError, SearchError, TableError, UnknownTableError
from latency_nas.estimate import LatencyEstimator
from latency_nas.graph.architectures import random_architectures
from latency_nas.search.loss.constraint import CONSTRAINTS
from latency_nas.search.loss.loss import LatencyLoss
from latency_nas.search.loss.penalty import FACTORS, PENALTIES
from latency_nas.search.plan.cost import Cost, Term
from latency_nas.search.plan.gates import PackedPlan
from latency_nas.search.plan.plan import CostPlan
from latency_nas.search.supernet.choice import Choice
from latency_nas.search.supernet.supernet import find_choices
from latency_nas.table import named_tables
from tests.supernets import (
    EXAMPLE,
    ChainNet,
    MatrixNet,
    MixedOp,
    all_architectures,
    candidates_of,
    graph_of,
    loss_of,
    plan_of,
    snapshot,
    table_of,
)

OUT_OF_REACH = (
    "Expected a target that the supernet can reach, from {:.4g} ms (its cheapest architecture) to {:.4g} ms (its "
    "dearest), but got {:.4g} ms."
)
NOT_ATTACHED = "Expected the loss to be attached: call latency.attach(supernet, example_input) first."


def set_alphas(parameters: list[nn.Parameter], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for alpha in parameters:
            alpha.copy_(torch.randn(alpha.shape, generator=generator))


def softmax(values: np.ndarray) -> np.ndarray:
    powers = np.exp(values - values.max())
    return powers / powers.sum()


def gates_of(supernet: ChainNet, temperature: float) -> list[np.ndarray]:
    return [softmax(alpha.detach().double().numpy() / temperature) for alpha in supernet.alphas()]


# --- the expectation


@pytest.mark.parametrize("logits", [True, False])
def test_one_hot_gates_give_the_price_of_that_network(logits: bool) -> None:
    supernet, example = Supernet(stages=((24, 2), (48, 2))), torch.zeros(1, 1, 32, 32)
    choices = [replace(choice, logits=logits) for choice in find_choices(supernet)]
    loss = loss_of(supernet, example, choices=choices)
    for architecture in random_architectures(graph_of(supernet, example).choices, 20, seed=1):
        with torch.no_grad():
            for block, index in zip(supernet.mixed_blocks(), architecture.values(), strict=True):
                block.alpha.zero_()[index] = 1e4 if logits else 1
        estimate = LatencyEstimator(loss.estimator.table).predict(supernet.subnet(architecture), example)
        assert loss.expected_ms().item() == pytest.approx(estimate.latency_ms, rel=1e-9)
        assert loss.argmax_ms() == pytest.approx(estimate.latency_ms, rel=1e-9)
        assert loss.architecture() == architecture


def test_random_gates_against_a_double_loop_and_all_architectures() -> None:
    supernet = ChainNet()
    loss = loss_of(supernet, temperature=0.7)
    sizes = graph_of(supernet).choices
    price = LatencyEstimator(loss.estimator.table)
    prices_ms = [price.predict(supernet.subnet(item), EXAMPLE).latency_ms for item in all_architectures(sizes)]
    for seed in range(5):
        set_alphas(supernet.alphas(), seed)
        gates = gates_of(supernet, 0.7)
        looped_ms = loss.plan.fixed_ms
        for row, costs_ms in zip(gates, loss.plan.costs_ms, strict=True):
            for gate, cost_ms in zip(row, costs_ms, strict=True):
                looped_ms += gate * cost_ms
        chances = [
            np.prod([row[index] for row, index in zip(gates, item.values(), strict=True)])
            for item in all_architectures(sizes)
        ]
        assert loss.expected_ms().item() == pytest.approx(looped_ms, rel=1e-12)
        assert loss.expected_ms().item() == pytest.approx(np.dot(chances, prices_ms), rel=1e-9)


def test_gates_are_the_softmax_padded_with_zeros() -> None:
    supernet = ChainNet()
    gates = loss_of(supernet, temperature=0.3).gates().detach().numpy()
    expected = np.zeros((3, 4))
    for row, values in zip(expected, gates_of(supernet, 0.3), strict=True):
        row[: len(values)] = values
    np.testing.assert_allclose(gates, expected, rtol=1e-12)


def test_a_low_temperature_leaves_the_most_probable_architecture() -> None:
    supernet = ChainNet()
    loss = loss_of(supernet)
    assert abs(loss.expected_ms().item() - loss.argmax_ms()) > 0.1
    loss.temperature.fill_(1e-3)
    assert loss.expected_ms().item() == pytest.approx(loss.argmax_ms(), rel=1e-9)


def test_named_gates_are_taken_as_they_are() -> None:
    supernet = MatrixNet()
    rows = [
        replace(choice, weights=lambda net, row=row: net.matrix.softmax(1)[row])
        for row, choice in enumerate(supernet.choices(logits=False))
    ]
    assert torch.equal(loss_of(supernet, choices=rows).gates(), supernet.matrix.softmax(1).double())
    by_logits = loss_of(supernet, choices=supernet.choices()).expected_ms()
    assert loss_of(supernet, choices=rows).expected_ms().item() == pytest.approx(by_logits.item(), rel=1e-6)


def test_autocast_does_not_round() -> None:
    loss = loss_of(ChainNet())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = loss.expected_ms()
    assert torch.equal(inside, loss.expected_ms())


# --- the gradient


@pytest.mark.parametrize("penalty", PENALTIES)
def test_gradients_agree_with_finite_differences(penalty: str) -> None:
    supernet = MatrixNet()
    loss = loss_of(supernet, choices=supernet.choices(), at=0.1, weight=3.0, penalty=penalty, temperature=0.8)

    def forward(matrix: Tensor) -> Tensor:
        supernet.matrix = matrix
        return loss()

    alphas = torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    assert forward(alphas).item() > 0
    assert torch.autograd.gradcheck(forward, (alphas,))


def test_gradient_of_every_alpha_is_the_formula() -> None:
    """dE/dalpha_ij = p_ij (t_ij - sum_k p_ik t_ik) / temperature; padding adds nothing and no NaN."""
    supernet = ChainNet().double()
    loss = loss_of(supernet, EXAMPLE.double(), temperature=0.5)
    set_alphas(supernet.alphas(), 0)
    loss.expected_ms().backward()
    for alpha, row, costs in zip(supernet.alphas(), gates_of(supernet, 0.5), loss.plan.costs_ms, strict=True):
        costs_ms = np.array(costs)
        assert alpha.grad is not None
        np.testing.assert_allclose(alpha.grad.numpy(), row * (costs_ms - row @ costs_ms) / 0.5, rtol=1e-9)
        assert (alpha.grad != 0).all()


def test_a_dearer_candidate_raises_the_expectation() -> None:
    supernet = ChainNet()
    loss = loss_of(supernet)
    for alpha, costs_ms in zip(supernet.alphas(), loss.plan.costs_ms, strict=True):
        before_ms = loss.expected_ms().item()
        with torch.no_grad():
            alpha[int(np.argmax(costs_ms))] += 0.1
        assert loss.expected_ms().item() > before_ms + 1e-3


@pytest.mark.parametrize("at", [0.1, 0.9])
def test_descent_ends_on_the_target(at: float) -> None:
    supernet = ChainNet()
    loss = loss_of(supernet, at=at)
    assert loss.expected_ms().item() != pytest.approx(loss.target_ms, rel=0.05)
    optimizer = torch.optim.Adam(supernet.alphas(), lr=0.1)
    for _ in range(100):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    assert loss.expected_ms().item() == pytest.approx(loss.target_ms, rel=0.01)


# --- what a step is


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_forward_is_a_scalar_of_the_alphas_type(dtype: torch.dtype) -> None:
    supernet = ChainNet().to(dtype)
    loss = loss_of(supernet, EXAMPLE.to(dtype), weight=2.0)
    assert (loss().shape, loss().dtype) == (torch.Size(()), dtype)
    expected = 2 * abs(loss.expected_ms() / loss.target_ms - 1)
    assert expected.dtype == torch.float64
    assert torch.equal(loss(), expected.to(dtype))


class CountOps(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.counts[str(func)] += 1
        return func(*args, **(kwargs or {}))


def ops_of(loss: LatencyLoss) -> Counter[str]:
    with CountOps() as counter:
        loss()
    return counter.counts


def test_a_step_is_as_many_ops_however_many_choices() -> None:
    few, many = (ops_of(loss_of(ChainNet([3] * n_choices))) for n_choices in (4, 16))
    assert many == few
    assert 5 < few.total() < 40


def test_rows_of_a_matrix_add_only_their_selection() -> None:
    few, many = (ops_of(loss_of(net, choices=net.choices())) for net in (MatrixNet(4), MatrixNet(16)))
    assert many - few == {"aten.select.int": 12}
    assert not few - many


# --- attaching does not change the supernet


class Restless(ChainNet):
    """Samples in its forward from three sources, has a hook, a frozen part and parts in evaluation mode."""

    def __init__(self) -> None:
        super().__init__()
        self.stem.eval()
        self.head.requires_grad_(False)
        self.blocks[1].register_forward_hook(lambda *_: None)

    def forward(self, x: Tensor) -> Tensor:
        noise = random.gauss(0, 1) + float(np.random.rand())
        return super().forward(x + noise * torch.rand_like(x))


@pytest.mark.parametrize("make", [Restless, lambda: Supernet(stages=((8, 2),))], ids=["restless", "gumbel"])
def test_attach_changes_nothing(make: Callable[[], nn.Module]) -> None:
    supernet = make()
    example = torch.zeros(2, 1, 8, 8)
    table = table_of(make(), example)
    target_ms = sum(plan_of(make(), table, example).bounds_ms()) / 2
    loss = LatencyLoss(table, target_ms)
    before = snapshot(supernet)
    loss.attach(supernet, example)
    after = snapshot(supernet)
    for what, value in before.items():
        assert after[what] == value, what
    supernet(example)
    assert snapshot(supernet)["random"] != before["random"]  # the comparison can fail


class Replacing(ChainNet):
    """A forward that puts new tensors into its buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("n_runs", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.n_runs = self.n_runs + 1
        return super().forward(x)


def test_attach_leaves_buffers_that_the_forward_replaces() -> None:
    supernet = Replacing()
    loss_of(supernet)
    assert type(supernet.n_runs) is Tensor


def test_attach_computes_nothing() -> None:
    """Terabytes of weights that do not exist."""
    with torch.device("meta"):
        supernet, example = ChainNet(channels=200_000), torch.zeros(1, 1, 8, 8)
    plan = loss_of(supernet, example).plan
    for architecture in all_architectures(graph_of(supernet, example).choices):
        network = supernet.subnet(architecture)
        estimate = LatencyEstimator(table_of(supernet, example)).predict(network, example)
        assert plan.latency_ms(architecture) == pytest.approx(estimate.latency_ms, rel=1e-9)


def test_the_loss_is_on_the_device_of_the_architecture_parameters() -> None:
    with torch.device("meta"):
        supernet, example = ChainNet(channels=200_000), torch.zeros(1, 1, 8, 8)
    alphas = [torch.zeros(len(block.ops), requires_grad=True) for block in supernet.blocks]
    choices = [
        replace(choice, weights=lambda _, alpha=alpha: alpha)
        for choice, alpha in zip(find_choices(supernet), alphas, strict=True)
    ]
    loss = loss_of(supernet, example, choices=choices)
    mean_ms = loss.plan.fixed_ms + sum(np.mean(costs_ms) for costs_ms in loss.plan.costs_ms)
    assert loss.expected_ms().item() == pytest.approx(mean_ms, rel=1e-9)


def test_the_loss_owns_no_parameters_and_no_supernet() -> None:
    loss = loss_of(ChainNet())
    assert list(loss.parameters()) == []
    assert list(loss.modules()) == [loss]


def test_repr() -> None:
    loss = LatencyLoss(table_of(ChainNet()), 4.5, weight=2.0, penalty="hinge")
    assert repr(loss) == "LatencyLoss(table='unsaved table', target_ms=4.5, weight=2.0, penalty='hinge')"


def test_without_a_target_the_expectation_itself_is_weighed() -> None:
    loss = loss_of(ChainNet(), weight=0.25)
    loss.target_ms = None
    assert loss().item() == pytest.approx(0.25 * loss.expected_ms().item(), rel=1e-6)


def test_the_target_can_be_set_later_and_is_checked() -> None:
    loss = LatencyLoss(table_of(ChainNet()))
    loss.attach(ChainNet(), EXAMPLE)
    cheapest, dearest = loss.plan.bounds_ms()
    loss.target_ms = dearest
    assert loss().item() == pytest.approx(1 - loss.expected_ms().item() / dearest, rel=1e-6)
    for target_ms, message in [
        (-1.0, "Expected `target_ms` to be a positive number of milliseconds, but got -1.0."),
        (2 * dearest, OUT_OF_REACH.format(cheapest, dearest, 2 * dearest)),
    ]:
        with pytest.raises(SearchError) as caught:
            loss.target_ms = target_ms
        assert str(caught.value) == message
        assert loss.target_ms == dearest


def test_attaching_again_replaces_the_supernet() -> None:
    first, second = ChainNet(), ChainNet([4, 3, 2, 4])
    loss = LatencyLoss(table_of(second), 4.6)
    loss.attach(first, EXAMPLE)
    first_ms = loss.expected_ms().item()
    loss.attach(second, EXAMPLE)
    assert loss.gates().shape == (4, 4)
    loss().backward()
    assert all(alpha.grad is not None for alpha in second.alphas())
    loss.attach(first, EXAMPLE)
    assert loss.expected_ms().item() == first_ms


def test_an_attachment_that_fails_leaves_the_one_before() -> None:
    first, second = ChainNet([3, 2]), ChainNet([3, 3, 3, 3])
    loss = loss_of(first, at=0.0)
    before = loss()
    with pytest.raises(LatencyNASError):
        loss.attach(second, EXAMPLE, choices=find_choices(second)[:1])
    assert torch.equal(loss(), before)


# --- saving and copying


def test_temperature_is_the_state() -> None:
    loss, other = loss_of(ChainNet(), temperature=0.25), loss_of(ChainNet(), temperature=4.0)
    assert loss.state_dict() == {"temperature": 0.25, "first_temperature": 0.0, "scale": 1.0, "strength": 0.0}
    before_ms = other.expected_ms().item()
    other.load_state_dict(loss.state_dict())
    assert other.temperature.item() == 0.25
    assert other.expected_ms().item() == loss.expected_ms().item() != before_ms


def test_a_copy_made_with_its_supernet_follows_that() -> None:
    supernet = ChainNet()
    loss = loss_of(supernet)
    copied, copied_loss = copy.deepcopy((supernet, loss))
    assert torch.equal(copied_loss(), loss())
    set_alphas(copied.alphas(), 0)
    assert not torch.equal(copied_loss(), loss())
    copied_loss().backward()
    assert all(alpha.grad is not None for alpha in copied.alphas())
    assert all(alpha.grad is None for alpha in supernet.alphas())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_casting_the_loss_does_not_round_its_costs(dtype: torch.dtype) -> None:
    loss = loss_of(ChainNet())
    expected_ms = loss.expected_ms().item()
    assert loss.to(dtype).expected_ms().item() == expected_ms


def test_a_loss_can_be_pickled() -> None:
    loss = loss_of(ChainNet())
    assert torch.equal(pickle.loads(pickle.dumps(loss))(), loss())  # noqa: S301


# --- errors


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"target_ms": 0}, SearchError, "Expected `target_ms` to be a positive number of milliseconds, but got 0."),
        (
            {"target_ms": float("nan")},
            SearchError,
            "Expected `target_ms` to be a positive number of milliseconds, but got nan.",
        ),
        ({"weight": -0.5}, SearchError, "Expected `weight` to be a number >= 0, but got -0.5."),
        ({"temperature": 0.0}, SearchError, "Expected `temperature` to be a positive number, but got 0.0."),
        (
            {"penalty": "square"},
            SearchError,
            f"Expected `penalty` to be one of {', '.join([*PENALTIES, *FACTORS, *CONSTRAINTS])}, but got 'square'.",
        ),
        (
            {"on_missing": "ignore"},
            TableError,
            "Expected `on_missing` to be error, regress or warn, but got 'ignore'.",
        ),
    ],
)
def test_arguments_out_of_range(options: dict[str, Any], kind: type[LatencyNASError], message: str) -> None:
    with pytest.raises(kind) as caught:
        LatencyLoss(table_of(ChainNet()), **({"target_ms": 1.0} | options))
    assert str(caught.value) == message


def test_a_table_that_is_not_here() -> None:
    with pytest.raises(UnknownTableError) as caught:
        LatencyLoss("Phone of mine", target_ms=20)
    assert str(caught.value) == (
        f"Expected the name or the file of a latency table, but got 'Phone of mine'. Named tables here: "
        f"{', '.join(sorted(named_tables())) or 'none'}. To get one: measure this machine with "
        f"latency_nas.measure_table(...) and save_table(table, 'NAME.parquet'); or give the path of a table in "
        f"another format (latency-nas table formats lists them); or put NAME.parquet into a folder that "
        f"LATENCY_NAS_TABLES names."
    )


def test_a_target_out_of_reach() -> None:
    supernet = ChainNet()
    table = table_of(supernet)
    cheapest, dearest = plan_of(supernet, table).bounds_ms()
    for target_ms in (cheapest / 2, 2 * dearest):
        loss = LatencyLoss(table, target_ms)
        with pytest.raises(SearchError) as caught:
            loss.attach(supernet, EXAMPLE)
        assert str(caught.value) == OUT_OF_REACH.format(cheapest, dearest, target_ms)
        assert not loss.attached
    for target_ms in (cheapest, dearest):
        LatencyLoss(table, target_ms).attach(supernet, EXAMPLE)


def test_the_bounds_in_the_message_are_within_reach() -> None:
    supernet = ChainNet(channels=8)
    table = table_of(supernet)
    with pytest.raises(SearchError) as caught:
        LatencyLoss(table, 1e6).attach(supernet, EXAMPLE)
    cheapest, dearest = plan_of(supernet, table).bounds_ms()
    bounds = [float(text) for text in re.findall(r"[\d.]+(?= ms \()", str(caught.value))]
    assert cheapest <= bounds[0] < bounds[1] <= dearest


@pytest.mark.parametrize(
    "use",
    [
        LatencyLoss.__call__,
        LatencyLoss.expected_ms,
        LatencyLoss.architecture,
        LatencyLoss.argmax_ms,
        lambda loss: loss.plan,
        LatencyLoss.gates,
    ],
    ids=["forward", "expected_ms", "architecture", "argmax_ms", "plan", "gates"],
)
def test_a_loss_that_was_not_attached(use: Callable[[LatencyLoss], object]) -> None:
    loss = LatencyLoss(table_of(ChainNet()), 1.0)
    assert not loss.attached
    with pytest.raises(Exception) as caught:  # noqa: PT011
        use(loss)
    assert (caught.type, str(caught.value)) == (SearchError, NOT_ATTACHED)


def test_an_input_that_does_not_fit() -> None:
    supernet, wrong = ChainNet(), torch.zeros(1, 3, 8, 8)
    with pytest.raises(RuntimeError) as reason:
        supernet.stem[0](wrong)
    loss = LatencyLoss(table_of(supernet), 4.5)
    with pytest.raises(InputMismatchError) as caught:
        loss.attach(supernet, wrong)
    assert str(caught.value) == (
        f"Expected an input that fits the model, but with the input (1, 3, 8, 8) layer `stem.0` (Conv2d) fails: "
        f"{reason.value}"
    )
    assert "forward" not in supernet.blocks[0].__dict__


def attach_error(supernet: nn.Module, choices: list[Choice]) -> tuple[type[BaseException], str]:
    """What attaching with these choices, or the first step with them, raises."""

    def attach_and_step() -> None:
        loss = LatencyLoss(table_of(ChainNet()), 4.6)
        loss.attach(supernet, EXAMPLE, choices=choices)
        loss()

    with pytest.raises(Exception) as caught:  # noqa: PT011
        attach_and_step()
    return caught.type, str(caught.value)


def test_a_choice_that_does_not_run() -> None:
    supernet = ChainNet()
    supernet.unused = MixedOp(candidates_of(4, 2))
    assert attach_error(supernet, list(find_choices(supernet))) == (
        SearchError,
        "Expected every choice to run in the supernet's forward, but unused did not.",
    )


@pytest.mark.parametrize(
    ("lengths", "shape"),
    [((2, 2, 4), "(2,)"), ((2, 3, 4), "(2,)"), (((1, 3), 2, 4), "(1, 3)")],
    ids=["too few", "too few with the right sum", "not a vector"],
)
def test_weights_of_another_shape(lengths: tuple[Any, ...], shape: str) -> None:
    supernet = ChainNet()
    choices = [
        replace(choice, weights=lambda net, length=length: torch.zeros(length))
        for choice, length in zip(find_choices(supernet), lengths, strict=True)
    ]
    sizes = f"{{'blocks.0': {shape}, 'blocks.1': ({lengths[1]},), 'blocks.2': (4,)}}"
    message = f"Expected a vector with a weight for each candidate of each choice, but got {sizes}."
    assert attach_error(supernet, choices) == (SearchError, message)


def test_no_choice_at_all() -> None:
    assert attach_error(ChainNet(), []) == (SearchError, "Expected at least one choice, but got none.")


@pytest.mark.parametrize(
    ("field", "name"),
    [
        ({"candidates": ("blocks.0.ops.0", "blocks.0.ops.9")}, "blocks.0.ops.9"),
        ({"others": (("blocks.1.ops.0", "blocks.1.ops.1", "blocks.8.ops.1"),)}, "blocks.8.ops.1"),
    ],
)
def test_a_name_that_is_no_module(field: dict[str, Any], name: str) -> None:
    supernet = ChainNet()
    first, *others = find_choices(supernet)
    assert attach_error(supernet, [replace(first, **field), *others]) == (
        SearchError,
        f"Expected the names of modules of ChainNet, but it has no `{name}`.",
    )


def test_a_choice_that_is_named_twice() -> None:
    supernet = ChainNet()
    choices = find_choices(supernet)
    assert attach_error(supernet, [*choices, choices[0]]) == (
        SearchError,
        "Expected each choice once, but `blocks.0` is named 2 times.",
    )


@pytest.mark.parametrize("sizes", [(3, 3, 3), (2, 4, 3)])
def test_the_term_can_be_differentiated_twice(sizes: tuple[int, ...]) -> None:
    """As the architecture step of second-order DARTS does."""
    labels = tuple(tuple(map(str, range(size))) for size in sizes)
    costs = tuple(tuple(Cost(value=0.3 * (index + 1)) for index in range(size)) for size in sizes)
    pair = Term(candidates=(0, sizes[0] + 1), cost=Cost(value=0.7))
    plan = CostPlan(choices=tuple("abc"), candidates=labels, costs=costs, fixed=Cost(value=1.0), terms=(pair,))
    packed, temperature = PackedPlan(plan, [True, True, False]), torch.tensor(1.7, dtype=torch.float64)
    weights = torch.rand(sum(sizes), dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 0.1
    weights.requires_grad_()
    assert torch.autograd.gradcheck(lambda w: packed.expected(w, None, temperature), weights)
    assert torch.autograd.gradgradcheck(lambda w: packed.expected(w, None, temperature), weights)
