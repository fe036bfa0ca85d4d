"""Shapes of inputs, as Python values and as texts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from latency_nas.errors import InputMismatchError
from latency_nas.graph.input_shapes import check_input_shape, parse_input_shapes
from latency_nas.graph.reader import read_model

SIZES = "a sequence of positive integers such as (1, 3, 224, 224)"


def test_sizes_of_any_integer_type() -> None:
    assert check_input_shape(torch.Size([1, 8])) == check_input_shape([np.int64(1), 8]) == (1, 8)
    assert check_input_shape({"ids": [1, 16], "rate": ()}) == {"ids": (1, 16), "rate": ()}
    assert check_input_shape(None) is None


@pytest.mark.parametrize(
    ("shape", "got"),
    [
        ((0, 8), "(0, 8)"), ((-1, 8), "(-1, 8)"), ("1,8", "'1,8'"), (8, "8"), ((1.0, 8), "(1.0, 8)"),
        ((True, 8), "(True, 8)"), (("1", "8"), "('1', '8')"),
    ],
)  # fmt: skip
def test_a_shape_of_anything_else_is_refused_for_every_model(shape: object, got: str) -> None:
    for given, what in ((shape, "`input_shape`"), ({"x": shape}, "`input_shape` of `x`")):
        with pytest.raises(InputMismatchError) as caught:
            read_model(nn.ReLU(), input_shape=given)  # type: ignore[arg-type]
        assert str(caught.value) == f"Expected {what} to be {SIZES}, but got {got}."


def test_a_module_has_no_names_of_inputs() -> None:
    with pytest.raises(InputMismatchError) as caught:
        read_model(nn.ReLU(), input_shape={"x": (1, 8)})
    assert str(caught.value) == (
        "Expected one `input_shape` for the module ReLU, but got shapes of x: only those of an ONNX model are given by "
        "name. Other models take `example_input`."
    )


def test_texts() -> None:
    assert parse_input_shapes([]) is parse_input_shapes([""]) is None
    assert parse_input_shapes(["1, 3,64,64"]) == (1, 3, 64, 64)
    assert parse_input_shapes(["a=1,3", "ns::b=5", "rate="]) == {"a": (1, 3), "ns::b": (5,), "rate": ()}


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["1,x"], "Expected --input-shape to be positive integers such as 1,3,224,224, but got '1,x'."),
        (["1,-1"], "Expected --input-shape to be positive integers such as 1,3,224,224, but got '1,-1'."),
        (["9" * 5000], f"Expected --input-shape to be positive integers such as 1,3,224,224, but got {'9' * 98!r}"),
        (["a=1,0"], "Expected --input-shape of a to be positive integers such as 1,3,224,224, but got '1,0'."),
        (["1,3", "b=5"], "Expected each --input-shape to name its input, such as image=1,3,224,224, but got '1,3'."),
        (["=1"], "Expected each --input-shape to name its input, such as image=1,3,224,224, but got '=1'."),
        (["a=1", "a=2"], "Expected --input-shape once for each input, but got 'a=1', 'a=2'."),
    ],
)
def test_texts_that_are_no_shapes(texts: list[str], message: str) -> None:
    with pytest.raises(InputMismatchError) as caught:
        parse_input_shapes(texts)
    assert str(caught.value).startswith(message[:150])
    assert len(str(caught.value)) < 320
