"""Keys of operators against PaddleSlim 2.6.0's own (see tests/golden/paddleslim/make.py), and the dialect of 2021."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from latency_nas.errors import KernelError
from latency_nas.table.formats.paddleslim.templates import OptimisedOp, write_paddleslim_key

ROWS = json.loads((Path(__file__).parents[3] / "golden/paddleslim/rows.json").read_text())


def op_of(type_: str, inputs: list[list[int]], outputs: list[list[int]], attrs: dict[str, Any]) -> OptimisedOp:
    shapes = [tuple(map(tuple, group)) for group in (inputs, outputs)]
    return OptimisedOp(type=type_, inputs=shapes[0], outputs=shapes[1], attrs=attrs)


@pytest.mark.parametrize("row", ROWS, ids=[f"{number} {row[0]}" for number, row in enumerate(ROWS)])
def test_key_is_paddleslims(row: list[Any]) -> None:
    *op, key = row
    assert write_paddleslim_key(op_of(*op)) == key


def test_sparse_convolution() -> None:
    attrs = {"strides": [1, 1], "paddings": [0, 0], "groups": 1, "dilations": [1, 1]}
    attrs |= {"Input": (1, 16, 28, 28), "NonZeroWeights": (96,)}
    op = OptimisedOp(type="sparse_conv2d", inputs=(), outputs=((1, 24, 28, 28),), attrs=attrs)
    assert write_paddleslim_key(op) == (
        "sparse_conv2d in=(1, 16, 28, 28) weight=(24, 16, 1, 1) out=(1, 24, 28, 28) pad=0 stride=1 group=1 "
        "dilation=1 quant=None bit_length=None NonZeroWeights=96"
    )


@pytest.mark.parametrize(
    ("op", "key"),
    [
        (("relu", [[1, 8]], [[1, 8]], {}), "relu in=(1, 8)"),
        (("transpose2", [[1, 2, 3]], [[1, 3, 2], [0]], {}), "transpose2 in=(1, 2, 3)"),
        (("stack", [[1, 2], [1, 2]], [[1, 2, 2]], {"axis": 1}), "stack X=[(1, 2)(1, 2)] axis=1 out=(1, 2, 2)"),
        (("sum", [[1, 2], [1, 3]], [[1, 3]], {}), "sum in=(1, 2) in=(1, 3)  out=(1, 3)"),
        (("scale", [[1, 2]], [[1, 2]], {}), "scale in=(1, 2) out=(1, 2)"),
        (("rnn", [[1, 2]], [[1], [1, 2]], {}), None),
        (("sqrt", [[1, 2]], [[1, 2]], {}), None),
        (
            (
                "conv2d_transpose",
                [[8, 16, 2, 2], [1, 8, 4, 4]],
                [[1, 16, 8, 8]],
                {"strides": [2, 2], "paddings": [0, 0], "dilations": [1, 1], "groups": 1},
            ),
            (
                "conv2d_transpose in=(1, 8, 4, 4) weight=(8, 16, 2, 2) out=(1, 16, 8, 8) pad=0 stride=2 group=1 "
                "dilation=1 quant=None bit_length=None"
            ),
        ),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_key_of_2021(op: tuple[Any, ...], key: str | None) -> None:
    assert write_paddleslim_key(op_of(*op), dialect="2021") == key


def test_op_that_lacks_something_is_refused() -> None:
    with pytest.raises(KernelError) as caught:
        write_paddleslim_key(op_of("elementwise_add", [[1, 8]], [[1, 8]], {"axis": -1}))
    assert str(caught.value) == (
        "Expected an op elementwise_add with all that its key is made of, but its `second` shape is missing."
    )
    with pytest.raises(KernelError) as caught:
        write_paddleslim_key(op_of("relu", [[1, 8]], [[1, 8]], {}), dialect="2020")  # type: ignore[arg-type]
    assert str(caught.value) == "Expected `dialect` to be one of 2022, 2021, but got '2020'."
