"""Reading torch modules: what is read, and that nothing of the model changes."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from latency_nas.errors import GraphError, InputMismatchError
from latency_nas.graph.torch import fakes as torch_fakes
from latency_nas.graph.torch.reader import read_torch
from latency_nas.kernel import n_macs
from tests.networks import MobileNet, ResNet18, Snippet
from tests.supernets import MixedOp
from tests.zoo import ghostnet, mobilenet_v3


class Surgeon(nn.Module):
    """Does all that a reader must undo or survive: random numbers, in-place writes to buffers, shared modules."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        shift = torch.rand(1) + random.random() + float(np.random.rand())
        return self.norm(self.conv(self.conv(x))) + shift


@pytest.mark.parametrize("make", [MobileNet, ResNet18])
def test_multiplications_equal_those_of_torchs_own_counter(make: type[nn.Module]) -> None:
    model, x = make().eval(), torch.zeros(1, 3, 96, 96)
    with FlopCounterMode(display=False) as counter:
        model(x)
    graph = read_torch(model, x)
    assert 2 * sum(n_macs(graph.kernel(node)) for node in graph.nodes) == counter.get_total_flops()


def test_each_op_is_filed_under_the_module_that_called_it() -> None:
    graph = read_torch(ResNet18(), input_shape=(1, 3, 64, 64))
    filed = {node.name: node.modules for node in graph.nodes}
    assert filed["blocks.2.down.0/conv2d"] == ("", "blocks", "blocks.2", "blocks.2.down", "blocks.2.down.0")
    assert filed["blocks.2/add"] == ("", "blocks", "blocks.2")
    assert len(filed) == len(graph.nodes) == 69


def test_a_shared_module_is_read_at_each_call() -> None:
    graph = read_torch(Surgeon(), input_shape=(1, 4, 8, 8))
    names = [node.name for node in graph.nodes]
    assert names == ["conv/conv2d", "conv/conv2d_2", "norm/batch_norm", "/add"]
    assert graph.nodes[1].inputs[0] == graph.nodes[0].outputs[0]


def test_nothing_of_the_model_and_no_random_state_changes() -> None:
    model = Surgeon().train()
    model.norm.eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    attributes = {name: set(vars(module)) for name, module in model.named_modules()}
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    read_torch(model, input_shape=(1, 4, 8, 8))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert [model.training, model.conv.training, model.norm.training] == [True, True, False]
    assert {name: set(vars(module)) for name, module in model.named_modules()} == attributes
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1:] == (random.getstate(), np.random.get_state()[1].tolist())


def test_an_error_leaves_the_model_as_it_was() -> None:
    model = Surgeon().train()
    with pytest.raises(InputMismatchError):
        read_torch(model, input_shape=(1, 5, 8, 8))
    assert all(module.training for module in model.modules())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_weights_are_never_touched() -> None:
    with torch.device("meta"):  # 4 TiB of weights
        model = nn.Sequential(nn.Linear(1 << 20, 1 << 20, bias=False), nn.ReLU())
    (linear, relu) = read_torch(model, input_shape=(1, 1 << 20)).nodes
    assert (linear.op, relu.op) == ("linear", "relu")


def test_an_op_that_is_not_known_stays_as_itself() -> None:
    graph = read_torch(Snippet(lambda net, x: torch.special.i0(net.a(x))), input_shape=(1, 8, 8, 8))
    assert [node.op for node in graph.nodes] == ["conv2d", "aten.i0"]


def test_constants_are_folded() -> None:
    graph = read_torch(Snippet(lambda net, x: x + (net.a.bias.exp() * 2).sum()), input_shape=(1, 8, 8, 8))
    assert [node.op for node in graph.nodes] == ["add"]


def test_an_input_that_does_not_fit_names_the_layer() -> None:
    with pytest.raises(InputMismatchError) as caught:
        read_torch(ResNet18(), input_shape=(1, 1, 64, 64))
    assert str(caught.value) == (
        "Expected an input that fits the model, but with the input (1, 1, 64, 64) layer `stem.0.0` (Conv2d) fails: "
        "Given groups=1, weight of size [64, 3, 7, 7], expected input[1, 1, 64, 64] to have 3 channels, "
        "but got 1 channels instead"
    )


def test_a_forward_that_uses_a_value_is_named() -> None:
    model = nn.Sequential(nn.ReLU(), Snippet(lambda _, x: x * x.sum().item()))
    with pytest.raises(GraphError) as caught:
        read_torch(model, input_shape=(1, 8, 8, 8))
    assert str(caught.value) == (
        "Expected a forward that does not depend on values, but layer `1` (Snippet) reads a "
        "tensor's value: take `.item()`, `bool(tensor)` and the like out of it."
    )


@pytest.mark.parametrize("both", [True, False])
def test_one_input_must_be_given(both: bool) -> None:
    given = {"example_input": torch.zeros(1, 8, 4, 4), "input_shape": (1, 8, 4, 4)} if both else {}
    with pytest.raises(GraphError) as caught:
        read_torch(nn.ReLU(), **given)  # type: ignore[arg-type]
    got = "both" if both else "neither (--input-shape at the command line)"
    assert str(caught.value) == f"Expected either `example_input` or `input_shape`, but got {got}."


@pytest.mark.parametrize(("given", "kind"), [({"x": 1}, "dict"), ((2, 3), "tuple"), ("x", "str"), ({}, "dict")])
def test_an_input_without_a_tensor_is_refused(given: object, kind: str) -> None:
    with pytest.raises(GraphError) as caught:
        read_torch(nn.ReLU(), given)  # type: ignore[arg-type]
    assert str(caught.value) == (
        f"Expected `example_input` to be a tensor, or a tuple or dict with tensors in it, but got {kind}."
    )


def test_candidates_of_unlike_shapes_are_refused() -> None:
    model = nn.Sequential(MixedOp([nn.Conv2d(3, 4, 1), nn.Conv2d(3, 5, 1)]))
    with pytest.raises(GraphError) as caught:
        read_torch(model, input_shape=(1, 3, 8, 8), choices={"0": ("0.ops.0", "0.ops.1")})
    assert str(caught.value) == (
        "Expected all candidates of `0` to give one tensor of the same shape, but candidate 1 gives (1, 5, 8, 8) "
        "and candidate 0 gives (1, 4, 8, 8)."
    )


def test_a_model_of_two_gigabytes_is_read_in_200_megabytes() -> None:
    code = """
import resource, torch
from torch import nn
from latency_nas.graph.torch import fakes as torch_fakes
from latency_nas.graph.torch.reader import read_torch
def peak_mb(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
read_torch(nn.Linear(8, 8), input_shape=(1, 8))
before_mb = peak_mb()
with torch.device("meta"):
    model = nn.Sequential(nn.Linear(16384, 32768), nn.ReLU())
assert sum(parameter.nbytes for parameter in model.parameters()) > 2e9
assert len(read_torch(model, torch.zeros(1, 16384, device="meta")).nodes) == 2
print(peak_mb() - before_mb)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603
    assert float(run.stdout) < 200


@pytest.mark.parametrize("make", [ghostnet, lambda: mobilenet_v3("small")], ids=["GhostNet", "MobileNetV3"])
def test_what_is_remembered_of_operators_changes_no_graph(make: Callable[[], nn.Module]) -> None:
    model = make()
    torch_fakes._LIKE.clear()
    small, first = (read_torch(model, input_shape=(1, 3, side, side)) for side in (64, 96))
    assert len(torch_fakes._LIKE) > 50
    again = read_torch(model, input_shape=(1, 3, 96, 96))  # from memory
    torch_fakes._LIKE.clear()
    assert read_torch(model, input_shape=(1, 3, 96, 96)) == first == again != small


def test_whole_and_true_are_not_remembered_as_the_same() -> None:
    x = torch.zeros(2, 3, dtype=torch.int64)
    types = []
    for scalar in (1, 1.0, True):
        graph = read_torch(Snippet(lambda _, x, scalar=scalar: x * scalar), x)
        types.append(graph.values[graph.outputs[0]].dtype)
    assert types == ["int64", "fp32", "int64"]
