"""Writes the keys that PaddleSlim makes for the ops of a program, by templates.

A template uses the shapes of all inputs and outputs of an op, each in the order of their slots' names, and the
attributes. The first rule for an op's type determines its key. An attribute that the op lacks is written as None.

References:
    PaddleSlim 2.6.0, ``paddleslim/analysis/parse_ops.py``; the dialect of 2021 is that of its commit c7ec8584.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from latency_nas.errors import KernelError

__all__ = ["Dialect", "OptimisedOp", "write_paddleslim_key"]

Dialect = Literal["2022", "2021"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimisedOp:
    """An op of an optimised Paddle program, with all that its key needs.

    Args:
        type: Paddle's name of the op.
        inputs: Shapes of all inputs and weights, in the order of the slots' names; -1 is an open size.
        outputs: Shapes of all outputs, in the same order.
        attrs: Attributes of the op.
    """

    type: str
    inputs: tuple[tuple[int, ...], ...]
    outputs: tuple[tuple[int, ...], ...]
    attrs: Mapping[str, Any]


_CONV = (
    "in={last} weight={weight} out={out} pad={paddings[1]} stride={strides[1]} group={groups} "
    "dilation={dilations[1]} quant={enable_int8} bit_length={bit_length}"
)
_POOL = (
    "in={last} out={out} stride={strides[1]} kernel={ksize[1]}x{ksize[1]} pad={paddings[1]} "
    "flag_global={flag_global} type={pooling_type})"
)
_UNARY = (
    "hard_swish", "relu", "leaky_relu", "tanh", "swish", "softmax", "hard_sigmoid", "sigmoid", "gelu", "clip", "shape",
    "sqrt",
)  # fmt: skip

# (types, parts of types, template of the text after the type). Doubled blanks, the stray bracket, and the input of
# calib and floor in place of their output are PaddleSlim's own.
_RULES: tuple[tuple[tuple[str, ...], tuple[str, ...], str], ...] = (
    (("sparse_conv2d",), (), _CONV + " NonZeroWeights={n_nonzero}"),
    ((), ("conv2d",), _CONV),
    (("matmul", "matmul_v2"), (), "X={first} Y={second} out={out} quant={enable_int8} bit_length={bit_length}"),
    ((), ("batch_norm", "layer_norm"), "in={last} out={last_out}"),
    (
        (),
        ("pool2d",),
        _POOL,
    ),
    (_UNARY, ("transpose", "interp_v2"), "in={last} out={out}"),
    (("fill_constant", "range", "cast"), ("expand",), ""),
    (("scale",), ("reshape",), "in={first} out={out}"),
    ((), ("elementwise",), "X={first} Y={second} axis={axis} out={out}"),
    (("concat", "stack"), (), "in={all} axis={axis} out={out}"),
    (("yolo_box",), (), "in={last} out={out} class_num={class_num}"),
    (
        ("prior_box",),
        (),
        "in={last} out={out} aspect_ratios={aspect_ratios} max_sizes={max_sizes} min_sizes={min_sizes}",
    ),
    (("slice",), (), "in={last} axes={axes}"),
    (("exp",), (), "in={last} out={out} axes={axes} decrease_axis={decrease_axis} ends={ends}"),
    (
        ("multiclass_nms3", "matrix_nms"),
        (),
        "boxs={first} scores={last} keep_top_k={keep_top_k} nms_top_k={nms_top_k}",
    ),
    (("dropout",), (), "in={first}"),
    (("fc",), (), "in={last_but_one} weight={last} out={out}"),
    (("shuffle_channel",), (), "in={last} group={group}  out={out}"),
    (("split",), (), "in={last} axis={axis} sections={sections}"),
    (("unsqueeze2", "squeeze2"), (), "in={last} axes={axes}  out={out}"),
    (("flatten_contiguous_range",), (), "in={last} start_axis={start_axis} stop_axis=None out={out}"),
    (("sum",), (), "X={first} Y={second}  out={out}"),
    (("calib", "floor"), (), "in={last} out={first}"),
    (("uniform_random",), (), "shape={shape}"),
    (("greater_equal",), (), "X={first} Y={second} out={out}"),
    (("reduce_mean",), (), "in={last} out={out} dim={dim}"),
    ((), ("pad3d",), "in={last} out={out} paddings={paddings}"),
    (("arg_max",), (), "in={last} axis={axis}  out={out}"),
    (("fill_constant_batch_size_like",), (), "in={last} shape={shape}  out={out}"),
    (("rnn",), (), "in={first} out={second_out}"),
)
_RULES_2021: tuple[tuple[tuple[str, ...], tuple[str, ...], str], ...] = (
    ((), ("conv2d",), _CONV.replace("{weight}", "{last_but_one}")),
    (tuple(op for op in _UNARY if op != "sqrt"), ("transpose", "interp_v2"), "in={last}"),
    (("stack",), (), "X=[{all}] axis={axis} out={out}"),
    (("sum",), (), "in={first} in={second}  out={out}"),
)
_NOT_IN_2021 = frozenset({"sparse_conv2d", "sqrt", "arg_max", "fill_constant_batch_size_like", "rnn"})
_NO_KEY = frozenset({"feed", "fetch"})


_SHAPES = frozenset({"first", "second", "last", "last_but_one", "out", "second_out", "last_out"})


class _Fields(dict[str, Any]):
    """The values for a template. A missing attribute is None; a missing shape is an error."""

    def __missing__(self, name: str) -> None:
        if name in _SHAPES:
            raise LookupError(f"its `{name}` shape is missing")


def _fields(op: OptimisedOp) -> _Fields:
    fields = _Fields({name: value for name, value in op.attrs.items() if not (name == "shape" and op.type == "shape")})
    for name, shapes in (("", op.inputs), ("_out", op.outputs)):
        for place, index in (("first", 0), ("second", 1), ("last", -1)):
            if len(shapes) > max(index, 0):
                fields[place + name] = shapes[index]
    if op.outputs:
        fields["out"] = op.outputs[0]
    fields["all"] = "".join(map(str, op.inputs))
    if "conv2d" in op.type:
        fields |= _conv_fields(op)
    elif "pool2d" in op.type:
        one = bool(op.attrs.get("adaptive")) and op.outputs[0][-1] == 1
        fields["flag_global"] = int(bool(op.attrs.get("global_pooling")) or one)
    elif op.type == "fc":
        fields["last_but_one"] = op.inputs[-2]
    return fields


def _conv_fields(op: OptimisedOp) -> dict[str, Any]:
    """The fields of a convolution. A dense one has its filter before its input. A sparse one states no filter."""
    if op.type == "sparse_conv2d":
        source = op.attrs["Input"]
        weight = (op.outputs[0][1], source[1] if source else -1, 1, 1)
        return {"last": source, "weight": weight, "n_nonzero": op.attrs["NonZeroWeights"][0]}
    before = op.inputs[-2]
    return {"last_but_one": before, "weight": (op.outputs[0][1], *before[1:4])}


def write_paddleslim_key(op: OptimisedOp, *, dialect: Dialect = "2022") -> str | None:
    """The key that PaddleSlim looks up in its table.

    Args:
        op: Op of a program after Paddle-Lite's optimiser. A ``sparse_conv2d`` has the shapes of its slots ``Input`` and
            ``NonZeroWeights`` among its attributes.
        dialect: Dialect of the key: ``"2022"``, of every release from 2.3 on, or ``"2021"``, of the first tables.

    Returns:
        The key; ``""`` for an op that costs nothing (feed, fetch); None if PaddleSlim has no key for its type.

    Raises:
        KernelError: if the op lacks a field of its key, or there is no such dialect.

    Example:
        >>> op = OptimisedOp(type="pool2d", inputs=((1, 8, 4, 4),), outputs=((1, 8, 1, 1),), attrs={"ksize": [1, 1],
        ...     "strides": [1, 1], "paddings": [0, 0], "adaptive": True, "pooling_type": "avg"})
        >>> write_paddleslim_key(op)
        'pool2d in=(1, 8, 4, 4) out=(1, 8, 1, 1) stride=1 kernel=1x1 pad=0 flag_global=1 type=avg)'
    """
    if dialect not in get_args(Dialect):
        raise KernelError(f"Expected `dialect` to be one of {', '.join(get_args(Dialect))}, but got {dialect!r}.")
    if op.type in _NO_KEY:
        return ""
    rules = (*_RULES_2021, *_RULES) if dialect == "2021" else _RULES
    if dialect == "2021" and op.type in _NOT_IN_2021:
        return None
    for types, parts, template in rules:
        if op.type in types or any(part in op.type for part in parts):
            try:
                return f"{op.type} {template.format_map(_fields(op))}".rstrip(" ")
            except (LookupError, TypeError, AttributeError) as error:
                raise KernelError(f"Expected an op {op.type} with all that its key is made of, but {error}.") from error
    return None
