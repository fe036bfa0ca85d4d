"""What an op that MNN ran is in the vocabulary, by its type and by the op of the file that it is or is a part of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

from latency_nas.engine.mnn.session import RanOp
from latency_nas.graph.mnn.model_file import MnnFile, MnnOp
from latency_nas.graph.mnn.schema import BINARY, REDUCTIONS, RESIZES, UNARY
from latency_nas.graph.mnn.windows import Attrs, conv_attrs, pool_attrs
from latency_nas.kernel import Shape

__all__ = ["READ", "Run"]


@dataclass(frozen=True, slots=True)
class Run:
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
        """Shape of the first tensor that it reads."""
        return self.ran.reads[0].shape if self.ran.reads else ()

    @property
    def target(self) -> Shape:
        """Shape of the first tensor that it writes."""
        return self.ran.writes[0].shape if self.ran.writes else ()


_Found = tuple[str, Attrs] | None  # name in the vocabulary, and attributes


def _conv(run: Run) -> _Found:
    if run.op is None:
        return None
    attrs = conv_attrs(run.op, run.source[2:], run.target[2:])
    return None if attrs is None else ("conv_transpose2d" if "output_pad" in attrs else "conv2d", attrs)


def _pool(run: Run) -> _Found:
    attrs = None if run.op is None else pool_attrs(run.op, run.source[2:], run.target[2:])
    return None if attrs is None else (f"pool{len(run.source) - 2}d", attrs)


def _binary(run: Run) -> _Found:
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


def _unary(run: Run) -> _Found:
    op = run.op
    if op is None:
        return None
    name = {"Sigmoid": "sigmoid", "TanH": "tanh"}.get(op.type) or UNARY.get(op.attributes.get("opType", -1))
    return (name, {}) if name and op.type in {"Sigmoid", "TanH", "UnaryOp"} else None


def _relu(run: Run) -> _Found:
    leaks = run.whole is not None and run.whole.attributes.get("slope", 0.0) != 0
    return "leaky_relu" if leaks else "relu", {}


def _reduction(run: Run) -> _Found:
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


def _layer_norm(run: Run) -> _Found:
    op, rank = run.whole, len(run.source)
    if op is None:
        return None
    axes = sorted(axis % max(1, rank) for axis in op.attributes.get("axis", ()))
    if not axes:
        return None
    first = rank - len(axes)  # MNN moves the normalised axes to the end
    attrs: Attrs = {} if first == rank - 1 else {"axis": first}
    return ("rms_norm" if op.attributes["useRMSNorm"] else "layer_norm"), attrs


def _softmax(run: Run) -> _Found:
    axis = run.whole.attributes.get("axis") if run.whole is not None else None
    return None if axis is None else ("softmax", {"axis": axis % max(1, len(run.source))})


def _resize(run: Run) -> _Found:
    mode = RESIZES.get(run.whole.attributes.get("resizeType", -1)) if run.whole is not None else None
    return None if mode is None else ("resize", {"mode": mode})


def _arg_max(run: Run) -> _Found:
    axis = run.whole.attributes.get("axis") if run.whole is not None else None
    return None if axis is None else ("argmax", {"axis": axis % max(1, len(run.source)), "keepdim": 0})


def _matmul(run: Run) -> _Found:
    return "matmul", ({"constant": "right"} if run.constants[:2] == (False, True) else {})


def _loop(run: Run) -> _Found:
    """A `While`: MNN's loop over parts of tensors, by which it computes ops of several types."""
    found = _LOOPS.get(run.op.type) if run.op is not None else None
    return found(run) if found is not None else None


def _named(name: str) -> Callable[[Run], _Found]:
    return lambda run: (name, {})


def _gather(run: Run) -> _Found:
    axis = run.op.attributes.get("axis", 0) if run.op is not None else 0
    rows_are_weights = len(run.source) == 2 and run.constants[0]
    return ("embedding", {}) if rows_are_weights else ("gather", {"axis": axis})


_LOOPS: dict[str, Callable[[Run], _Found]] = {
    "BinaryOp": _binary,
    **dict.fromkeys(("MatMul", "BatchMatMul"), _matmul),
    **dict.fromkeys(("Gather", "GatherV2"), _gather),
    **dict.fromkeys(("GatherElements", "GatherND"), _named("index")),
    **dict.fromkeys(("ScatterNd", "ScatterElements"), _named("scatter")),
    "CumSum": _named("cumsum"),
}

# type that ran -> its name in the vocabulary and its attributes; None where they cannot be known
READ: dict[str, Callable[[Run], _Found]] = {
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
