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
from collections.abc import Sequence
from pathlib import Path

from latency_nas.engine.mnn.ran_ops import READ, Run
from latency_nas.engine.mnn.session import RanOp, RanTensor, run_once
from latency_nas.engine.mnn.session_layouts import packed_outputs
from latency_nas.engine.target import Target
from latency_nas.errors import GraphError, InputMismatchError, KernelError
from latency_nas.graph.input_shapes import InputShape
from latency_nas.graph.mnn.model_file import MnnFile, MnnOp
from latency_nas.graph.mnn.windows import Attrs
from latency_nas.kernel import OPS, Kernel, Shape, shared_kernel
from latency_nas.kernel.kernel_call import KernelCall

__all__ = ["kernels_of", "lower_mnn"]

_PART = re.compile(r"_raster_\d+$")
_QUANTISED = re.compile(r"Int8\b| \[ DT_Q?INT8 \] ?$")
_COMPARISONS = frozenset({
    "equal", "not_equal", "greater", "greater_equal", "less", "less_equal", "logical_and", "logical_or", "logical_xor",
})  # fmt: skip
_OF_INT8 = {"ConvInt8": "Convolution", "DepthwiseConvInt8": "ConvolutionDepthwise", "EltwiseInt8": "BinaryOp"}


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


def _run(file: MnnFile, ran: RanOp, op: MnnOp | None) -> Run:
    base = ran.type.partition(" [")[0]
    return Run(file, ran, _OF_INT8.get(base, base), op, _constants(file, op, ran))


def _raster(ran: RanOp, packed: Sequence[bool], number: int) -> Kernel:
    """A copy between layouts, or of several tensors into one."""
    layouts = {True: "packed", False: "plain"}
    is_packed = any(tensor.maker is not None and tensor.maker >= 0 and packed[tensor.maker] for tensor in ran.reads)
    attrs: Attrs = {"source": layouts[is_packed], "target": layouts[packed[number]]}
    inputs = tuple(tensor.shape for tensor in ran.reads if tensor.shape)
    return shared_kernel("raster", inputs, _shapes(ran.writes), tuple(attrs.items()), _dtype(ran))


def _kernel(run: Run) -> Kernel:
    found = READ[run.type](run) if run.type in READ else None
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
