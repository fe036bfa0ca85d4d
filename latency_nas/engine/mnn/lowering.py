"""The kernels that MNN itself runs for a model file.

One run in a session names each op, its type and its shapes. Kernel sizes, strides and the like come from the ``.mnn``
file, by the op's name. MNN breaks some ops into several; it names such a part after the op.

Limitations:
1. What a part of a broken-up op computes is known only as far as its type says so. Otherwise it keeps MNN's name of its
   type, in lower case, and no regressor prices it.
2. Control flow does not run in a session. Such a file is refused.
3. MNN adds a bias in each convolution. One that is all zeros counts as none.
4. A clamp is `relu6` whatever its bounds: MNN runs the same code.
5. MNN does not report copies between two of its own packings (four channels, and eight or sixteen). They are not here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

from latency_nas.engine.mnn.session import RanOp, RanTensor, run_once
from latency_nas.engine.mnn.session_layouts import packed_outputs
from latency_nas.engine.target import Target
from latency_nas.errors import GraphError, InputMismatchError, KernelError
from latency_nas.graph.input_shapes import InputShape
from latency_nas.graph.mnn.model_file import MnnFile, MnnOp
from latency_nas.graph.mnn.schema import BINARY, REDUCTIONS, RESIZES, UNARY
from latency_nas.graph.mnn.windows import Attrs, conv_attrs, pool_attrs
from latency_nas.kernel import OPS, Kernel, Shape, shared_kernel
from latency_nas.kernel.kernel_call import KernelCall

__all__ = ["kernels_of", "lower_mnn"]

_PART = re.compile(r"_raster_\d+$")
_QUANTISED = re.compile(r"Int8\b| \[ DT_Q?INT8 \] ?$")
_COMPARISONS = frozenset({
    "equal", "not_equal", "greater", "greater_equal", "less", "less_equal", "logical_and", "logical_or", "logical_xor",
})  # fmt: skip
_OF_INT8 = {"ConvInt8": "Convolution", "DepthwiseConvInt8": "ConvolutionDepthwise", "EltwiseInt8": "BinaryOp"}


@dataclass(frozen=True, slots=True)
class _Run:
    """An op that ran.

    Args:
        file: File that ran.
        ran: What MNN reports of it.
        type: Its type, without marks of precision.
        op: Op of the file that it is, or is a part of, if any.
        constants: Whether each tensor that it reads is known before the network runs.
    """

    file: MnnFile
    ran: RanOp
    type: str
    op: MnnOp | None
    constants: tuple[bool, ...]

    @property
    def whole(self) -> MnnOp | None:
        """The op of the file, if it is of the type that ran."""
        return self.op if self.op is not None and self.op.type == self.type else None

    @property
    def source(self) -> Shape:
        return self.ran.reads[0].shape if self.ran.reads else ()

    @property
    def target(self) -> Shape:
        return self.ran.writes[0].shape if self.ran.writes else ()


_Found = tuple[str, Attrs] | None  # name in the vocabulary, and attributes


def _conv(run: _Run) -> _Found:
    if run.op is None:
        return None
    attrs = conv_attrs(run.op, run.source[2:], run.target[2:])
    return None if attrs is None else ("conv_transpose2d" if "output_pad" in attrs else "conv2d", attrs)


def _pool(run: _Run) -> _Found:
    attrs = None if run.op is None else pool_attrs(run.op, run.source[2:], run.target[2:])
    return None if attrs is None else (f"pool{len(run.source) - 2}d", attrs)


def _binary(run: _Run) -> _Found:
    op = run.op
    if op is None or op.type != "BinaryOp" or op.attributes.get("opType") not in BINARY:
        return None
    has_number = any(
        not tensor.shape or (constant and prod(tensor.shape) == 1)
        for tensor, constant in zip(run.ran.reads, run.constants, strict=True)
    )
    attrs: Attrs = {"scalar": 1} if has_number else {}
    if op.attributes["activationType"] == 1:
        attrs["act"] = "relu"
    return BINARY[op.attributes["opType"]], attrs


def _unary(run: _Run) -> _Found:
    op = run.op
    if op is None:
        return None
    name = {"Sigmoid": "sigmoid", "TanH": "tanh"}.get(op.type) or UNARY.get(op.attributes.get("opType", -1))
    return (name, {}) if name and op.type in {"Sigmoid", "TanH", "UnaryOp"} else None


def _relu(run: _Run) -> _Found:
    leaks = run.whole is not None and run.whole.attributes.get("slope", 0.0) != 0
    return "leaky_relu" if leaks else "relu", {}


def _reduction(run: _Run) -> _Found:
    name = REDUCTIONS.get(run.whole.attributes.get("operation", -1)) if run.whole is not None else None
    if name is None or run.whole is None:
        return None
    keeps = len(run.source) == len(run.target)
    if keeps:
        sizes = zip(run.source, run.target, strict=True)
        axes = tuple(axis for axis, (before, after) in enumerate(sizes) if before != after) or (1,)
    else:
        listed = run.whole.attributes["dim"] or run.file.integers(run.whole.inputs[1:2])
        axes = tuple(sorted(axis % max(1, len(run.source)) for axis in listed))
    return (name, {"axes": axes, "keepdim": int(keeps)}) if axes else None


def _layer_norm(run: _Run) -> _Found:
    op, rank = run.whole, len(run.source)
    if op is None:
        return None
    axes = sorted(axis % max(1, rank) for axis in op.attributes.get("axis", ()))
    if not axes:
        return None
    first = rank - len(axes)  # MNN moves the normalised axes to the end
    attrs: Attrs = {} if first == rank - 1 else {"axis": first}
    return ("rms_norm" if op.attributes["useRMSNorm"] else "layer_norm"), attrs


def _softmax(run: _Run) -> _Found:
    axis = run.whole.attributes.get("axis") if run.whole is not None else None
    return None if axis is None else ("softmax", {"axis": axis % max(1, len(run.source))})


def _resize(run: _Run) -> _Found:
    mode = RESIZES.get(run.whole.attributes.get("resizeType", -1)) if run.whole is not None else None
    return None if mode is None else ("resize", {"mode": mode})


def _arg_max(run: _Run) -> _Found:
    axis = run.whole.attributes.get("axis") if run.whole is not None else None
    return None if axis is None else ("argmax", {"axis": axis % max(1, len(run.source)), "keepdim": 0})


def _matmul(run: _Run) -> _Found:
    return "matmul", ({"constant": "right"} if run.constants[:2] == (False, True) else {})


def _loop(run: _Run) -> _Found:
    """A `While`: MNN's loop over parts of tensors, by which it computes ops of several types."""
    found = _LOOPS.get(run.op.type) if run.op is not None else None
    return found(run) if found is not None else None


def _named(name: str) -> Callable[[_Run], _Found]:
    return lambda run: (name, {})


def _gather(run: _Run) -> _Found:
    axis = run.op.attributes.get("axis", 0) if run.op is not None else 0
    rows_are_weights = len(run.source) == 2 and run.constants[0]
    return ("embedding", {}) if rows_are_weights else ("gather", {"axis": axis})


_LOOPS: dict[str, Callable[[_Run], _Found]] = {
    "BinaryOp": _binary,
    **dict.fromkeys(("MatMul", "BatchMatMul"), _matmul),
    **dict.fromkeys(("Gather", "GatherV2", "GatherElements"), _gather),
    "GatherND": _named("index"),
    **dict.fromkeys(("ScatterNd", "ScatterElements"), _named("scatter")),
    "CumSum": _named("cumsum"),
}

# type that ran -> its name in the vocabulary and its attributes; None where they cannot be known
_READ: dict[str, Callable[[_Run], _Found]] = {
    **dict.fromkeys(("Convolution", "ConvolutionDepthwise", "Deconvolution", "DeconvolutionDepthwise"), _conv),
    "Pooling": _pool,
    "BinaryOp": _binary,
    "UnaryOp": _unary,
    "ReLU": _relu,
    "ReLU6": _named("relu6"),
    "PReLU": _named("prelu"),
    "ELU": _named("elu"),
    "Selu": _named("selu"),
    "Scale": _named("batch_norm"),
    "Reduction": _reduction,
    "LayerNorm": _layer_norm,
    "Softmax": _softmax,
    "Interp": _resize,
    "ArgMax": _arg_max,
    "MatMul": _matmul,
    "While": _loop,
    "Select": _named("where"),
    "Cast": _named("cast"),
    "GridSample": _named("grid_sample"),
    "FloatToInt8": _named("quantize"),
    "Int8ToFloat": _named("dequantize"),
}


def lower_mnn(file: Path, target: Target, input_shape: InputShape | None = None) -> tuple[KernelCall, ...]:
    """The kernels that the installed MNN runs for a model file, in order.

    Args:
        file: ONNX file or ``.mnn`` file.
        target: Threads and precision of the run.
        input_shape: Shape of the only input, or a mapping input -> shape; needed where the file leaves sizes open.

    Raises:
        GraphError: if MNN cannot convert or run the file.
        InputMismatchError: if a size of an input is neither in the file nor given.
        MissingExtraError: if MNN is not installed.
    """
    return kernels_of(*run_once(file, target, _input_shapes(file, input_shape)))


def _input_shapes(file: Path, given: InputShape | None) -> InputShape | None:
    """The shapes of an ONNX file's inputs by name: MNN's converter would silently take an open first size as 1."""
    if file.suffix != ".onnx":
        return given
    from latency_nas.graph.onnx.model import load

    try:
        model = load(file, given)
    except InputMismatchError:
        raise
    except GraphError:  # MNN may still read it
        return given
    return {name: model.tensors[name][0] for name in model.inputs}


def kernels_of(file: MnnFile, ops: Sequence[RanOp]) -> tuple[KernelCall, ...]:
    """The kernels of the ops that ran.

    Args:
        file: Ops of the file that ran.
        ops: Ops that ran, in order.

    Raises:
        GraphError: if the file and what ran make no valid kernel.
    """
    packed = packed_outputs(file, ops)
    calls = []
    for number, ran in enumerate(ops):
        op = file.by_name.get(ran.name) or file.by_name.get(_PART.sub("", ran.name))
        name, is_copy = op.name if op is not None else ran.name, ran.type == "Raster"
        try:
            kernel = _raster(ran, packed, number) if is_copy else _kernel(_run(file, ran, op))
        except KernelError as error:
            raise GraphError(f"Expected `{name}` of {file.name} to be a valid kernel. {error}") from error
        calls.append(KernelCall(kernel=kernel, layer=name, nodes=() if is_copy else (name,), reader=name))
    return tuple(calls)


def _run(file: MnnFile, ran: RanOp, op: MnnOp | None) -> _Run:
    base = ran.type.partition(" [")[0]
    return _Run(file, ran, _OF_INT8.get(base, base), op, _constants(file, op, ran))


def _raster(ran: RanOp, packed: Sequence[bool], number: int) -> Kernel:
    """A copy between layouts, or of several tensors into one."""
    layouts = {True: "packed", False: "plain"}
    is_packed = any(tensor.maker is not None and tensor.maker >= 0 and packed[tensor.maker] for tensor in ran.reads)
    attrs: Attrs = {"source": layouts[is_packed], "target": layouts[packed[number]]}
    inputs = tuple(tensor.shape for tensor in ran.reads if tensor.shape)
    return shared_kernel("raster", inputs, _shapes(ran.writes), tuple(attrs.items()), _dtype(ran))


def _kernel(run: _Run) -> Kernel:
    found = _READ[run.type](run) if run.type in _READ else None
    own = run.type.lower()
    name, attrs = found or (f"mnn.{own}" if own in OPS else own, {})
    reads = zip(run.ran.reads, run.constants, strict=True)
    inputs = tuple(tensor.shape for tensor, constant in reads if tensor.shape and not constant)
    return shared_kernel(name, inputs, _shapes(run.ran.writes), tuple(attrs.items()), _dtype(run.ran, name))


def _constants(file: MnnFile, op: MnnOp | None, ran: RanOp) -> tuple[bool, ...]:
    """Whether each tensor that an op reads is known before the network runs.

    The file says so. What the session says is used for the rest only: it reports no copies between two of MNN's
    packings, so that no op seems to make what is read.
    """
    known = [index in file.constants for index in op.inputs] if op is not None else []
    rest = [tensor.maker is None for tensor in ran.reads[len(known) :]]
    return (*known, *rest)[: len(ran.reads)]


def _shapes(tensors: Sequence[RanTensor]) -> tuple[Shape, ...]:
    return tuple(tensor.shape for tensor in tensors)


def _dtype(ran: RanOp, name: str = "") -> str:
    """The type of an op's output. MNN keeps truth values as integers."""
    if name in _COMPARISONS:
        return "bool"
    if _QUANTISED.search(ran.type):
        return "int8"
    return "fp32" if ran.writes and ran.writes[0].floats else "int32"
