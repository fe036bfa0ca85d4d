"""What each kind of torch op is read as."""

from __future__ import annotations

import math
import tracemalloc
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from latency_nas.engine.mnn.fusion import fuse_mnn
from latency_nas.engine.paddle_lite.fusion import fuse_lite
from latency_nas.graph.onnx.reader import read_onnx
from latency_nas.graph.torch.onnx_export import export_onnx
from latency_nas.graph.torch.reader import read_torch
from latency_nas.kernel import OPS
from tests.zoo import TINY_BERT, Bert


class Lambda(nn.Module):
    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function, self.weight = function, nn.Parameter(torch.ones(8, 8))

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)


def read(module: nn.Module | Callable[..., Any], *shapes: tuple[int, ...]) -> list[tuple[str, dict[str, Any]]]:
    module = module if isinstance(module, nn.Module) else Lambda(module)
    graph = read_torch(module, tuple(torch.zeros(shape) for shape in shapes))
    for node in graph.nodes:
        graph.kernel(node)  # each node is a well-formed kernel
    return [(node.op, dict(node.attrs)) for node in graph.nodes]


def window(n_axes: int, kernel: int, stride: int = 1, pad: int = 0, **more: Any) -> dict[str, Any]:
    sizes = {"kernel": (kernel,) * n_axes, "stride": (stride,) * n_axes, "pad": (pad,) * 2 * n_axes}
    return sizes | more


CONV = {"group": 1, "bias": 1}
IMAGE, LINE, CUBE, WORDS = (1, 8, 6, 6), (1, 8, 6), (1, 8, 6, 6, 6), (2, 5, 8)

# name -> what is read, the shapes of its inputs, what must be read
CASES: dict[str, tuple[Any, tuple[tuple[int, ...], ...], list[tuple[str, dict[str, Any]]]]] = {
    "conv1d": (nn.Conv1d(8, 4, 3), (LINE,), [("conv1d", window(1, 3, dilation=(1,), **CONV))]),
    "conv3d": (nn.Conv3d(8, 4, 3), (CUBE,), [("conv3d", window(3, 3, dilation=(1, 1, 1), **CONV))]),
    "same padding": (
        nn.Conv2d(8, 4, 3, padding="same"),
        (IMAGE,),
        [("conv2d", window(2, 3, pad=1, dilation=(1, 1), **CONV))],
    ),
    "an image without a batch": (
        nn.Conv2d(8, 4, 3),
        ((8, 6, 6),),
        [("reshape", {}), ("conv2d", window(2, 3, dilation=(1, 1), **CONV)), ("reshape", {})],
    ),
    "conv_transpose1d": (
        nn.ConvTranspose1d(8, 4, 3, 2, output_padding=1),
        (LINE,),
        [("conv_transpose1d", window(1, 3, 2, dilation=(1,), output_pad=(1,), **CONV))],
    ),
    "conv_transpose3d": (
        nn.ConvTranspose3d(8, 4, 2, 2),
        (CUBE,),
        [("conv_transpose3d", window(3, 2, 2, dilation=(1, 1, 1), output_pad=(0, 0, 0), **CONV))],
    ),
    "linear of words": (nn.Linear(8, 4), (WORDS,), [("linear", {"bias": 1})]),
    "matmul": (lambda a, b: a @ b, (WORDS, (2, 8, 3)), [("matmul", {})]),
    "bmm": (torch.bmm, (WORDS, (2, 8, 3)), [("matmul", {})]),
    "vector product": (lambda a, b: a @ b, ((8,), (8,)), [("mul", {}), ("reduce_sum", {"axes": (0,), "keepdim": 0})]),
    "einsum": (
        lambda a, b: torch.einsum("bik,bjk->bij", a, b),
        (WORDS, (2, 3, 8)),
        [
            ("reshape", {}), ("transpose", {"perm": (0, 1, 3, 2)}), ("reshape", {}),
            ("transpose", {"perm": (0, 3, 1, 2)}), ("transpose", {"perm": (0, 1, 3, 2)}), ("reshape", {}),
            ("transpose", {"perm": (0, 3, 2, 1)}), ("reshape", {}), ("matmul", {}), ("reshape", {}),
            ("transpose", {"perm": (0, 1, 3, 2)}), ("reshape", {}),
        ],
    ),
    "attention": (
        F.scaled_dot_product_attention,
        ((1, 2, 5, 8),) * 3,
        [
            ("mul", {"scalar": 1}), ("transpose", {"perm": (0, 1, 3, 2)}), ("mul", {"scalar": 1}), ("matmul", {}),
            ("softmax", {"axis": 3}), ("matmul", {}),
        ],
    ),
    "batch_norm": (nn.BatchNorm1d(8), (LINE,), [("batch_norm", {})]),
    "layer_norm": (nn.LayerNorm(8), (WORDS,), [("layer_norm", {})]),
    "layer_norm of two axes": (nn.LayerNorm((5, 8)), (WORDS,), [("layer_norm", {"axis": 1})]),
    "rms_norm": (nn.RMSNorm(8), (WORDS,), [("rms_norm", {})]),
    "group_norm": (nn.GroupNorm(2, 8), (IMAGE,), [("group_norm", {"group": 2})]),
    "instance_norm": (nn.InstanceNorm2d(8), (IMAGE,), [("instance_norm", {})]),
    "prelu": (nn.PReLU(8), (IMAGE,), [("prelu", {})]),
    "clamps": (
        lambda x: x.clamp(0, 6).clamp(-1, 1).clamp(min=0),
        (IMAGE,),
        [("relu6", {}), ("clip", {}), ("relu", {})],
    ),
    "comparison": (
        lambda x: torch.where(x > 0, x, 0.0),
        (IMAGE,),
        [("greater", {"scalar": 1}), ("where", {"scalar": 1})],
    ),
    "one minus": (lambda x: 1 - x**2, (IMAGE,), [("pow", {"scalar": 1}), ("sub", {"scalar": 1})]),
    "scaled sum": (lambda x, y: torch.add(x, y, alpha=2), (LINE, LINE), [("mul", {"scalar": 1}), ("add", {})]),
    "reductions": (
        lambda x: (x.sum(1), x.amax((1, 2)), x.max(), x.prod(1)),
        (LINE,),
        [
            ("reduce_sum", {"axes": (1,), "keepdim": 0}), ("reduce_max", {"axes": (1, 2), "keepdim": 0}),
            ("reduce_max", {"axes": (0, 1, 2), "keepdim": 0}), ("reduce_prod", {"axes": (1,), "keepdim": 0}),
        ],
    ),
    "maximum and its place": (
        lambda x: x.max(1),
        (LINE,),
        [("reduce_max", {"axes": (1,), "keepdim": 0}), ("argmax", {"axis": 1, "keepdim": 0})],
    ),
    "norms of vectors": (
        lambda x: [torch.linalg.vector_norm(x, order, 1) for order in (0, 1, 2, math.inf)],
        (LINE,),
        [
            ("not_equal", {"scalar": 1}), ("reduce_sum", {"axes": (1,), "keepdim": 0}), ("abs", {}),
            ("reduce_sum", {"axes": (1,), "keepdim": 0}), ("mul", {}), ("reduce_sum", {"axes": (1,), "keepdim": 0}),
            ("sqrt", {}), ("abs", {}), ("reduce_max", {"axes": (1,), "keepdim": 0}),
        ],
    ),
    "windows": (
        lambda x: (x.unfold(2, 2, 2), F.fold(F.unfold(x, 2), 6, 2)),
        (IMAGE,),
        [
            ("gather", {"axis": 2}), ("transpose", {"perm": (0, 1, 2, 4, 3)}), ("gather", {"axis": 2}),
            ("gather", {"axis": 4}), ("transpose", {"perm": (0, 1, 2, 4, 3, 5)}), ("reshape", {}), ("scatter", {}),
        ],
    ),
    "sort": (lambda x: x.sort(2), (WORDS,), [("topk", {"k": 8, "axis": 2})]),
    "floor division": (lambda x: x // 2, (WORDS,), [("div", {"scalar": 1}), ("floor", {})]),
    "topk": (lambda x: x.topk(3), (WORDS,), [("topk", {"k": 3, "axis": 2})]),
    "pool1d": (nn.MaxPool1d(2), (LINE,), [("pool1d", window(1, 2, 2, type="max"))]),
    "pool3d": (nn.AvgPool3d(2), (CUBE,), [("pool3d", window(3, 2, 2, type="avg"))]),
    "dilated pool": (nn.MaxPool2d(2, 1, dilation=2), (IMAGE,), [("pool2d", window(2, 2, type="max", dilation=(2, 2)))]),
    "pool of whole windows": (nn.AdaptiveAvgPool2d(3), (IMAGE,), [("pool2d", window(2, 2, 2, type="avg"))]),
    "pool of uneven windows": (nn.AdaptiveAvgPool2d(4), (IMAGE,), [("adaptive_pool2d", {"type": "avg"})]),
    "resizes": (
        lambda x: [F.interpolate(x, scale_factor=2, mode=mode) for mode in ("nearest", "bilinear", "bicubic")],
        (IMAGE,),
        [("resize", {"mode": mode}) for mode in ("nearest", "linear", "cubic")],
    ),
    "chunks": (lambda x: torch.cat(x.chunk(2, 1), 2), (IMAGE,), [("split", {"axis": 1}), ("concat", {"axis": 2})]),
    "unbind": (
        lambda x: x.unbind(0),
        (WORDS,),
        [("slice", {"axes": (0,), "starts": (0,)}), ("reshape", {}), ("slice", {"axes": (0,), "starts": (1,)}),
         ("reshape", {})],
    ),
    "slices": (
        lambda x: x[:, -2:, ::2],
        (IMAGE,),
        [("slice", {"axes": (1,), "starts": (6,)}), ("slice", {"axes": (2,), "starts": (0,), "steps": (2,)})],
    ),
    "stack": (lambda x: torch.stack([x, x], 1), (LINE,), [("reshape", {})] * 2 + [("concat", {"axis": 1})]),
    "pads": (
        lambda x: F.pad(F.pad(x, (1, 2, 3, 4)), (1, 1, 1, 1), mode="reflect"),
        (IMAGE,),
        [
            ("pad", {"mode": "constant", "pads": (0, 0, 3, 1, 0, 0, 4, 2)}),
            ("pad", {"mode": "reflect", "pads": (0, 0, 1, 1, 0, 0, 1, 1)}),
        ],
    ),
    "reshapes": (lambda x: x.flatten(1).unsqueeze(0).squeeze(), (WORDS,), [("reshape", {})] * 3),
    "pixel_shuffle": (
        nn.PixelShuffle(2),
        (IMAGE,),
        [("reshape", {}), ("transpose", {"perm": (0, 1, 4, 2, 5, 3)}), ("reshape", {})],
    ),
    "nothing": (lambda x: F.dropout(x).clone().detach().contiguous().to(torch.float32), (IMAGE,), []),
    "cast": (lambda x: x.half(), (IMAGE,), [("cast", {})]),
    "cast by a copy": (lambda x: torch.empty_like(x, dtype=torch.half).copy_(x), (IMAGE,), [("cast", {})]),
    "constants of a shape": (lambda x: x * torch.full_like(x, 2), (IMAGE,), [("mul", {})]),
    "roll": (lambda x: x.roll(1, -1), (IMAGE,), [("roll", {})]),
    "flip": (lambda x: x.flip(-1, 1), (IMAGE,), [("flip", {"axes": (1, 3)})]),
    "advanced index": (lambda x: x[:, torch.tensor([2, 0])], (IMAGE,), [("index", {})]),
    "matrices of weights": (lambda x: x @ torch.ones(2, 8, 3), (WORDS,), [("matmul", {"constant": "right"})]),
    "vector of weights": (
        lambda x: x @ torch.ones(8),
        (WORDS,),
        [("reshape", {}), ("linear", {"bias": 0}), ("reshape", {}), ("reshape", {})],
    ),
}  # fmt: skip


# a call whose later output is read alone, the shape of its input, and the op that must be read
LATER: dict[str, tuple[Callable[[Tensor], Any], tuple[int, ...], str]] = {
    "indices of a pooling": (lambda x: F.max_pool2d(x, 2, return_indices=True)[1], IMAGE, "pool2d"),
    "indices of three axes": (lambda x: F.max_pool3d(x, 2, return_indices=True)[1], CUBE, "pool3d"),
    "indices of an adaptive pooling": (
        lambda x: F.adaptive_max_pool2d(x, 4, return_indices=True)[1], IMAGE, "adaptive_pool2d"
    ),
    "scale of a layer norm": (lambda x: torch.native_layer_norm(x, (8,), None, None, 1e-5)[2], WORDS, "layer_norm"),
    "mean of a layer norm": (lambda x: torch.native_layer_norm(x, (8,), None, None, 1e-5)[1], WORDS, "layer_norm"),
    "statistics of a group norm": (
        lambda x: torch.native_group_norm(x, None, None, 1, 8, 36, 2, 1e-5)[2], IMAGE, "group_norm"
    ),
    "place of the maximum": (lambda x: x.max(1)[1], WORDS, "argmax"),
    "places of the largest": (lambda x: x.topk(3)[1], WORDS, "topk"),
    "order": (lambda x: x.sort(2)[1], WORDS, "topk"),
    "a part": (lambda x: x.split(3, 2)[2], WORDS, "split"),
    "a mask": (lambda x: torch.native_dropout(x, 0.5, True)[1], WORDS, "aten.native_dropout"),
    "last cells": (lambda x: nn.LSTM(8, 4)(x)[1][1], WORDS, "lstm"),
}  # fmt: skip


@pytest.mark.parametrize("name", LATER)
def test_an_op_runs_whichever_of_its_outputs_is_read(name: str) -> None:
    call, shape, op = LATER[name]
    assert read(call, shape)[0][0] == op
    graph = read_torch(Lambda(call), input_shape=shape)
    works = {"group_norm": "instance_norm", "split": "raster"}.get(op, op)  # the kernel in MNN
    assert works in [call.kernel.op for call in fuse_mnn(graph)]
    assert fuse_lite(graph)


def test_outputs_that_nobody_reads_are_none_of_a_pooling() -> None:
    def pool(part: slice) -> tuple[int, ...]:
        graph = read_torch(Lambda(lambda x: F.max_pool2d(x, 2, return_indices=True)[part]), input_shape=IMAGE)
        return tuple(len(node.outputs) for node in graph.nodes)

    assert (pool(slice(1)), pool(slice(1, 2)), pool(slice(2))) == ((1,), (2,), (2,))


@pytest.mark.parametrize("draw", [
    torch.rand_like, torch.randn_like, torch.bernoulli, torch.normal, lambda x: torch.randint_like(x, 3),
    lambda x: torch.empty_like(x).uniform_(), lambda x: torch.zeros_like(x).normal_(),
    lambda x: torch.ones_like(x).bernoulli_(0.5), lambda x: torch.bernoulli(torch.full_like(x, 0.5)),
    lambda x: torch.empty_like(x).exponential_(), lambda x: torch.rand_like(torch.zeros_like(x)),
])  # fmt: skip
def test_random_numbers_are_drawn_by_unknown_ops(draw: Callable[[Tensor], Tensor]) -> None:
    graph = read_torch(Lambda(lambda x: x + draw(x)), input_shape=IMAGE)
    first, last = (node.op for node in graph.nodes)
    assert first.startswith("aten.")
    assert last == "add"
    assert [call.kernel.op for call in fuse_mnn(graph)] == [first, "add"]


@pytest.mark.parametrize("name", CASES)
def test_ops_are_read_as(name: str) -> None:
    module, shapes, expected = CASES[name]
    assert read(module, *shapes) == expected


# name -> call that torch's exporter writes by other ops, the shapes of its inputs, these ops; "!" is one with a number
SPELLED: dict[str, tuple[Callable[..., Any], tuple[tuple[int, ...], ...], str]] = {
    "variance": (lambda x: x.var(1, keepdim=True), (WORDS,), "reduce_mean sub mul reduce_mean mul! div! reshape"),
    "variance of all": (torch.var, (WORDS,), "reduce_mean sub mul reduce_mean mul! div!"),
    "biased variance of all": (lambda x: x.var(unbiased=False), (WORDS,), "reduce_mean sub mul reduce_mean"),
    "biased variance": (lambda x: x.var(-1, False), (WORDS,), "reduce_mean sub mul reduce_mean"),
    "corrected variance": (
        lambda x: torch.var(x, (0, 2), correction=2, keepdim=True), (IMAGE,),
        "reduce_mean sub mul reduce_mean mul! div! reshape",
    ),
    "deviation": (lambda x: x.std(-1, unbiased=False), (WORDS,), "reduce_mean sub mul reduce_mean sqrt"),
    "deviation of all": (torch.std, (WORDS,), "reduce_mean sub mul reduce_mean mul! div! sqrt"),
    "variance and mean": (
        lambda x: torch.var_mean(x, 1, False), (WORDS,), "reduce_mean sub mul reduce_mean reduce_sum div!"
    ),
    "deviation and mean": (
        lambda x: torch.std_mean(x, -1, correction=0, keepdim=True), (WORDS,),
        "reduce_mean sub mul reduce_mean reshape reduce_sum reshape div! sqrt",
    ),
    "clamp to tensors": (lambda x, y: x.clamp(y, y), (WORDS, WORDS), "maximum minimum"),
    "clamp from a tensor": (lambda x, y: x.clamp(min=y), (WORDS, WORDS), "maximum"),
    "clamp up to a tensor": (lambda x, y: x.clamp_max(y), (WORDS, WORDS), "minimum"),
    "clamp in place": (lambda x, y: (x * 2).clamp_(max=y) + 1, (WORDS, WORDS), "mul! minimum add!"),
    "scaled sum in place": (lambda x, y: (x * 2).add_(y, alpha=3) + 1, (WORDS, WORDS), "mul! mul! add add!"),
    "remainder": (lambda x: x % 3, (WORDS,), "div! floor mul! sub"),
    "remainder of integers": (lambda x: x.long() % 3, (WORDS,), "cast mod!"),
    "remainder of a number": (lambda x: 3 % x, (WORDS,), "reciprocal mul! floor mul sub!"),
    "rounded quotient": (lambda x, y: torch.div(x, y, rounding_mode="trunc"), (WORDS, WORDS), "div trunc"),
    "quotient of integers": (lambda x: x.long() // 3, (WORDS,), "cast div!"),
    "sum of a product": (lambda x, y: torch.addmm(x, x, y), ((8, 8), (8, 8)), "matmul add"),
    "scaled sum of a product": (
        lambda x, y: torch.addmm(x, x, y, beta=2, alpha=3), ((8, 8), (8, 8)), "matmul mul! mul! add"
    ),
    "windows of images": (
        lambda x: F.unfold(x, (3, 2), 2, (1, 0), (2, 1)), (IMAGE,), "pad gather gather transpose reshape"
    ),
    "softplus": (lambda x: F.softplus(x), (WORDS,), "softplus greater! where"),
    "scaled softplus": (lambda x: F.softplus(x, 2), (WORDS,), "mul! softplus greater! div! where"),
    "logarithm of a sigmoid": (F.logsigmoid, (WORDS,), "sigmoid log"),
    "threshold": (lambda x: F.threshold(x, 0.1, 2.0), (WORDS,), "less_equal! where!"),
    "hard shrink": (F.hardshrink, (WORDS,), "abs less_equal! where!"),
    "soft shrink": (F.softshrink, (WORDS,), "abs greater! sign mul! sub mul! where"),
    "norm by the batch": (
        lambda x: nn.BatchNorm2d(8, track_running_stats=False).eval()(x), (IMAGE,),
        "reduce_mean reduce_mean sub mul reduce_mean batch_norm",
    ),
    "norm in training": (lambda x: nn.BatchNorm2d(8)(x), (IMAGE,), "batch_norm"),
    "norm of rows by statistics": (nn.InstanceNorm1d(8, track_running_stats=True), (LINE,), "batch_norm"),
}  # fmt: skip


@pytest.mark.parametrize("name", SPELLED)
def test_ops_without_one_of_their_own_are_read_as_exported(name: str) -> None:
    module, shapes, expected = SPELLED[name]
    assert " ".join(op + "!" * ("scalar" in attrs) for op, attrs in read(module, *shapes)) == expected


@pytest.mark.parametrize(
    "name", ["deviation and mean", "corrected variance", "norm by the batch", "remainder", "softplus", "soft shrink"]
)
def test_the_exported_file_has_the_kernels_of_its_module(name: str, tmp_path: Path) -> None:
    module, shapes, _ = SPELLED[name]
    example = tuple(torch.rand(shape) for shape in shapes)
    path = export_onnx(Lambda(module), example, tmp_path / "model.onnx")
    exported, own = (fuse_mnn(graph) for graph in (read_onnx(path), read_torch(Lambda(module), example)))
    assert sorted(call.kernel.key for call in exported) == sorted(call.kernel.key for call in own)


@pytest.mark.parametrize("activation", [
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.Mish, nn.Hardswish, nn.Hardsigmoid, nn.Sigmoid, nn.SiLU,
    nn.Tanh, nn.GELU, nn.Softmax,
])  # fmt: skip
def test_activations_are_in_the_vocabulary(activation: Callable[[], nn.Module]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Softmax without an axis
        ((op, _),) = read(activation(), IMAGE)
    assert op in OPS


def test_weights_that_are_computed_make_a_matmul() -> None:
    model = Lambda(lambda x: (model.weight @ x, x @ model.weight, x @ (model.weight * 2), F.linear(x, x)))
    graph = read_torch(model, input_shape=(8, 8))
    ops = [(node.op, len(graph.activations(node))) for node in graph.nodes]
    assert ops == [("matmul", 1), ("linear", 1), ("linear", 1), ("transpose", 1), ("matmul", 2)]


def test_multi_head_attention_is_taken_apart() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    ops = [op for op, _ in read(layer, WORDS)]
    assert {"linear", "matmul", "softmax", "layer_norm"} <= set(ops) <= OPS.keys()
    assert ops.count("matmul") == 2


@pytest.mark.parametrize("given", [
    (torch.zeros(1, 8), [torch.zeros(1, 8)]), (torch.zeros(1, 8), [torch.zeros(1, 8)], True),
    {"x": torch.zeros(1, 8), "others": [torch.zeros(1, 8)]},
])  # fmt: skip
def test_inputs_may_be_nested_and_named(given: Any) -> None:
    def add(x: Tensor, others: list[Tensor], twice: bool = False) -> dict[str, Any]:
        return {"sum": x + others[0], "rest": (x * 2, None)}

    graph = read_torch(Lambda(add), given)
    assert [node.op for node in graph.nodes] == ["add", "mul"]
    assert (len(graph.inputs), graph.outputs) == (2, tuple(node.outputs[0] for node in graph.nodes))


def test_token_ids_of_an_encoder() -> None:
    ids = torch.zeros(1, 16, dtype=torch.int64)
    graph = read_torch(Bert(**TINY_BERT), {"input_ids": ids})
    assert {node.op for node in graph.nodes} <= OPS.keys()
    assert sum(node.op == "linear" for node in graph.nodes) == 4 * 6
    assert graph.values[graph.inputs[0]].dtype == "int64"


def test_compiled_modules_are_read_as_written() -> None:
    inner = nn.Sequential(nn.Linear(8, 8), nn.ReLU())
    plain = read_torch(nn.Sequential(inner, nn.Linear(8, 4)), input_shape=(1, 8))
    in_place = nn.Sequential(inner, nn.Linear(8, 4))
    in_place.compile(backend="eager")
    for model in (torch.compile(nn.Sequential(inner, nn.Linear(8, 4)), backend="eager"), in_place):
        assert read_torch(model, input_shape=(1, 8)) == plain  # type: ignore[arg-type]
    nested = read_torch(nn.Sequential(torch.compile(inner, backend="eager"), nn.Linear(8, 4)), input_shape=(1, 8))  # type: ignore[arg-type]
    assert [node.op for node in nested.nodes] == [node.op for node in plain.nodes]


def test_lightning_modules_are_read() -> None:
    lightning = pytest.importorskip("lightning")

    class Task(lightning.LightningModule):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Linear(8, 4)

        def forward(self, x: Tensor) -> Tensor:
            return torch.relu(self.net(x))

    assert [node.name for node in read_torch(Task(), input_shape=(1, 8)).nodes] == ["net/linear", "/relu"]


def test_two_gigabytes_of_weights_are_read_in_little_memory() -> None:
    with torch.device("meta"):
        model = nn.Sequential(*[nn.Linear(4096, 4096) for _ in range(32)])
    assert sum(parameter.nbytes for parameter in model.parameters()) > 2 * 2**30
    tracemalloc.start()
    try:
        graph = read_torch(model, input_shape=(1, 4096))
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(graph.nodes) == 32
    assert peak_bytes < 200 * 2**20
