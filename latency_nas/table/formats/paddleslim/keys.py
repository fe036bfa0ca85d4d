"""Parses the keys of PaddleSlim's tables into kernels, in the dialects of 2022 and of 2021.

A key is an op type and ``name=value`` fields. The same op is spelt in several ways (batch -1, ``axis``, doubled blanks,
a stray bracket). All of these are read. A key of 2021 may lack the output of an op that keeps its input's shape.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from math import prod
from typing import Any

from latency_nas.errors import KernelError
from latency_nas.kernel import AttrValue, Kernel, Shape

__all__ = ["parse_paddleslim_key"]

_FIELD = re.compile(r"(\w+)=\s*((?:\([^()]*\))+|\[[^\[\]]*\]|[^\s()]+)\)?")
_SHAPE = re.compile(r"\(([^()]*)\)")
_DTYPES = {"8": "int8", "16": "fp16"}


class _Fields:
    """The fields of a key, with accessors for each type."""

    def __init__(self, text: str) -> None:
        self.raw: dict[str, str] = {}
        for name, value in _FIELD.findall(text):
            self.raw[name] = self.raw.get(name, "") + value  # a sum of 2021 has two fields of one name
        if rest := _FIELD.sub("", text).strip(" )"):
            raise KernelError(f"the part {rest!r} is not understood")

    def shapes(self, name: str) -> list[Shape]:
        found = _SHAPE.findall(self.text(name))
        shapes = [tuple(int(size) for size in text.replace(" ", "").split(",") if size) for text in found]
        return [
            (1, *shape[1:]) if shape[:1] == (-1,) else shape for shape in shapes
        ]  # -1 is the batch, which was 1 in the measurement

    def shape(self, name: str) -> Shape:
        shapes = self.shapes(name)
        if len(shapes) != 1 or not shapes[0]:
            raise KernelError(f"the shape of `{name}` is not stated")
        return shapes[0]

    def number(self, name: str) -> int:
        return int(self.text(name))

    def numbers(self, name: str) -> tuple[int, ...]:
        return tuple(map(int, re.findall(r"-?\d+", self.text(name))))

    def text(self, name: str) -> str:
        if name not in self.raw:
            raise KernelError(f"the field `{name}` is missing")
        return str(self.raw[name])

    def kept(self, name: str) -> AttrValue:
        """The value of a field as an attribute: an integer, integers, or any other text made into a name."""
        text, numbers = self.text(name), self.numbers(name)
        if re.fullmatch(r"-?\d+", text):
            return numbers[0]
        if re.fullmatch(r"\[[-\d, ]*\]", text):
            return numbers
        return "v" + ":".join(re.findall(r"[^\[\], ]+", text))

    @property
    def dtype(self) -> str:
        if self.raw.get("quant", "None") == "None":
            return "fp32"
        bits = self.text("bit_length")
        if bits not in _DTYPES:
            raise KernelError(f"the bit length {bits!r} is not known")
        return _DTYPES[bits]

    def axis(self, rank: int) -> int:
        """`axis`, counted from the front."""
        axis = self.number("axis")
        if not -rank <= axis < rank:
            raise KernelError(f"the axis {axis} does not fit {rank} dimensions")
        return axis % rank


def _conv(fields: _Fields) -> Kernel:
    weight, pad = fields.shape("weight"), fields.number("pad")
    return Kernel.of(
        "conv2d", [fields.shape("in")], [fields.shape("out")], dtype=fields.dtype, kernel=weight[2:], pad=(pad,) * 4,
        stride=(fields.number("stride"),) * 2, dilation=(fields.number("dilation"),) * 2, group=fields.number("group"),
    )  # fmt: skip


def _pool(fields: _Fields) -> Kernel:
    source, pad = fields.shape("in"), fields.number("pad")
    attrs: dict[str, Any] = {
        "type": fields.text("type"),
        "kernel": tuple(map(int, fields.text("kernel").split("x"))),
        "stride": (fields.number("stride"),) * 2,
        "pad": (pad,) * 4,
    }
    if fields.number("flag_global"):
        attrs |= {"kernel": source[2:], "stride": (1, 1), "pad": (0,) * 4, "global": 1}
    return Kernel.of("pool2d", [source], [fields.shape("out")], **attrs)


def _unary(op: str) -> Callable[[_Fields], Kernel]:
    return lambda fields: Kernel.of(op, [fields.shape("in")], [fields.shape("out")])


def _same_shape(op: str) -> Callable[[_Fields], Kernel]:
    """A reader for an op that keeps its input's shape. The keys of 2021 leave out its output."""
    return lambda fields: Kernel.of(op, [fields.shape("in")], [fields.shape("out" if "out" in fields.raw else "in")])


def _without_output(op: str) -> Callable[[_Fields], Kernel]:
    """A reader for an op whose output is unknown in keys of 2021."""
    return lambda fields: Kernel.of(op, [fields.shape("in")], fields.shapes("out") if "out" in fields.raw else [])


def _kept(op: str, inputs: str, *attrs: str) -> Callable[[_Fields], Kernel]:
    """A reader for an op that keeps Paddle's name and the fields of its key."""

    def read(fields: _Fields) -> Kernel:
        outputs = fields.shapes("out") if "out" in fields.raw else []
        values: dict[str, Any] = {name: fields.kept(name) for name in attrs if fields.text(name) != "None"}
        return Kernel.of(op, [fields.shape(name) for name in inputs.split()], outputs, **values)

    return read


def _binary(op: str, **attrs: str) -> Callable[[_Fields], Kernel]:
    """A reader for an op of two operands.

    The key's `axis` is the place of the smaller operand's dimensions in the larger one. The kernel has no such
    attribute: ones are appended to the smaller shape instead.
    """

    def read(fields: _Fields) -> Kernel:
        x, y = fields.shape("X"), fields.shape("Y")
        axis = fields.axis(len(x)) if fields.number("axis") >= 0 else len(x) - len(y)
        aligned = y + (1,) * (len(x) - axis - len(y)) if len(y) < len(x) else y
        return Kernel.of(op, [x, aligned], [fields.shape("out")], **attrs)

    return read


def _matmul(fields: _Fields) -> Kernel:
    return Kernel.of("matmul", [fields.shape("X"), fields.shape("Y")], [fields.shape("out")], dtype=fields.dtype)


def _joined(op: str, inputs: str) -> Callable[[_Fields], Kernel]:
    def read(fields: _Fields) -> Kernel:
        out = fields.shape("out")
        return Kernel.of(op, fields.shapes(inputs if inputs in fields.raw else "in"), [out], axis=fields.axis(len(out)))

    return read


def _sum(fields: _Fields) -> Kernel:
    inputs = [shape for name in ("in", "X", "Y") if name in fields.raw for shape in fields.shapes(name)]
    return Kernel.of("paddle.sum", inputs, [fields.shape("out")])


def _split(fields: _Fields) -> Kernel:
    source, sections = fields.shape("in"), fields.numbers("sections")
    axis = fields.axis(len(source))
    if sum(sections) != source[axis]:
        raise KernelError("the sections do not add up to the input")
    outputs = [(*source[:axis], size, *source[axis + 1 :]) for size in sections]
    return Kernel.of("split", [source], outputs, axis=axis)


def _shuffle(fields: _Fields) -> Kernel:
    return Kernel.of("shuffle_channel", [fields.shape("in")], [fields.shape("out")], group=fields.number("group"))


def _reshape(fields: _Fields) -> Kernel:
    source, target = fields.shape("in"), fields.shape("out")
    if prod(source) != prod(target):
        raise KernelError("the sizes of its input and output differ")
    return Kernel.of("reshape", [source], [target])


def _fc(fields: _Fields) -> Kernel:
    """Read a linear layer. A flatten of its input is not part of the kernel, since it moves nothing."""
    source, (c_in, c_out) = fields.shape("in"), fields.shape("weight")
    if prod(source) % c_in:
        raise KernelError("the sizes of its input and weight differ")
    lead = source[:-1] if source[-1] == c_in else (prod(source) // c_in,)
    return Kernel.of("linear", [(*lead, c_in)], [(*lead, c_out)])


def _reduce_mean(fields: _Fields) -> Kernel:
    source, target, axes = fields.shape("in"), fields.shapes("out"), fields.numbers("dim")
    positive = tuple(sorted(axis % len(source) for axis in axes))
    keepdim = int(len(target[0]) == len(source))
    return Kernel.of("reduce_mean", [source], target, axes=positive, keepdim=keepdim)


def _argmax(fields: _Fields) -> Kernel:
    source, target = fields.shape("in"), fields.shapes("out")
    keepdim = int(len(target[0]) == len(source))
    return Kernel.of("argmax", [source], target, axis=fields.axis(len(source)), keepdim=keepdim)


def _random(fields: _Fields) -> Kernel:
    shape = tuple(1 if position == 0 and size == -1 else size for position, size in enumerate(fields.numbers("shape")))
    return Kernel.of("paddle.uniform_random", [], [shape])


def _sparse_conv(fields: _Fields) -> Kernel:
    conv = _conv(fields)
    attrs = {**conv.attributes, "n_nonzero": fields.number("NonZeroWeights")}
    return Kernel.of("paddle.sparse_conv2d", conv.inputs, conv.outputs, dtype=conv.dtype, **attrs)


def _transposed_conv(fields: _Fields) -> Kernel:
    conv = _conv(fields)
    return Kernel.of("conv_transpose2d", conv.inputs, conv.outputs, dtype=conv.dtype, **conv.attributes)


_SAME_SHAPE = (
    "hard_swish", "relu", "leaky_relu", "tanh", "swish", "softmax", "hard_sigmoid", "sigmoid", "gelu", "clip", "sqrt",
)  # fmt: skip
_BINARY = ("add", "sub", "mul", "div", "pow", "mod")
_INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "linear", "trilinear")
_ONE_COST = (
    "fill_constant",
    "range",
    "cast",
    "expand",
    "expand_v2",
    "expand_as_v2",
)  # keys without shapes: one latency for all sizes

# op type -> reader of its fields; a type without a counterpart of the same cost keeps Paddle's name
_READ: dict[str, Callable[[_Fields], Kernel]] = {
    "conv2d": _conv,
    "depthwise_conv2d": _conv,
    "conv2d_transpose": _transposed_conv,
    "sparse_conv2d": _sparse_conv,
    "pool2d": _pool,
    **{op: _same_shape(op) for op in _SAME_SHAPE},
    **{op: _unary(op) for op in ("batch_norm", "layer_norm", "exp", "floor")},
    "calib": _unary("paddle.calib"),
    "scale": _unary("paddle.scale"),
    "shape": _without_output("paddle.shape"),
    **{op: _without_output(f"paddle.{op}") for op in ("transpose", "transpose2")},
    **{f"{mode}_interp_v2": _without_output(f"paddle.{mode}_interp_v2") for mode in _INTERPOLATIONS},
    **{f"elementwise_{op}": _binary(op) for op in _BINARY},
    # the key has no activation; on ARM, opt fuses only relu
    **{f"fusion_elementwise_{op}_activation": _binary(op, act="relu") for op in ("add", "sub", "mul")},
    "matmul": _matmul,
    "matmul_v2": _matmul,
    "fc": _fc,
    "concat": _joined("concat", "in"),
    "stack": _joined("stack", "X"),
    "sum": _sum,
    "split": _split,
    "shuffle_channel": _shuffle,
    **dict.fromkeys(("reshape", "reshape2", "squeeze2", "unsqueeze2", "flatten_contiguous_range"), _reshape),
    "slice": _kept("paddle.slice", "in", "axes"),  # neither the positions nor the output is in the key
    "reduce_mean": _reduce_mean,
    "arg_max": _argmax,
    "greater_equal": lambda fields: Kernel.of(
        "greater_equal", [fields.shape("X"), fields.shape("Y")], [fields.shape("out")]
    ),
    "dropout": lambda fields: Kernel.of("paddle.dropout", [fields.shape("in")], [fields.shape("in")]),
    "uniform_random": _random,
    "pad3d": _kept("paddle.pad3d", "in", "paddings"),
    "rnn": _kept("paddle.rnn", "in"),
    "yolo_box": _kept("paddle.yolo_box", "in", "class_num"),
    "prior_box": _kept("paddle.prior_box", "in", "aspect_ratios", "max_sizes", "min_sizes"),
    "multiclass_nms3": _kept("paddle.multiclass_nms3", "boxs scores", "keep_top_k", "nms_top_k"),
    "matrix_nms": _kept("paddle.matrix_nms", "boxs scores", "keep_top_k", "nms_top_k"),
    "fill_constant_batch_size_like": _kept("paddle.fill_constant_batch_size_like", "in", "shape"),
    **{op: lambda _, op=op: Kernel.of(f"paddle.{op}", [], []) for op in _ONE_COST},  # type: ignore[misc]
}


def parse_paddleslim_key(key: str) -> Kernel:
    """Parse a key of PaddleSlim's table.

    Raises:
        KernelError: if the op type is unknown, or a field is missing or leaves a size open.

    Example:
        >>> parse_paddleslim_key("swish in=(-1, 8, 1, 1) out=(-1, 8, 1, 1)").key
        'swish [1,8,1,1] -> [1,8,1,1] dtype=fp32'
    """
    op, _, rest = key.strip().partition(" ")
    if op not in _READ:
        raise KernelError(f"the op type {op!r} is not known")
    try:
        return _READ[op](_Fields(rest))
    except (ValueError, LookupError) as error:
        if isinstance(error, KernelError):
            raise
        raise KernelError(f"a field cannot be read ({error})") from error
