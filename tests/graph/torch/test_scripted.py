"""Scripted and traced modules are read as the modules that they were made from."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Optional

import pytest
import torch
from torch import Tensor, nn

from latency_nas import ResourceCounter
from latency_nas.errors import GraphError
from latency_nas.graph import OpGraph
from latency_nas.graph.torch.reader import read_torch
from tests.networks import ResNet18

IMAGE = torch.zeros(1, 3, 32, 32)


class Looped(nn.Module):
    """Branches and loops that a script keeps."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.linear(x) if x.dim() == 2 else x
        for _ in range(2):
            y = y + self.linear(y)
        return y


def network() -> nn.Module:
    blocks = nn.Sequential(nn.Conv2d(8, 8, 3, groups=8), nn.Hardswish())
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(), nn.Linear(8, 4), Looped())
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU6(), blocks, head).eval()


def scripted(model: nn.Module) -> nn.Module:
    with warnings.catch_warnings(action="ignore"):
        made: nn.Module = torch.jit.script(model)
    return made


def traced(model: nn.Module) -> nn.Module:
    with warnings.catch_warnings(action="ignore"):
        made: nn.Module = torch.jit.trace(model, IMAGE)
    return made


def kernels(graph: OpGraph) -> list[str]:
    return [graph.kernel(node).key for node in graph.nodes]


@pytest.mark.parametrize("script", [scripted, traced])
@pytest.mark.parametrize("make", [network, lambda: ResNet18().eval()], ids=["loops", "ResNet18"])
def test_a_script_is_read_as_its_module(make: Callable[[], nn.Module], script: Callable[..., nn.Module]) -> None:
    model = make()
    expected = read_torch(model, IMAGE)
    graph = read_torch(script(model), IMAGE)
    assert kernels(graph) == kernels(expected)
    weighted = [node for node in expected.nodes if any(expected.values[index].parameter for index in node.inputs)]
    assert {node.name for node in weighted} <= {node.name for node in graph.nodes}
    assert ResourceCounter("params").predict(script(model), IMAGE).value == sum(p.numel() for p in model.parameters())


def test_flags_and_weights_of_a_script_stay() -> None:
    script = scripted(network().train())
    before = {name: tensor.clone() for name, tensor in script.state_dict().items()}
    graph = read_torch(nn.Sequential(script, nn.ReLU()), IMAGE)
    assert [node.name for node in graph.nodes][:3] == ["0.0/conv2d", "0.1/batch_norm", "/relu6"]
    assert all(module.training for module in script.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in script.state_dict().items())


def test_a_frozen_script_has_constants_for_parameters() -> None:
    model = network()
    with warnings.catch_warnings(action="ignore"):
        frozen = torch.jit.freeze(scripted(model))  # folds the batch norm into the convolution
    assert [node.op for node in read_torch(frozen, IMAGE).nodes][:3] == ["conv2d", "relu6", "conv2d"]
    of_norm, of_looped = (sum(p.numel() for p in part.parameters()) for part in (model[1], model[4][4]))
    expected = sum(p.numel() for p in model.parameters()) - of_norm + 2 * of_looped  # it runs three times
    assert ResourceCounter("params").predict(frozen, IMAGE).value == expected


def test_a_script_that_uses_a_value_is_named() -> None:
    class Valued(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * 2 if bool(x.sum() > 0) else x

    with pytest.raises(GraphError) as caught:
        read_torch(scripted(Valued()), IMAGE)
    assert str(caught.value) == (
        "Expected a forward that does not depend on values, but the model's own forward (RecursiveScriptModule) "
        "reads a tensor's value: take `.item()`, `bool(tensor)` and the like out of it."
    )


class Attends(nn.Module):
    """Attention of all kinds, with its averaged weights."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.before = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=True)
        self.after = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, activation="gelu")

    def forward(self, x: Tensor, hidden: Tensor, causal: Optional[Tensor]) -> Tensor:  # noqa: UP045 - scripts need it
        y, weights = self.attention(x, x, x, key_padding_mask=hidden)
        assert weights is not None
        y = self.attention(y, y, y, attn_mask=causal, need_weights=False)[0] + self.attention(x, y, y)[0]
        return self.before(y, src_key_padding_mask=hidden) + self.after(y, src_mask=causal) + weights.mean()


def test_attention_of_a_script_is_that_of_its_module() -> None:
    model, x, hidden = Attends().eval(), torch.zeros(2, 5, 8), torch.zeros(2, 5, dtype=torch.bool)
    expected = kernels(read_torch(model, (x, hidden, None)))
    assert kernels(read_torch(scripted(model), (x, hidden, None))) == expected
    assert sum(key.startswith("softmax") for key in expected) == 5
    causal = torch.zeros(5, 5, dtype=torch.bool)  # which scripts expand for all heads
    left, right = (read_torch(one, (x, hidden, causal)) for one in (model, scripted(model)))
    counter = ResourceCounter("macs")
    assert counter.predict(left).value == counter.predict(right).value > 0
