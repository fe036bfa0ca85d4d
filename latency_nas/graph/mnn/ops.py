"""MNN's ops in the vocabulary of kernels, with the shapes that they give."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import cast

import numpy as np

from latency_nas.graph.mnn.known_numbers import Numbers
from latency_nas.graph.mnn.model_file import MnnOp
from latency_nas.graph.mnn.schema import BINARY, REDUCTIONS, RESIZES, UNARY
from latency_nas.graph.mnn.windows import Attrs, conv_attrs, pool_attrs
from latency_nas.kernel import Shape

__all__ = ["Call", "Step", "read_call"]


@dataclass(frozen=True, slots=True)
class Call:
    """An op of a file, with what is known of the tensors that it reads.

    Args:
        op: Op.
        shapes: Shapes.
        numbers: Their numbers, where these are known integers.
        floats: Their first numbers, where they are floats of the file.
        constants: Whether each is known before the network runs.
    """

    op: MnnOp
    shapes: Sequence[Shape]
    numbers: Sequence[Numbers | None]
    floats: Sequence[tuple[float, ...]]
    constants: Sequence[bool]

    def integers(self, position: int, name: str = "") -> list[int]:
        """A list of integers that is a parameter, or else an input."""
        listed = self.op.attributes.get(name, ())
        if listed:
            return [int(number) for number in listed]
        known = self.numbers[position] if position < len(self.numbers) else None
        if known is None:
            raise ValueError(f"its input {position} is not known before it runs")
        return [int(number) for number in known.reshape(-1)]


@dataclass(frozen=True, slots=True)
class Step:
    """What an op is read as.

    Args:
        op: Name in the vocabulary; empty where the output is the first input.
        attrs: Attributes.
        shapes: Shapes of the outputs.
        before: Shape of the output before axes of one are dropped; None where none are.
    """

    op: str
    attrs: Attrs
    shapes: tuple[Shape, ...]
    before: Shape | None = None


def _same(name: str) -> Callable[[Call], Step]:
    return lambda call: Step(name, {}, (call.shapes[0],))


def _window(call: Call) -> Step:
    """A convolution or a pooling: the sizes of the output follow from the window."""
    op, shape = call.op, call.shapes[0]
    source, n_axes = shape[2:], len(shape) - 2
    read = pool_attrs if "isGlobal" in op.attributes else conv_attrs
    fields = op.attributes.get("common") or op.attributes
    keeps = (fields.get("padMode") or fields.get("padType")) == 2  # SAME
    attrs = read(op, source, source)
    if attrs is None:
        raise ValueError("its window is not known")
    kernel, stride, pad = (cast(Shape, attrs[name]) for name in ("kernel", "stride", "pad"))
    dilation = cast(Shape, attrs.get("dilation", (1,) * n_axes))
    spans = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    pads = [before + after for before, after in zip(pad[:n_axes], pad[n_axes:], strict=True)]
    channels = shape[1] if "isGlobal" in op.attributes else int(fields["outputCount"])
    if "output_pad" in attrs:
        extra = cast(Shape, attrs["output_pad"])
        sizes = [(n - 1) * s + k - p + e for n, s, k, p, e in zip(source, stride, spans, pads, extra, strict=True)]
        name = f"conv_transpose{n_axes}d"
    else:
        up = bool(attrs.get("ceil"))
        sizes = [
            -(-n // s) if keeps else (n + p - min(k, n + p) + (s - 1) * up) // s + 1
            for n, s, k, p in zip(source, stride, spans, pads, strict=True)
        ]
        name = f"{'pool' if 'isGlobal' in op.attributes else 'conv'}{n_axes}d"
    return Step(name, read(op, source, tuple(sizes)) or attrs, ((shape[0], channels, *sizes),))


def _binary(call: Call) -> Step:
    numbers = [constant and prod(shape) == 1 for constant, shape in zip(call.constants, call.shapes, strict=True)]
    attrs: Attrs = {"scalar": 1} if any(numbers) else {}
    if call.op.attributes["activationType"] == 1:
        attrs["act"] = "relu"
    return Step(BINARY[call.op.attributes["opType"]], attrs, (np.broadcast_shapes(*call.shapes),))


def _unary(call: Call) -> Step:
    return Step(UNARY[call.op.attributes["opType"]], {}, (call.shapes[0],))


def _relu(call: Call) -> Step:
    return Step("leaky_relu" if call.op.attributes.get("slope") else "relu", {}, (call.shapes[0],))


def _concat(call: Call) -> Step:
    first = call.shapes[0]
    axis = call.op.attributes["axis"] % len(first)
    shape = (*first[:axis], sum(shape[axis] for shape in call.shapes), *first[axis + 1 :])
    return Step("concat", {"axis": axis}, (shape,))


def _reshaped(call: Call, sizes: Sequence[int]) -> Step:
    shape = call.shapes[0]
    sizes = [shape[axis] if size == 0 and axis < len(shape) else size for axis, size in enumerate(sizes)]
    rest = prod(size for size in sizes if size != -1)
    whole = tuple(prod(shape) // rest if size == -1 and rest else size for size in sizes)
    if prod(whole) != prod(shape):
        raise ValueError(f"it makes {list(whole)} of {list(shape)}, which has another number of elements")
    return Step("reshape", {}, (whole,))


def _flatten(call: Call) -> Step:
    shape = call.shapes[0]
    axis = call.op.attributes["axis"] % (len(shape) + 1)
    return Step("reshape", {}, ((prod(shape[:axis]), prod(shape[axis:])),))


def _squeeze(call: Call) -> Step:
    shape, given = call.shapes[0], call.op.attributes.get("squeezeDims") or len(call.shapes) > 1
    axes = {axis % len(shape) for axis in call.integers(1, "squeezeDims")} if given else set(range(len(shape)))
    return Step("reshape", {}, (tuple(n for axis, n in enumerate(shape) if axis not in axes or n != 1),))


def _unsqueeze(call: Call) -> Step:
    axes = tuple(call.integers(1, "squeezeDims"))
    return Step("reshape", {}, (np.expand_dims(np.broadcast_to(0, call.shapes[0]), axes).shape,))


def _transpose(call: Call) -> Step:
    perm = tuple(call.integers(1, "dims"))
    if sorted(perm) != list(range(len(call.shapes[0]))):
        raise ValueError(f"{perm} is no order of its {len(call.shapes[0])} axes")
    return Step("transpose", {"perm": perm}, (tuple(call.shapes[0][axis] for axis in perm),))


def _reduce(call: Call) -> Step:
    shape = call.shapes[0]
    axes = tuple(sorted(axis % len(shape) for axis in call.integers(1, "dim")))
    keep = bool(call.op.attributes["keepDims"])
    sizes = (1 if axis in axes else n for axis, n in enumerate(shape) if keep or axis not in axes)
    name = REDUCTIONS[call.op.attributes["operation"]]
    return Step(name, {"axes": axes, "keepdim": int(keep)}, (tuple(sizes),))


def _softmax(call: Call) -> Step:
    return Step("softmax", {"axis": call.op.attributes["axis"] % len(call.shapes[0])}, (call.shapes[0],))


def _layer_norm(call: Call) -> Step:
    shape, axes = call.shapes[0], call.op.attributes["axis"]
    first = len(shape) - len(axes)
    if sorted(axis % len(shape) for axis in axes) != list(range(first, len(shape))):
        raise ValueError("it does not normalise the last axes")
    name = "rms_norm" if call.op.attributes["useRMSNorm"] else "layer_norm"
    return Step(name, {} if first == len(shape) - 1 else {"axis": first}, (shape,))


def _matmul(call: Call) -> Step:
    one, other = call.shapes[:2]
    fields = call.op.attributes
    if fields.get("transposeA") or fields.get("adjX"):
        one = (*one[:-2], one[-1], one[-2])
    if fields.get("transposeB") or fields.get("adjY"):
        other = (*other[:-2], other[-1], other[-2])
    attrs: Attrs = {"constant": "right"} if tuple(call.constants[:2]) == (False, True) else {}
    return Step("matmul", attrs, ((*np.broadcast_shapes(one[:-2], other[:-2]), one[-2], other[-1]),))


def _split(call: Call) -> Step:
    shape, n_parts = call.shapes[0], len(call.op.outputs)
    axis = call.op.attributes["axis"] % len(shape)
    stated = call.integers(1, "slicePoints") if len(call.shapes) > 1 else call.op.attributes["slicePoints"]
    sizes = stated or (shape[axis] // n_parts,) * n_parts
    if len(sizes) != n_parts or sum(sizes) != shape[axis]:
        raise ValueError("its parts do not make up the whole")
    return Step("split", {"axis": axis}, tuple((*shape[:axis], size, *shape[axis + 1 :]) for size in sizes))


def _slice(call: Call) -> Step:
    shape, starts, sizes = call.shapes[0], call.integers(1), call.integers(2)
    sizes = [n - start if size < 0 else size for n, start, size in zip(shape, starts, sizes, strict=True)]
    axes = [axis for axis, n in enumerate(shape) if sizes[axis] != n]
    return Step("slice", {"axes": tuple(axes), "starts": tuple(starts[axis] for axis in axes)}, (tuple(sizes),))


def _strided(call: Call) -> Step:
    """Read a slice by starts, ends and steps, of all axes (TensorFlow) or of those that are named (ONNX)."""
    shape, fields = call.shapes[0], call.op.attributes
    if fields["ellipsisMask"] or fields["newAxisMask"]:
        raise ValueError("it adds axes")
    starts, ends, named = call.integers(1), call.integers(2), fields["fromType"] == 1
    axes = [axis % len(shape) for axis in call.integers(3)] if named and len(call.shapes) > 3 else range(len(starts))
    steps_at = 4 if named else 3
    steps = call.integers(steps_at) if len(call.shapes) > steps_at else [1] * len(starts)
    begun, sizes, dropped = [0] * len(shape), list(shape), set[int]()
    for place, axis in enumerate(axes):
        bit = 1 << place
        start = None if fields["beginMask"] & bit else starts[place]
        stop = None if fields["endMask"] & bit else ends[place]
        if fields["shrinkAxisMask"] & bit:
            start, stop = starts[place], starts[place] + 1 or None
            dropped.add(axis)
        taken = range(shape[axis])[start : stop : steps[place]]
        begun[axis], sizes[axis] = taken.start, len(taken)
    cut = [axis for axis in axes if sizes[axis] != shape[axis] or steps[list(axes).index(axis)] != 1]
    attrs: Attrs = {"axes": tuple(cut), "starts": tuple(begun[axis] for axis in cut)}
    if any(step != 1 for step in steps):
        attrs["steps"] = tuple(steps[list(axes).index(axis)] for axis in cut)
    whole = tuple(sizes)
    left = tuple(size for axis, size in enumerate(whole) if axis not in dropped)
    return Step("slice", attrs, (left,), before=whole if dropped else None)


def _resize(call: Call) -> Step:
    n, c, height, width = call.shapes[0]
    fields = call.op.attributes
    if len(call.shapes) > 1 and call.numbers[1] is not None:
        sizes = call.integers(1)[-2:]
    elif len(call.shapes) > 1 and len(call.floats[1]) >= 2:
        scales = call.floats[1][-2:]
        sizes = [int(height * scales[0]), int(width * scales[1])]
    elif fields["outputHeight"]:
        sizes = [fields["outputHeight"], fields["outputWidth"]]
    elif fields["heightScale"]:
        sizes = [int(height * fields["heightScale"]), int(width * fields["widthScale"])]
    else:
        raise ValueError("its size is not known before it runs")
    return Step("resize", {"mode": RESIZES[fields["resizeType"]]}, ((n, c, *sizes),))


_READ: Mapping[str, Callable[[Call], Step]] = {
    **dict.fromkeys(("ConvertTensor", "Identity", "Dropout"), _same("")),
    **dict.fromkeys(("Convolution", "ConvolutionDepthwise", "Deconvolution", "DeconvolutionDepthwise"), _window),
    **dict.fromkeys(("Pooling", "Pooling3D"), _window),
    "BinaryOp": _binary,
    "UnaryOp": _unary,
    "ReLU": _relu,
    "ReLU6": _same("relu6"),  # MNN runs the same code for all bounds
    **{name: _same(op) for name, op in {
        "PReLU": "prelu", "ELU": "elu", "Selu": "selu", "Sigmoid": "sigmoid", "TanH": "tanh", "Scale": "batch_norm",
        "Cast": "cast",
    }.items()},
    "Concat": _concat,
    "Reshape": lambda call: _reshaped(call, call.integers(1, "dims")),
    "Flatten": _flatten,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Permute": _transpose,
    "Reduction": _reduce,
    "Softmax": _softmax,
    "LayerNorm": _layer_norm,
    **dict.fromkeys(("MatMul", "BatchMatMul"), _matmul),
    "Slice": _split,
    "SliceTf": _slice,
    "StridedSlice": _strided,
    "Interp": _resize,
}  # fmt: skip


def read_call(call: Call) -> Step | None:
    """What an op is read as; None where its type is not known.

    Raises:
        ValueError: if its parameters or inputs do not fit.
    """
    read = _READ.get(call.op.type)
    return None if read is None else read(call)
