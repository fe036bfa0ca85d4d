"""A forward that cannot be read is named with its reason and the way out, never as an input that does not fit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from latency_nas.errors import GraphError, InputMismatchError
from latency_nas.graph.torch.reader import read_torch
from tests.networks import Snippet

VALUE = "reads a tensor's value: take `.item()`, `bool(tensor)` and the like out of it."
ARRAY = "makes a NumPy array of a tensor: write it with torch's own ops."
BRANCH = (
    "decides by a value what runs (`torch.cond` or another op with branches or loops as arguments): "
    "read a module of each branch."
)
SIZES = (
    "has an output whose sizes depend on the values of its tensors (as where tokens are routed to experts, or boxes "
    "are selected): aten.nonzero.default; read a module of the parts whose sizes are fixed, such as one expert with "
    "the tokens that it usually gets."
)


class Experts(nn.Module):
    """A mixture of experts, each of which gets the tokens that chose it."""

    def __init__(self) -> None:
        super().__init__()
        self.router, self.experts = nn.Linear(8, 4), nn.ModuleList(nn.Linear(8, 8) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        chosen, y = self.router(x).argmax(-1), torch.zeros_like(x)
        for index, expert in enumerate(self.experts):
            rows = torch.where(chosen == index)[0]
            y[rows] = expert(x[rows])
        return y


CASES: dict[str, tuple[Callable[[Any, Tensor], Any], str]] = {
    "item": (lambda _, x: x * x.sum().item(), VALUE),
    "list": (lambda _, x: x * x.flatten().tolist()[0], VALUE),
    "numpy": (lambda _, x: torch.from_numpy(x.detach().cpu().numpy()), ARRAY),
    "function of NumPy": (lambda _, x: np.tanh(x), ARRAY),
    "cond": (lambda _, x: torch.cond(x.sum() > 0, lambda y: y * 2, lambda y: y + 1, (x,)), BRANCH),
    "mask": (lambda _, x: x[x > 0], SIZES),
}


@pytest.mark.parametrize("case", CASES)
def test_what_depends_on_values_is_named(case: str) -> None:
    forward, reason = CASES[case]
    with pytest.raises(GraphError) as caught:
        read_torch(nn.Sequential(nn.ReLU(), Snippet(forward)), input_shape=(1, 8, 4, 4))
    assert str(caught.value) == f"Expected a forward that does not depend on values, but layer `1` (Snippet) {reason}"
    assert not isinstance(caught.value, InputMismatchError)


def test_tokens_routed_by_values_are_named() -> None:
    with pytest.raises(GraphError) as caught:
        read_torch(Experts(), input_shape=(6, 8))
    assert str(caught.value) == (
        f"Expected a forward that does not depend on values, but the model's own forward (Experts) {SIZES}"
    )


def test_an_error_of_the_users_own_is_passed_on() -> None:
    def forward(_: Any, x: Tensor) -> Tensor:
        raise ValueError("Give me a square.\nOr else.")

    with pytest.raises(InputMismatchError) as caught:
        read_torch(Snippet(forward), input_shape=(1, 8, 4, 4))
    assert str(caught.value) == (
        "Expected an input that fits the model, but with the input (1, 8, 4, 4) the model's own forward (Snippet) "
        "fails: Give me a square."
    )
    assert isinstance(caught.value.__cause__, ValueError)


@pytest.mark.parametrize(("dtype", "name"), [(torch.float16, "fp16"), (torch.bfloat16, "bf16")])
def test_an_input_given_by_its_shape_has_the_type_of_the_model(dtype: torch.dtype, name: str) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).to(dtype)
    graph = read_torch(model, input_shape=(1, 3, 8, 8))
    assert {graph.values[index].dtype for node in graph.nodes for index in (*node.inputs, *node.outputs)} == {name}
    assert graph == read_torch(model, torch.zeros(1, 3, 8, 8, dtype=dtype))
