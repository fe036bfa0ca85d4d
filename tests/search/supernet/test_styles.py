"""Every style of supernet: choices recognised or named, exact prices, no changes, and the gates that it uses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import paddle
import pytest
import torch
from torch import Tensor, nn

from latency_nas.errors import SearchError
from latency_nas.search.loss.loss import LatencyLoss
from latency_nas.search.plan.gates import width_gates
from latency_nas.search.supernet.naming import options_of
from latency_nas.search.supernet.supernet import find_choices
from tests import paddle_styles
from tests.frameworks import gradients, is_paddle, loss_for, numbers, state_of, zeros
from tests.styles import (
    AutoFormer,
    BigNas,
    Darts,
    DenseNas,
    Fbnet,
    FbnetV2,
    Nb201,
    Nested,
    Ofa,
    PcDarts,
    Proxyless,
    Spos,
)
from tests.supernets import MadeUp

# Paddle warns at each BatchNorm
pytestmark = pytest.mark.filterwarnings("ignore:When training, we now always track:UserWarning")

IMAGE, TOKENS = torch.zeros(1, 3, 8, 8), torch.zeros(1, 6, dtype=torch.int64)


def fbnet(latency: Any, net: Any, **more: Any) -> None:
    x = zeros(net, 1, 3, 8, 8)
    latency.attach(net, run=lambda net: net(x, 5.0), **more)


def image(latency: Any, net: Any, **more: Any) -> None:
    latency.attach(net, zeros(net, 1, 3, 8, 8), **more)


def with_none(latency: LatencyLoss, net: nn.Module) -> None:
    latency.attach(net, IMAGE, choices=find_choices(net))


def ofa(latency: Any, net: Any) -> None:
    latency.attach(net, choices=options_of(net.OPTIONS, lambda net, config: net.configured(config)))


def auto_former(latency: LatencyLoss, net: AutoFormer) -> None:
    latency.attach(net, TOKENS, choices=options_of(net.OPTIONS, lambda net, config: net.subnet(config)))


def gated(latency: Any, net: Any) -> None:
    subnet = lambda net, config: net.subnet(config)  # noqa: E731
    x = zeros(net, 1, 3, 8, 8)
    latency.attach(net, x, choices=options_of(net.OPTIONS, subnet, gates=lambda net: net.gates()))


# style -> its supernet, how a loss is attached to it, the number of its choices
STYLES: dict[str, tuple[Callable[[], Any], Callable[[LatencyLoss, Any], None], int]] = {
    "DARTS": (Darts, image, 10),
    "PC-DARTS": (PcDarts, image, 7),
    "NAS-Bench-201, DARTS-V2": (Nb201, image, 6),
    "NAS-Bench-201, GDAS": (lambda: Nb201(gdas=True), image, 6),
    "FBNet": (Fbnet, fbnet, 3),
    "ProxylessNAS": (Proxyless, image, 3),
    "SPOS": (Spos, image, 4),
    "nested, with None": (Nested, with_none, 3),
    "OFA": (Ofa, ofa, 11),
    "AutoFormer": (AutoFormer, auto_former, 8),
    "FBNetV2": (FbnetV2, gated, 4),
    "BigNAS": (BigNas, ofa, 9),
    "DenseNAS": (DenseNas, gated, 7),
}
IN_PADDLE: dict[str, tuple[Callable[[], Any], Callable[[Any, Any], None], int]] = {
    "Paddle, FBNet": (paddle_styles.Fbnet, fbnet, 3),
    "Paddle, ProxylessNAS": (paddle_styles.Proxyless, image, 3),
    "Paddle, SPOS": (paddle_styles.Spos, image, 4),
    "Paddle, OFA": (paddle_styles.Ofa, ofa, 11),
    "Paddle, FBNetV2": (paddle_styles.FbnetV2, gated, 4),
}
N_NETWORKS = 100
N_IN_PADDLE = 12  # Paddle takes longer to write a program than torch to run it
SLOW = {"Paddle, OFA", "Paddle, FBNetV2"}
ALL = [pytest.param(style, marks=pytest.mark.slow if style in SLOW else ()) for style in [*STYLES, *IN_PADDLE]]
ids = pytest.mark.parametrize("style", ALL)


class Attached(NamedTuple):
    """A supernet, the loss that is attached to it, and the supernet's state before and after."""

    net: Any
    latency: Any
    before: dict[str, Any]
    after: dict[str, Any]


class AttachedOnce(dict[str, Attached]):
    """A supernet of each style with a loss attached, made when it is first asked for."""

    def __missing__(self, style: str) -> Attached:
        make, attach, _ = {**STYLES, **IN_PADDLE}[style]
        torch.manual_seed(0)
        net = make()
        latency = loss_for(net, MadeUp())
        before = with_lists(net)
        attach(latency, net)
        self[style] = Attached(net, latency, before, with_lists(net))
        return self[style]


@pytest.fixture(scope="module")
def attached() -> dict[str, Attached]:
    return AttachedOnce()


def with_lists(net: Any) -> dict[str, Any]:
    lists = {name: list(part) for name, part in vars(net).items() if isinstance(part, list)}
    return {**state_of(net), "lists": lists}


@ids
def test_a_plan_is_the_estimate_of_the_extracted_network(attached: dict[str, Attached], style: str) -> None:
    net, latency = attached[style][:2]
    plan = latency.plan
    assert len(plan.choices) == {**STYLES, **IN_PADDLE}[style][2]
    cheapest, dearest = plan.bounds_ms()
    generator = np.random.default_rng(1)
    for _ in range(N_IN_PADDLE if is_paddle(net) else N_NETWORKS):
        architecture = {
            name: int(generator.integers(len(names))) for name, names in zip(plan.choices, plan.candidates, strict=True)
        }
        options = getattr(net, "OPTIONS", None)
        config = architecture if options is None else {name: options[name][architecture[name]] for name in options}
        side = config.get("resolution", 8)
        example = TOKENS if style == "AutoFormer" else zeros(net, 1, 3, side, side)
        true_ms = MadeUp().predict(net.subnet(config), example).latency_ms
        assert plan.latency_ms(architecture) == pytest.approx(true_ms, rel=1e-9)
        assert latency.price(config).latency_ms == pytest.approx(plan.latency_ms(architecture), rel=1e-12)
        assert cheapest - 1e-9 <= true_ms <= dearest + 1e-9


@ids
def test_attaching_leaves_the_supernet_as_it_was(attached: dict[str, Attached], style: str) -> None:
    _, _, before, after = attached[style]
    assert all(before["training"].values())
    for what, value in before.items():
        assert after[what] == value, what


def forward(net: Any) -> None:
    """One step's forward, as the supernet's own training loop calls it."""
    x = zeros(net, 1, 3, 8, 8)
    net(*((x, 5.0) if isinstance(net, Fbnet | paddle_styles.Fbnet) else (x,)))


def drawn_by(net: Any) -> list[Any]:
    """The gates that a supernet drew last."""
    drawn = [net.drawn] if hasattr(net, "drawn") else [block.drawn for block in net.blocks]
    return [item[0] if isinstance(item, list) else item for item in drawn]


DRAWING: dict[str, Callable[[], Any]] = {
    "soft Gumbel in each mixed op": Fbnet,
    "hard Gumbel in each mixed op": lambda: Fbnet(hard=True),
    "one path, drawn by the root": lambda: Nb201(gdas=True),
    "Paddle, soft Gumbel in each mixed op": paddle_styles.Fbnet,
    "Paddle, hard Gumbel in each mixed op": lambda: paddle_styles.Fbnet(hard=True),
}


@pytest.mark.parametrize("style", DRAWING)
def test_the_sample_that_weighted_a_step_prices_it(style: str) -> None:
    torch.manual_seed(0)
    paddle.seed(0)
    net = DRAWING[style]()
    latency = loss_for(net, MadeUp())
    (fbnet if hasattr(net, "blocks") else image)(latency, net, sampled=True)
    parameters = [block.thetas for block in net.blocks] if hasattr(net, "blocks") else [net.arch_parameters]
    at_rest = float(latency.expected_ms().detach())
    seen = set()
    for _ in range(3):
        forward(net)
        gates = np.concatenate([numbers(item).ravel() for item in drawn_by(net)])
        expected_ms = latency.expected_ms()
        assert float(expected_ms.detach()) == pytest.approx(latency.plan.expected_ms(gates), rel=1e-6)
        assert all(np.abs(gradient).max() > 0 for gradient in gradients(expected_ms, parameters))
        seen.add(round(float(expected_ms.detach()), 9))
    assert len({*seen, round(at_rest, 9)}) > 2
    with paddle.no_grad() if is_paddle(net) else torch.no_grad():
        # this is no training step: the parameters themselves give the gates
        assert float(latency.expected_ms()) == pytest.approx(at_rest, rel=1e-12)
    latency.detach()
    modules = net.sublayers(include_self=True) if is_paddle(net) else net.modules()
    assert all(not module._forward_pre_hooks for module in modules)


SAMPLED = ["SPOS", "OFA", "AutoFormer", "BigNAS", "Paddle, SPOS"]
GATED = [param for param in ALL if not str(param.values[0]).endswith(tuple(SAMPLED))]


@pytest.mark.parametrize("style", GATED)
def test_gradients_reach_every_architecture_parameter(attached: dict[str, Attached], style: str) -> None:
    """And they are those of the expectation, which the plan gives in closed form."""
    net, latency = attached[style][:2]
    gates = numbers(latency.terms()[""].flat_gates())
    expected_ms = latency.expected_ms()
    assert float(expected_ms.detach()) == pytest.approx(latency.plan.expected_ms(gates), rel=1e-9)
    tensors = list({id(tensor): tensor for tensor in architecture_parameters(net)}.values())
    slopes = latency.plan.gradient_ms(gates)
    by_hand = torch.from_numpy(np.log(gates)).requires_grad_()
    sizes = [len(names) for names in latency.plan.candidates]
    soft = torch.cat([row.softmax(-1) for row in by_hand.split(sizes)])
    (soft @ torch.from_numpy(slopes)).backward()
    found = np.concatenate([gradient.ravel() for gradient in gradients(expected_ms, tensors)])
    assert np.sort(found) == pytest.approx(np.sort(by_hand.grad.numpy()), rel=1e-4, abs=1e-7)
    assert np.abs(found).max() > 0


def architecture_parameters(net: Any) -> list[Any]:
    if hasattr(net, "arch_parameters"):
        return net.arch_parameters() if callable(net.arch_parameters) else [net.arch_parameters]
    names = ("alphas", "betas", "thetas", "AP_path_alpha")
    return [tensor for name, tensor in net.named_parameters() if name.endswith(names)]


@pytest.mark.parametrize("style", SAMPLED)
def test_sampled_configurations_have_an_expectation_once_one_is_used(attached: dict[str, Attached], style: str) -> None:
    latency = attached[style].latency
    first = latency.plan.choices[0]
    with pytest.raises(SearchError) as caught:
        latency.expected_ms()
    assert str(caught.value) == (
        f"Expected a configuration in use, since `{first}` has no weights and is sampled: call "
        f"latency.use_config(config) first. latency.random(max_ms=...) and latency.project(config) give configurations "
        f"within a budget, and latency.price(config) prices any."
    )
    config = latency.random(max_ms=sum(latency.plan.bounds_ms()) / 2, seed=0)
    latency.use_config(config)
    assert latency.expected_ms().item() == pytest.approx(latency.price(config).latency_ms, rel=1e-9)
    assert latency.price(config).latency_ms <= sum(latency.plan.bounds_ms()) / 2


def test_effective_widths_are_interpolated(attached: dict[str, Attached]) -> None:
    """FBNetV2's gates priced by the expected width of each layer: piecewise linear, and differentiable in it."""
    net, latency = attached["FBNetV2"][:2]
    widths = torch.tensor(FbnetV2.WIDTHS, dtype=torch.float64)
    by_width = LatencyLoss(MadeUp())
    by_width.attach(
        net,
        IMAGE,
        choices=options_of(
            net.OPTIONS,
            lambda net, config: net.subnet(config),
            gates=lambda net: {
                name: width_gates(row.double() @ widths, FbnetV2.WIDTHS) for name, row in net.gates().items()
            },
        ),
    )
    assert {len(term.candidates) for term in by_width.plan.terms} == {2}
    with torch.no_grad():
        net.alphas.zero_()
        net.alphas[:, 1] = 20.0  # the middle width, almost certainly
    middle = latency.plan.latency_ms(dict.fromkeys(latency.plan.choices, 1))
    assert by_width.expected_ms().item() == pytest.approx(middle, rel=1e-6)
    (gradient,) = torch.autograd.grad(by_width.expected_ms(), [net.alphas])
    assert gradient.abs().max() > 0


class Shrinking(Darts):
    """DARTS, whose cells of reduction have another attribute."""

    def __init__(self) -> None:
        super().__init__()
        for cell in self.cells:
            cell.shrinks = cell.__dict__.pop("reduction")

    def forward(self, x: Tensor) -> Tensor:
        s0 = s1 = self.stem(x)
        for cell in self.cells:
            s0, s1 = s1, cell(s0, s1, (self.alphas_reduce if cell.shrinks else self.alphas_normal).softmax(-1))
        return self.head(s1)


def test_candidates_are_weighted_by_the_matrix_that_was_found_for_them() -> None:
    message = r"`cells.1._ops.0._ops` .* `alphas_normal`, .* by `alphas_reduce`: .*`reduction`"
    with pytest.raises(SearchError, match=message):
        LatencyLoss(MadeUp()).attach(Shrinking(), torch.zeros(1, 3, 8, 8))
