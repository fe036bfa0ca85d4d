"""Work of a kernel: closed formulas against torch's own counter and its parameters, and by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from latency_nas.errors import KernelError
from latency_nas.kernel import OPS, Kernel, is_memory_bound, n_bytes, n_flops, n_macs, n_params
from latency_nas.kernel.vocabulary import SPATIAL_AXES

CONV: dict[str, Any] = {"kernel": (3, 2), "stride": (2, 2), "pad": (1, 1, 1, 1), "dilation": (1, 1), "group": 2}


def _counted(module: nn.Module, *inputs: Tensor) -> tuple[Tensor, int]:
    """The output, and torch's own count of floating-point operations."""
    with FlopCounterMode(display=False) as counter:
        output = module(*inputs)
    return output, counter.get_total_flops()


def _check(kernel: Kernel, module: nn.Module, flops: int) -> None:
    assert n_flops(kernel) == flops
    assert n_macs(kernel) * 2 == flops
    assert n_params(kernel) == sum(parameter.numel() for parameter in module.parameters())


CONVOLUTIONS = {
    "conv1d": nn.Conv1d,
    "conv2d": nn.Conv2d,
    "conv3d": nn.Conv3d,
    "conv_transpose1d": nn.ConvTranspose1d,
    "conv_transpose2d": nn.ConvTranspose2d,
    "conv_transpose3d": nn.ConvTranspose3d,
}


@given(data=st.data(), op=st.sampled_from(sorted(CONVOLUTIONS)), group=st.integers(1, 4), bias=st.booleans())
@settings(deadline=None, max_examples=120)
def test_convolutions_against_torch(data: st.DataObject, op: str, group: int, bias: bool) -> None:
    n_axes = int(op[-2])

    def each_axis(low: int, high: int) -> tuple[int, ...]:
        return data.draw(st.tuples(*[st.integers(low, high)] * n_axes))

    area, stride, dilation, pad, size = (each_axis(*ends) for ends in ((1, 3), (1, 3), (1, 3), (0, 2), (7, 12)))
    c_in, c_out = (group * data.draw(st.integers(1, 5)) for _ in range(2))
    module = CONVOLUTIONS[op](c_in, c_out, area, stride, pad, groups=group, bias=bias, dilation=dilation, device="meta")  # type: ignore[arg-type]
    x = torch.empty(data.draw(st.integers(1, 3)), c_in, *size, device="meta")
    y, flops = _counted(module, x)
    attrs = {"kernel": area, "stride": stride, "dilation": dilation, "pad": (*pad, *pad), "group": group, "bias": bias}
    _check(Kernel.of(op, [tuple(x.shape)], [tuple(y.shape)], **attrs), module, flops)


@given(
    leading=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    features=st.tuples(st.integers(1, 64), st.integers(1, 64)),
    bias=st.booleans(),
)
@settings(deadline=None, max_examples=30)
def test_linear_against_torch(leading: list[int], features: tuple[int, int], bias: bool) -> None:
    module = nn.Linear(*features, bias=bias, device="meta")
    x = torch.empty(*leading, features[0], device="meta")
    y, flops = _counted(module, x)
    _check(Kernel.of("linear", [tuple(x.shape)], [tuple(y.shape)], bias=bias), module, flops)


@pytest.mark.parametrize("shapes", [((3, 4), (4, 5)), ((2, 3, 4), (2, 4, 5)), ((1, 8, 7, 6), (1, 8, 6, 9))])
def test_matmul_against_torch(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    a, b = (torch.empty(shape, device="meta") for shape in shapes)
    with FlopCounterMode(display=False) as counter:
        product = a @ b
    kernel = Kernel.of("matmul", list(shapes), [tuple(product.shape)])
    assert n_flops(kernel) == 2 * n_macs(kernel) == counter.get_total_flops()
    assert n_params(kernel) == 0


NORMS: dict[str, tuple[nn.Module, dict[str, int]]] = {
    "batch_norm": (nn.BatchNorm2d(6), {}),
    "layer_norm": (nn.LayerNorm(6), {}),
    "layer_norm of an image": (nn.LayerNorm((6, 5, 6)), {"axis": 1}),
    "rms_norm": (nn.RMSNorm(6), {}),
    "group_norm": (nn.GroupNorm(3, 6), {"group": 3}),
    "instance_norm": (nn.InstanceNorm2d(6, affine=True), {}),
    "prelu": (nn.PReLU(6), {}),
}


@pytest.mark.parametrize("name", NORMS)
def test_norms_read_their_state(name: str) -> None:
    module, attrs = NORMS[name]
    state = sum(tensor.numel() for tensor in module.state_dict().values() if tensor.ndim)  # no batch counter
    shape = (2, 6, 5, 6)
    kernel = Kernel.of(name.split()[0], [shape], [shape], **attrs)
    assert n_params(kernel) == state
    assert n_macs(kernel) == 0
    assert n_flops(kernel) == 2 * 6 * 5 * 6


def test_weights_of_products_and_look_ups_by_hand() -> None:
    by_a_constant = Kernel.of("matmul", [(2, 5, 7)], [(2, 3, 7)])  # a constant of 3 x 5 times the input
    assert (n_params(by_a_constant), n_macs(by_a_constant), n_flops(by_a_constant)) == (15, 2 * 3 * 7 * 5, 420)
    embedding = Kernel.of("embedding", [(2, 9)], [(2, 9, 16)])  # 18 rows of 16 are read, and written
    assert (n_params(embedding), n_flops(embedding), n_bytes(embedding)) == (288, 0, 4 * (18 + 288 + 288))


@pytest.mark.parametrize(
    ("kernel", "flops"),
    [
        (
            Kernel.of("pool2d", [(1, 8, 6, 6)], [(1, 8, 3, 3)], kernel=(3, 2), stride=(2, 2), pad=(0,) * 4, type="max"),
            432,
        ),
        (
            Kernel.of("pool1d", [(1, 8, 6)], [(1, 8, 3)], kernel=(3,), stride=(2,), pad=(0, 0), type="avg"),
            72,
        ),
        (
            Kernel.of(
                "pool3d",
                [(1, 2, 6, 6, 6)],
                [(1, 2, 3, 3, 3)],
                kernel=(2,) * 3,
                stride=(2,) * 3,
                pad=(0,) * 6,
                type="max",
            ),
            432,
        ),
        (Kernel.of("slice", [(2, 8)], [(2, 4)], axes=(1,), starts=(0,)), 0),
        (Kernel.of("gather", [(9, 8), (2,)], [(2, 8)], axis=0), 0),
        (Kernel.of("softmax", [(2, 8)], [(2, 8)], axis=1), 16),
        (Kernel.of("reduce_max", [(2, 8)], [(2,)], axes=(1,)), 16),
        (Kernel.of("where", [(8,), (2, 8), (2, 8)], [(2, 8)]), 16),
        (Kernel.of("resize", [(1, 2, 4, 4)], [(1, 2, 8, 8)], mode="linear"), 128),
        (Kernel.of("add", [(2, 8, 4, 4), (8, 1, 1)], [(2, 8, 4, 4)]), 256),
        (Kernel.of("reduce_mean", [(2, 8, 4, 4)], [(2, 8)], axes=(2, 3)), 256),
        (Kernel.of("mul", [()], [()]), 1),
        (Kernel.of("relu", [(1, 0, 4)], [(1, 0, 4)]), 0),
        (Kernel.of("aten.arange", [], [(7,)]), 7),
        (Kernel.of("paddle.cast", [], []), 0),
        (Kernel.of("reshape", [(2, 8)], [(16,)]), 0),
        (Kernel.of("concat", [(1, 4), (1, 4)], [(1, 8)], axis=1), 0),
    ],
    ids=lambda value: value.op if isinstance(value, Kernel) else str(value),
)
def test_flops_of_other_ops_by_hand(kernel: Kernel, flops: int) -> None:
    assert n_flops(kernel) == flops
    assert n_macs(kernel) == 0
    assert n_params(kernel) == 0


@pytest.mark.parametrize(
    ("dtype", "size"),
    [("fp32", 4), ("fp16", 2), ("bf16", 2), ("int8", 1), ("int64", 8), ("int32", 4), ("int16", 2), ("bool", 1)],
)
def test_bytes_by_hand(dtype: str, size: int) -> None:
    conv = Kernel.of("conv2d", [(1, 4, 8, 8)], [(1, 6, 4, 5)], bias=1, dtype=dtype, **CONV)
    # 4 x 8 x 8 read, 6 x 4 x 5 written, 6 filters of 2 x 3 x 2 and 6 biases
    assert n_bytes(conv) == size * (256 + 120 + 72 + 6)
    assert n_bytes(Kernel.of("add", [(2, 3), ()], [(2, 3)], dtype=dtype)) == size * (6 + 1 + 6)
    assert n_bytes(Kernel.of("foo", [], [], dtype=dtype)) == 0


@pytest.mark.parametrize("op", sorted(OPS))
def test_every_op_of_the_library_has_a_cost(op: str) -> None:
    n_axes = SPATIAL_AXES.get(op, 2)
    window = {"kernel": n_axes, "stride": n_axes, "dilation": n_axes, "pad": 2 * n_axes}
    attrs = {name: (2,) * window[name] if name in window else 2 for name in OPS[op][0]}
    shape = (1, 8, *[4] * n_axes)
    kernel = Kernel.of(op, [shape], [shape], **attrs)
    assert 0 <= n_macs(kernel) <= n_flops(kernel)
    assert n_bytes(kernel) == 4 * (2 * 8 * 4**n_axes + n_params(kernel))


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (
            "conv2d -> dilation=[1,1] group=1 kernel=[1,1] pad=[0,0,0,0] stride=[1,1] dtype=fp32",
            "Expected conv2d to have one input and one output of 4 sizes, but got () -> ().",
        ),
        (
            "conv2d [5] -> [5] dilation=[1,1] group=1 kernel=[1,1] pad=[0,0,0,0] stride=[1,1] dtype=fp32",
            "Expected conv2d to have one input and one output of 4 sizes, but got ((5,),) -> ((5,),).",
        ),
        (
            "conv2d [1,2,3,3] -> [1,2,3,3] dilation=[1,1] group=0 kernel=[1,1] pad=[0,0,0,0] stride=[1,1] dtype=fp32",
            "Expected `group` of conv2d to divide its 2 and 2 channels, but got 0.",
        ),
        (
            "conv2d [1,2,3,3] -> [1,2,3,3] dilation=[1,1] group=1 kernel=same pad=[0,0,0,0] stride=[1,1] dtype=fp32",
            "Expected `kernel` of conv2d to be 2 integers, but got 'same'.",
        ),
    ],
)
def test_kernel_whose_work_cannot_be_computed_is_refused(key: str, message: str) -> None:
    with pytest.raises(KernelError) as caught:
        n_flops(Kernel.parse(key))
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("key", "n_sizes", "shapes"),
    [
        ("linear -> [1,2] dtype=fp32", 1, "() -> ((1, 2),)"),
        ("linear [1,2] -> [] dtype=fp32", 1, "((1, 2),) -> ((),)"),
        ("matmul -> [1] dtype=fp32", 2, "() -> ((1,),)"),
        ("matmul [1] [1,1] -> [1,1] dtype=fp32", 2, "((1,), (1, 1)) -> ((1, 1),)"),
        ("batch_norm [5] -> [5] dtype=fp32", 2, "((5,),) -> ((5,),)"),
        ("layer_norm [] -> [] dtype=fp32", 1, "((),) -> ((),)"),
    ],
)
def test_linear_or_norm_whose_work_cannot_be_computed_is_refused(key: str, n_sizes: int, shapes: str) -> None:
    with pytest.raises(KernelError) as caught:
        n_bytes(Kernel.parse(key)) + n_flops(Kernel.parse(key))
    assert str(caught.value) == (
        f"Expected {key.split()[0]} to have an input and an output of {n_sizes} sizes or more, but got {shapes}."
    )


@pytest.mark.parametrize(
    ("kernel", "copies_runs"),
    [
        (Kernel.of("embedding", [(1, 12)], [(1, 12, 64)]), True),
        (Kernel.of("embedding", [(1, 12)], [(1, 12, 63)]), False),
        (Kernel.of("embedding", [], [(1, 12, 312)]), True),  # of constant indices
        (Kernel.of("gather", [(1, 48, 80, 80), (30,)], [(1, 30, 80, 80)], axis=1), True),
        (Kernel.of("gather", [(1, 48, 80, 80)], [(1, 30, 80, 80)], axis=1), True),  # by constant indices
        (Kernel.of("gather", [(1, 48, 80, 80)], [(1, 48, 80, 40)], axis=3), False),
        (Kernel.of("gather", [(100,), (8, 200)], [(8, 200)], axis=0), False),
        (Kernel.of("gather", [(8, 200)], [(8, 200)], axis=0), True),
        (Kernel.of("gather", [(4, 5)], [(4, 5, 7, 32, 4)], axis=0), True),  # from constant data
        (Kernel.of("gather", [(4, 5)], [(3, 4, 5)], axis=1), False),
        (Kernel.of("gather", [(5, 64), (5, 64)], [(5, 64)], axis=0), False),
    ],
)  # fmt: skip
def test_a_gather_copies_runs_of_elements_or_single_ones(kernel: Kernel, *, copies_runs: bool) -> None:
    assert is_memory_bound(kernel) == copies_runs


@pytest.mark.parametrize(("shape", "axes", "reads"), [
    ((1, 8, 7, 7), (2, 3), True), ((1, 197, 192), (2,), True), ((1, 197, 192), (1,), True), ((1, 197, 64), (2,), False),
])  # fmt: skip
def test_sums_read_memory_unless_rows_are_short(shape: tuple[int, ...], axes: tuple[int, ...], *, reads: bool) -> None:
    target = tuple(1 if axis in axes else size for axis, size in enumerate(shape))
    for op, expected in (("reduce_mean", reads), ("reduce_sum", reads), ("reduce_max", False)):
        assert is_memory_bound(Kernel.of(op, [shape], [target], axes=axes, keepdim=1)) == expected


def test_an_activation_that_computes_makes_its_op_compute() -> None:
    shape = [(1, 8)]
    assert is_memory_bound(Kernel.of("add", shape, shape, act="relu"))
    assert not is_memory_bound(Kernel.of("batch_norm", shape, shape, act="tanh"))
