"""Infers the shapes of Paddle's layers and of operators with two operands: convolutions, products, pools, resizes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod

from latency_nas.graph.paddle.ops import paddings
from latency_nas.graph.paddle.program import PaddleOp
from latency_nas.kernel import Shape

__all__ = ["LAYER_SHAPES", "Rule", "broadcast"]

Rule = Callable[[PaddleOp, Sequence[Shape]], Sequence[Shape]]


def broadcast(op: PaddleOp, shapes: Sequence[Shape]) -> list[Shape]:
    """Broadcast as numpy does, except that `axis` may state the place of the smaller operand's sizes."""
    x, *others = shapes
    for y in others:
        axis = int(op.attrs.get("axis", -1))
        if axis >= 0 and len(y) < len(x):
            y = y + (1,) * (len(x) - axis - len(y))
        rank = max(len(x), len(y))
        x, y = ((1,) * (rank - len(shape)) + shape for shape in (x, y))
        if any(a != b and 1 not in (a, b) for a, b in zip(x, y, strict=True)):
            raise ValueError(f"{x} and {y} do not fit each other")
        x = tuple(max(a, b) if a and b else 0 for a, b in zip(x, y, strict=True))
    return [x]


def _windows(sizes: Shape, kernel: Shape, stride: Shape, pad: Shape, dilation: Shape, *, ceil: bool = False) -> Shape:
    rank = len(kernel)
    spans = [
        size + pad[axis] + pad[rank + axis] - dilation[axis] * (kernel[axis] - 1) - 1 for axis, size in enumerate(sizes)
    ]
    return tuple((-(-span // s) if ceil else span // s) + 1 for span, s in zip(spans, stride, strict=True))


def _conv(op: PaddleOp, shapes: Sequence[Shape]) -> list[Shape]:
    source, weight = shapes[:2]
    kernel, stride, dilation = weight[2:], op.attrs["strides"], op.attrs["dilations"]
    pad = paddings(op, source, kernel, stride)
    return [(source[0], weight[0], *_windows(source[2:], kernel, stride, pad, dilation))]


def _conv_transpose(op: PaddleOp, shapes: Sequence[Shape]) -> list[Shape]:
    source, weight = shapes[:2]
    kernel, stride, dilation = weight[2:], op.attrs["strides"], op.attrs["dilations"]
    pad, rank = paddings(op, source, kernel, stride), len(kernel)
    extra = op.attrs.get("output_padding") or (0,) * rank
    spans = [
        dilation[axis] * (kernel[axis] - 1) + 1 + extra[axis] - pad[axis] - pad[rank + axis] for axis in range(rank)
    ]
    sizes = tuple((size - 1) * s + span for size, s, span in zip(source[2:], stride, spans, strict=True))
    return [(source[0], weight[1] * op.attrs["groups"], *(op.attrs.get("output_size") or sizes))]


def _pool(op: PaddleOp, shapes: Sequence[Shape]) -> list[Shape]:
    source, kernel = shapes[0], op.attrs["ksize"]
    if op.attrs.get("global_pooling"):
        return [(*source[:2], *(1,) * len(kernel))]
    if op.attrs.get("adaptive"):
        return [(*source[:2], *kernel)]
    stride, ones = op.attrs["strides"], (1,) * len(kernel)
    pad = paddings(op, source, kernel, stride)
    return [(*source[:2], *_windows(source[2:], kernel, stride, pad, ones, ceil=bool(op.attrs.get("ceil_mode"))))]


def _matmul(op: PaddleOp, shapes: Sequence[Shape]) -> list[Shape]:
    """Multiply as numpy does: a vector is a row on the left or a column on the right, and that axis is left out."""
    x, y = shapes
    is_row, is_column = len(x) == 1, len(y) == 1
    x = (1, *x) if is_row else (*x[:-2], x[-1], x[-2]) if op.attrs.get("trans_x", op.attrs.get("transpose_X")) else x
    y = (*y, 1) if is_column else (*y[:-2], y[-1], y[-2]) if op.attrs.get("trans_y", op.attrs.get("transpose_Y")) else y
    if x[-1] != y[-2]:
        raise ValueError(f"{x} and {y} do not fit each other")
    rows, columns = () if is_row else (x[-2],), () if is_column else (y[-1],)
    return [(*broadcast(op, [x[:-2], y[:-2]])[0], *rows, *columns)]


def _mul(op: PaddleOp, shapes: Sequence[Shape]) -> list[Shape]:
    """Multiply matrices, as which an old operator sees tensors of more axes."""
    x, y = shapes
    n_x, n_y = (int(op.attrs.get(f"{name}_num_col_dims", 1)) for name in "xy")
    if prod(x[n_x:]) != prod(y[:n_y]):
        raise ValueError(f"{x} and {y} do not fit each other")
    return [(*x[:n_x], *y[n_y:])]


def _resize(op: PaddleOp, shapes: Sequence[Shape]) -> list[Shape]:
    source, factors = shapes[0], op.attrs.get("scale") or ()
    factors = factors if isinstance(factors, tuple) else (factors,)
    wanted = op.attrs.get("size") or (int(op.attrs.get("out_h", -1)), int(op.attrs.get("out_w", -1)))
    if min(wanted) > 0:
        return [(*source[:2], *wanted)]
    if not factors or min(factors) <= 0:
        raise ValueError("it states neither a size nor a factor")
    return [(*source[:2], int(source[2] * factors[0]), int(source[3] * factors[-1]))]


def _pad(op: PaddleOp, shapes: Sequence[Shape]) -> list[Shape]:
    pads, rank = op.attrs["paddings"], len(shapes[0])
    return [
        tuple(
            size + (pads[2 * (rank - 1 - axis)] + pads[2 * (rank - 1 - axis) + 1] if axis > 1 else 0)
            for axis, size in enumerate(shapes[0])
        )
    ]


def _fc(op: PaddleOp, shapes: Sequence[Shape]) -> list[Shape]:
    source, weight = shapes[:2]
    n_kept = int(op.attrs.get("in_num_col_dims", 1))
    return [(*(source[:-1] if source[-1] == weight[0] else source[:n_kept]), weight[1])]


def _recurrent(op: PaddleOp, shapes: Sequence[Shape]) -> list[Shape]:
    """The whole sequence, then the last states of all layers and directions: two for an LSTM, otherwise one."""
    steps, batch, _ = shapes[0]
    hidden, n_directions = int(op.attrs["hidden_size"]), 1 + bool(op.attrs.get("is_bidirec"))
    state = (int(op.attrs["num_layers"]) * n_directions, batch, hidden)
    return [(steps, batch, n_directions * hidden), *[state] * len(op.outputs.get("State", ()))]


def _pixel_shuffle(op: PaddleOp, shapes: Sequence[Shape]) -> list[Shape]:
    n, c, height, width = shapes[0]
    factor = int(op.attrs["upscale_factor"])
    return [(n, c // factor**2, height * factor, width * factor)]


LAYER_SHAPES: Mapping[str, Rule] = {
    **dict.fromkeys(("conv2d", "depthwise_conv2d", "conv3d"), _conv),
    **dict.fromkeys(("conv2d_transpose", "depthwise_conv2d_transpose", "conv3d_transpose"), _conv_transpose),
    **dict.fromkeys(("pool2d", "pool3d", "max_pool2d_with_index", "max_pool3d_with_index"), _pool),
    **dict.fromkeys(("matmul", "matmul_v2", "bmm"), _matmul),
    "mul": _mul,
    "fc": _fc,
    "rnn": _recurrent,
    **{f"{mode}_interp{version}": _resize for mode in ("bilinear", "nearest", "bicubic") for version in ("", "_v2")},
    "pad3d": _pad,
    "pixel_shuffle": _pixel_shuffle,
    "grid_sampler": lambda op, shapes: [(*shapes[0][:2], *shapes[1][1:3])],
}  # fmt: skip
