"""Numbers that a program computes: each rule against the value that Paddle's documentation gives it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from latency_nas.graph.paddle.folding import compute, has_open_sizes, typed, with_numbers
from latency_nas.graph.paddle.program import PaddleOp


def operator(kind: str, n: int = 1, n_results: int = 1, **attrs: Any) -> PaddleOp:
    names = tuple(f"x{index}" for index in range(n))
    results = tuple(f"y{index}" for index in range(n_results))
    return PaddleOp(type=kind, inputs={"X": names} if n else {}, outputs={"Out": results}, attrs=attrs)


def computed(op: PaddleOp, *operands: Any) -> list[Any] | None:
    known = {f"x{index}": np.array(value) for index, value in enumerate(operands)}
    made = compute(op, list(known), [item.shape for item in known.values()], known)
    return None if made is None else [item.tolist() for item in made]


@pytest.mark.parametrize(
    ("op", "operands", "expected"),
    [
        (operator("elementwise_floordiv", 2), ([7, -7], 2), [[3, -4]]),
        (operator("elementwise_mod", 2), (-5, 4), [3]),
        (operator("scale", scale=-1.0, bias=4.0), (3,), [1.0]),
        (operator("scale", scale=2.0, bias=1.0, bias_after_scale=False), (3,), [8.0]),
        (operator("slice", axes=(0,), starts=(1,), ends=(2,), decrease_axis=(0,)), ([5, 6, 7],), [6]),
        (operator("strided_slice", axes=(0,), starts=(-1,), ends=(-9,), strides=(-1,)), ([5, 6, 7],), [[7, 6, 5]]),
        (operator("concat", 2, axis=0), ([1], [2, 3]), [[1, 2, 3]]),
        (operator("stack", 2, axis=0), (1, 2), [[1, 2]]),
        (operator("split", n_results=2, axis=0, sections=(1, 2)), ([1, 2, 3],), [[1], [2, 3]]),
        (operator("unbind", n_results=2, axis=0), ([4, 5],), [4, 5]),
        (operator("gather", 2, axis=0), ([4, 5, 6], [2, 0]), [[6, 4]]),
        (operator("reduce_prod", dim=(0,), keep_dim=False), ([2, 3, 4],), [24]),
        (operator("reshape2", shape=(2, -1)), ([1, 2, 3, 4],), [[[1, 2], [3, 4]]]),
        (operator("unsqueeze2", axes=(0,)), (3,), [[3]]),
        (operator("expand_v2", shape=(2, -1)), ([[1, 2]],), [[[1, 2], [1, 2]]]),
        (operator("tile", repeat_times=(2,)), ([1, 2],), [[1, 2, 1, 2]]),
        (operator("range", 3), (1, 6, 2), [[1, 3, 5]]),
        (operator("where", 3), (True, 1, 2), [1]),
        (operator("fill_constant", 0, shape=(2,), value=3.0), (), [[3.0, 3.0]]),
        (operator("assign_value", 0, shape=(1, 2), int64_values=(8, 9)), (), [[[8, 9]]]),
        (operator("floor"), (2.7,), [2.0]),
        (operator("numel"), ([[1, 2], [3, 4]],), [4]),
        (operator("shape"), ([[1, 2, 3]],), [[1, 3]]),
    ],
    ids=lambda item: item.type if isinstance(item, PaddleOp) else "",
)
def test_numbers(op: PaddleOp, operands: tuple[Any, ...], expected: list[Any]) -> None:
    assert computed(op, *operands) == expected


def test_what_is_not_computed() -> None:
    assert computed(operator("relu"), [1]) is None
    assert computed(operator("fill_constant", 0, shape=(5000,), value=1.0)) is None
    assert computed(operator("tile", repeat_times=(5000,)), [1]) is None
    assert computed(operator("range", 3), 0, 10**12, 1) is None
    assert compute(operator("scale", scale=2.0), ["x0"], [(1,)], {}) is None


def test_types() -> None:
    """Paddle's division of integers gives fractions, which a cast cuts off."""
    assert typed(np.array(7 / 2), "int64").tolist() == 3
    assert typed(np.array(7 / 2), "fp32").tolist() == 3.5


def test_operands_become_attributes() -> None:
    reshape = PaddleOp(
        type="reshape2",
        inputs={"X": ("x",), "ShapeTensor": ("n", "c")},
        outputs={"Out": ("y",)},
        attrs={"shape": (-1, 4)},
    )
    assert has_open_sizes(reshape)
    assert with_numbers(reshape, {"n": np.array([2])}) is reshape  # one of the two is not known
    known = with_numbers(reshape, {"n": np.array([2]), "c": np.array(8)})
    assert (dict(known.inputs), known.attrs["shape"]) == ({"X": ("x",)}, (2, 8))
    assert not has_open_sizes(known)
