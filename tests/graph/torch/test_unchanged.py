"""What a forward sets while it is read is undone, at any depth, and nothing that it keeps elsewhere is fake."""

from __future__ import annotations

import gc
from collections import OrderedDict, deque
from collections.abc import Callable
from functools import lru_cache
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

from latency_nas.errors import GraphError
from latency_nas.graph.restored import restored
from latency_nas.graph.torch.reader import read_torch

GLOBAL: dict[str, Any] = {"nested": {"last": None}}
LAST: Tensor | None = None
IMAGE = (1, 4, 8, 8)


class Slots:
    __slots__ = ("items", "late")

    def __init__(self) -> None:
        self.items: list[Any] = []


class Plain:
    def __init__(self) -> None:
        self.slots, self.table, self.random = Slots(), np.zeros(3), np.random.default_rng(0)


class Keeper(nn.Module):
    """Sets all kinds of state in its forward, or by a function."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.nested: dict[str, Any] = {"enc": {"list": [{"set": {1}}]}}
        self.plain, self.pair = Plain(), ([0], OrderedDict(a=1))
        self.recent: deque[int] = deque([1], maxlen=3)
        self.space = SimpleNamespace(size=1)
        self.outside = [nn.Dropout()]  # a module that is not registered
        self.generator = torch.Generator().manual_seed(0)

    def set_state(self, value: Any) -> None:
        self.nested["enc"]["list"][0]["set"].add(2)
        self.nested["enc"]["list"].append(value)
        self.nested["enc"]["new"] = self.new = value
        self.plain.slots.items.append(value)
        self.plain.slots.late = value
        self.plain.table[0] = self.plain.random.random()
        self.pair[0].append(1)
        self.pair[1]["b"] = value
        self.recent.extend((2, 3, 4))
        self.space.size = value
        self.outside[0].p = 0.9
        torch.rand(1, generator=self.generator)

    def state(self) -> Any:
        plain, slots = self.plain, self.plain.slots
        return [
            repr(self.nested), repr(slots.items), hasattr(slots, "late"), plain.table.tolist(), repr(self.pair),
            repr(self.recent), repr(self.space), self.outside[0].p, hasattr(self, "new"),
            plain.random.bit_generator.state, self.generator.get_state().tolist(),
        ]  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        self.set_state(y)
        return y


@pytest.mark.parametrize("fails", [False, True])
def test_state_of_any_depth_is_restored(fails: bool) -> None:
    model = nn.Sequential(Keeper(), nn.Conv2d(5 if fails else 4, 4, 1))
    before = model[0].state()
    if fails:
        with pytest.raises(GraphError):
            read_torch(model, input_shape=IMAGE)
    else:
        read_torch(model, input_shape=IMAGE)
    assert model[0].state() == before


def test_objects_keep_their_identity() -> None:
    model = Keeper()
    held = model.nested["enc"]["list"], model.plain, model.plain.slots
    with restored([model]):
        model.set_state(1)
        model.nested["enc"]["list"] = []
        model.plain.slots = Slots()
    after = model.nested["enc"]["list"], model.plain, model.plain.slots
    assert all(a is b for a, b in zip(held, after, strict=True))


@lru_cache
def positions(n: int) -> Tensor:
    return torch.arange(float(n)).reshape(-1, 1)


@lru_cache
def zeros_of(x: Tensor) -> Tensor:
    return torch.zeros_like(x)


def _closure() -> Callable[[Any], None]:
    kept: dict[str, Any] = {}

    def keep(value: Any) -> None:
        kept["value"] = value

    return keep


_kept = _closure()


class Outside(nn.Module):
    """Keeps constants and activations wherever Python lets it."""

    shared: ClassVar[dict[str, Any]] = {}
    latest: ClassVar[Any] = None

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def forward(self, x: Tensor, seen: list[Any] = []) -> Tensor:  # noqa: B006
        global LAST
        if "positions" not in GLOBAL:
            GLOBAL["positions"] = torch.arange(8.0)
        LAST = GLOBAL["nested"]["last"] = y = self.linear(x)
        Outside.shared["zeros"] = torch.zeros_like(x)
        Outside.latest = (y,)
        seen.append(y)
        _kept(y)
        zeros_of(y)
        result: Tensor = y * positions(8).T * GLOBAL["positions"] + zeros_of(x)
        return result


@pytest.mark.parametrize("outer", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_constants_that_a_forward_caches_outside_can_be_trained_with(outer: Callable[[], Any]) -> None:
    positions.cache_clear()
    GLOBAL.pop("positions", None)
    model, x = Outside(), torch.rand(2, 8)
    with outer():
        graph = read_torch(model, x)
    assert [node.op for node in graph.nodes] == ["linear", "mul", "mul"]
    model(x).sum().backward()
    expected = x.sum(0).outer(torch.arange(8.0) ** 2).T
    assert torch.allclose(model.linear.weight.grad, expected)


def fakes() -> set[int]:
    """The fake tensors of this process; other tests in it, torch's exporter for one, may leave some."""
    return {id(item) for item in gc.get_objects() if type(item) is FakeTensor}


def test_no_fake_survives() -> None:
    globals()["LAST"] = GLOBAL["nested"]["last"] = Outside.latest = None
    Outside.shared.clear()
    before = fakes()
    read_torch(Outside(), input_shape=(2, 8))
    assert (LAST, GLOBAL["nested"]["last"], Outside.latest, Outside.shared) == (None, None, None, {})
    gc.collect()
    assert fakes() <= before


def test_a_read_leaves_no_fakes_to_be_collected() -> None:
    gc.collect()
    gc.disable()
    before = fakes()
    try:
        read_torch(nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.ReLU()), input_shape=IMAGE)
        left = fakes() - before
    finally:
        gc.enable()
    assert not left


class Resizing(nn.Module):
    def __init__(self, fails: bool) -> None:
        super().__init__()
        self.weight, self.fails = nn.Parameter(torch.rand(4, 4)), fails
        self.register_buffer("grown", torch.ones(3))
        self.register_buffer("turned", torch.arange(6.0).reshape(2, 3))
        self.register_buffer("replaced", torch.ones(2))

    def forward(self, x: Tensor) -> Tensor:
        self.weight.data = self.weight.data * 2
        self.weight.requires_grad_(False)
        self.grown.resize_(9).fill_(7)
        self.turned.t_().add_(1)
        self.replaced.data = torch.zeros(5)
        if self.fails:
            raise RuntimeError("midway")
        return x @ self.weight


@pytest.mark.parametrize("fails", [False, True])
def test_sizes_and_contents_of_tensors_are_restored(fails: bool) -> None:
    model = Resizing(fails)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    versions = [tensor._version for tensor in (model.weight, model.grown)]
    if fails:
        with pytest.raises(GraphError, match="midway"):
            read_torch(model, input_shape=(1, 4))
    else:
        assert [node.op for node in read_torch(model, input_shape=(1, 4)).nodes] == ["linear"]
    after = model.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert after["turned"].stride() == (3, 1)
    assert model.weight.requires_grad
    assert [tensor._version for tensor in (model.weight, model.grown)] == versions


class DataOfInput(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("state", torch.zeros(1, 4))

    def forward(self, x: Tensor) -> Tensor:
        read = x + self.state
        self.state.data = x * 2
        return read + self.state


def test_an_activation_that_becomes_the_data_of_a_buffer_is_no_constant() -> None:
    model = DataOfInput()
    with pytest.raises(GraphError) as caught:
        read_torch(model, input_shape=(1, 4))
    assert str(caught.value) == (
        "Expected `.data` to be set to constants, but that of `state` is set to what depends on the input: "
        "use `copy_` for it."
    )
    assert model.state.tolist() == [[0.0] * 4]


def test_lazy_modules_are_refused_and_stay_lazy() -> None:
    model = nn.Sequential(nn.ReLU(), nn.LazyConv2d(8, 3), nn.LazyBatchNorm2d())
    with pytest.raises(GraphError) as caught:
        read_torch(model, input_shape=IMAGE)
    assert str(caught.value) == (
        "Expected parameters with sizes, but layer `1` (LazyConv2d) takes them from its first input: "
        "run the model once on an example input, then read it."
    )
    assert [type(layer) for layer in model[1:]] == [nn.LazyConv2d, nn.LazyBatchNorm2d]
    model(torch.zeros(IMAGE))
    assert [node.op for node in read_torch(model, input_shape=IMAGE).nodes] == ["relu", "conv2d", "batch_norm"]
