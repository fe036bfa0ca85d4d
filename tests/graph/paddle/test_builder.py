"""Operators of programs that are made here: results that few programs read, slices at an index, lists of scalars."""

from __future__ import annotations

import pytest

from latency_nas.engine import fuse
from latency_nas.graph import OpGraph
from latency_nas.graph.paddle.builder import build
from latency_nas.graph.paddle.pdmodel import parse_pdmodel
from latency_nas.graph.paddle.program import PaddleOp, PaddleProgram, PaddleVariable
from latency_nas.graph.paddle.proto import ProgramDesc


def program(*ops: PaddleOp, shape: tuple[int, ...] = (1, 8, 12, 12), **results: tuple[int, ...]) -> OpGraph:
    """The graph of operators between an input `x` and the output, the last of `results`, whose shapes are given."""
    variables = {name: PaddleVariable(shape=item, dtype="fp32") for name, item in {"x": shape, **results}.items()}
    feed = PaddleOp(type="feed", inputs={}, outputs={"Out": ("x",)}, attrs={})
    fetch = PaddleOp(type="fetch", inputs={"X": (list(results)[-1],)}, outputs={}, attrs={})
    return build(PaddleProgram(ops=(feed, *ops, fetch), variables=variables), "a program", None).graph()


def test_a_pooling_costs_the_same_if_only_its_indices_are_read() -> None:
    pool = PaddleOp(type="max_pool2d_with_index", inputs={"X": ("x",)}, outputs={"Mask": ("m",), "Out": ("y",)},
                    attrs={"ksize": (2, 2), "strides": (2, 2), "paddings": (0, 0)})  # fmt: skip
    read = [program(pool, **dict.fromkeys(names, (1, 8, 6, 6))) for names in (("m", "y"), ("y", "m"))]
    (first,), (second,) = (fuse(graph, "Paddle-Lite") for graph in read)
    assert first.kernel == second.kernel
    assert first.kernel.key == (
        "pool2d [1,8,12,12] -> [1,8,6,6] kernel=[2,2] pad=[0,0,0,0] stride=[2,2] type=max dtype=fp32"
    )
    assert [call.kernel.op for call in fuse(read[1], "MNN")] == ["raster", "pool2d", "raster"]


def test_indices_come_after_what_they_are_of_whatever_the_order_of_the_file() -> None:
    top = PaddleOp(type="top_k_v2", inputs={"X": ("x",)}, outputs={"Indices": ("i",), "Out": ("y",)}, attrs={"k": 3})
    (node,) = program(top, i=(1, 8, 12, 3), y=(1, 8, 12, 3)).nodes
    (other,) = program(top, y=(1, 8, 12, 3), i=(1, 8, 12, 3)).nodes
    assert (node.op, node.outputs) == (other.op, other.outputs)


@pytest.mark.parametrize(
    ("axes", "starts", "ends", "gone", "target", "key"),
    [
        ((1,), (0,), (1,), (1,), (1, 12, 12), "axes=[1] starts=[0]"),
        ((1,), (-1,), (8,), (1,), (1, 12, 12), "axes=[1] starts=[7]"),
        ((1, 2), (1, 0), (3, 1), (2,), (1, 2, 12), "axes=[1,2] starts=[1,0]"),
        ((0, 1, 2), (0, 3, 0), (1, 4, 1), (0, 1, 2), (12,), "axes=[0,1,2] starts=[0,3,0]"),
    ],
)
def test_an_index_drops_its_axis(
    axes: tuple[int, ...], starts: tuple[int, ...], ends: tuple[int, ...], gone: tuple[int, ...],
    target: tuple[int, ...], key: str,
) -> None:  # fmt: skip
    """MNN copies once; for Paddle-Lite it is one operator."""
    attrs = {"axes": axes, "starts": starts, "ends": ends, "decrease_axis": gone}
    graph = program(PaddleOp(type="slice", inputs={"Input": ("x",)}, outputs={"Out": ("y",)}, attrs=attrs), y=target)
    sizes = ",".join(map(str, target))
    assert [call.kernel.key for call in fuse(graph, "Paddle-Lite")] == [
        f"slice [1,8,12,12] -> [{sizes}] {key} dtype=fp32"
    ]
    assert [call.kernel.key for call in fuse(graph, "MNN")] == [
        f"raster [1,8,12,12] -> [{sizes}] source=plain target=plain dtype=fp32"
    ]


def test_numbers_of_a_list_of_scalars() -> None:
    """Newer versions of Paddle write the elements of a constant so."""
    desc = ProgramDesc()
    attr = desc.blocks.add(idx=0).ops.add(type="assign_value").attrs.add(name="values", type=17)
    for number in (0, 2, 3):
        attr.scalars.add(type=2, i=number)
    (op,) = parse_pdmodel(desc.SerializeToString(), "a program").ops
    assert op.attrs["values"] == (0, 2, 3)


@pytest.mark.parametrize(("method", "mode"), [("bilinear", "linear"), ("bicubic", "cubic"), ("nearest", "nearest")])
def test_modes_of_a_resize_have_the_names_of_the_vocabulary(method: str, mode: str) -> None:
    attrs = {"interp_method": method, "out_h": 24, "out_w": 24}
    resize = PaddleOp(type=f"{method}_interp_v2", inputs={"X": ("x",)}, outputs={"Out": ("y",)}, attrs=attrs)
    (node,) = program(resize, y=(1, 8, 24, 24)).nodes
    assert (node.op, node.attrs) == ("resize", {"mode": mode})
