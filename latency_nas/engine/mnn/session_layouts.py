"""The layouts of the tensors that MNN's ops write: channels packed by four, or plain.

MNN's Python interface does not tell them. They follow from the ops: some work on packed channels, the others that
compute along axes on plain ones, and those that compute number by number on what they get. Where an op of the last kind
stands only between copies, the conversions in the file decide.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import prod

from latency_nas.engine.mnn.session import RanOp
from latency_nas.graph.mnn.model_file import MnnFile, MnnOp

__all__ = ["packed_outputs"]

_PACKED = frozenset({
    "Convolution", "ConvolutionDepthwise", "Deconvolution", "DeconvolutionDepthwise", "Pooling", "Scale", "Interp",
    "ConvInt8", "DepthwiseConvInt8", "PReLU", "GridSample", "ROIPooling", "ROIAlign", "CropAndResize", "Resize",
})  # fmt: skip
_POINTWISE = frozenset({
    "BinaryOp", "UnaryOp", "ReLU", "ReLU6", "ELU", "Selu", "Sigmoid", "TanH", "Cast", "Eltwise", "EltwiseInt8",
    "Int8ToFloat", "FloatToInt8",
})  # fmt: skip
_RASTER = "Raster"
_PACKED_FORMAT = 2  # NC4HW4 in the schema's enumeration of formats


class _Ties:
    """Ops whose outputs have one layout, as sets that are joined."""

    def __init__(self, n: int) -> None:
        self._parents = list(range(n))

    def root(self, number: int) -> int:
        while self._parents[number] != number:
            self._parents[number] = number = self._parents[self._parents[number]]
        return number

    def join(self, one: int, other: int) -> None:
        self._parents[self.root(one)] = self.root(other)


def packed_outputs(file: MnnFile, ops: Sequence[RanOp]) -> list[bool]:
    """Whether the output of each op that ran has its channels packed by four.

    Args:
        file: Ops of the file.
        ops: Ops that ran, in order.
    """
    ties = _tied(ops)
    known: dict[int, bool] = {}
    for number, is_packed in _stated(ops):
        known.setdefault(ties.root(number), is_packed)
    formats = _formats(file)
    for number, op in enumerate(ops):
        in_file = file.by_name.get(op.name)
        if op.type != _RASTER and in_file is not None and in_file.outputs:
            known.setdefault(ties.root(number), formats.get(in_file.outputs[0], False))
    unconverted = _unconverted(file, formats)
    read_again = {tensor.maker for op in ops for tensor in op.reads}
    for number, op in enumerate(ops):
        if op.type == _RASTER and number in read_again and (_joins(op) or op.name in unconverted):
            n_packed = sum(known.get(ties.root(maker), False) for maker in _makers(op))
            known.setdefault(ties.root(number), 2 * n_packed > len(op.reads))
    return [known.get(ties.root(number), False) for number in range(len(ops))]


def _makers(op: RanOp) -> list[int]:
    """The ops that made what an op reads."""
    return [tensor.maker for tensor in op.reads if tensor.shape and tensor.maker is not None and tensor.maker >= 0]


def _tied(ops: Sequence[RanOp]) -> _Ties:
    """Ops that compute number by number have the layout of what they read."""
    ties = _Ties(len(ops))
    for number, op in enumerate(ops):
        for maker in _makers(op) if op.type in _POINTWISE and not _starts_with_number(op) else ():
            ties.join(maker, number)
    return ties


def _stated(ops: Sequence[RanOp]) -> Iterator[tuple[int, bool]]:
    """Op -> whether its output is packed, as far as its type or that of a reader says."""
    for number, op in enumerate(ops):
        is_packed = op.type in _PACKED
        if op.type in _POINTWISE:
            if _starts_with_number(op) or any(tensor.maker == -1 for tensor in op.reads):  # -1: the network's input
                yield number, False
        elif op.type != _RASTER:
            yield number, is_packed
            yield from ((maker, is_packed) for maker in _makers(op)[:1])


def _unconverted(file: MnnFile, formats: Mapping[int, bool]) -> set[str]:
    """Names of the first copies for ops that read packed channels as they are, without a conversion before them."""
    converted = {index for op in file.ops if op.type == "ConvertTensor" for index in op.outputs}
    sources = ((op.name, op.inputs[0]) for op in file.ops if op.inputs)
    return {f"{name}_raster_0" for name, index in sources if formats.get(index, False) and index not in converted}


def _joins(op: RanOp) -> bool:
    """Whether a copy joins whole tensors: then it keeps the layout of most of its sources."""
    return len(op.reads) > 1 and sum(prod(tensor.shape) for tensor in op.reads) == prod(op.writes[0].shape)


def _starts_with_number(op: RanOp) -> bool:
    """Whether the first operand is a constant of one number and as many axes: the output has its layout, plain."""
    first, rank = op.reads[0], len(op.writes[0].shape)
    return op.type == "BinaryOp" and first.maker is None and len(first.shape) == rank > 0 and prod(first.shape) == 1


def _formats(file: MnnFile) -> dict[int, bool]:
    """Whether each tensor of the file has its channels packed by four."""
    packed: dict[int, bool] = {}
    for op in file.ops:
        found = _is_packed(op, packed)
        packed.update(dict.fromkeys(op.outputs, found))
    return packed


def _is_packed(op: MnnOp, packed: dict[int, bool]) -> bool:
    if op.type == "ConvertTensor":
        return bool(op.attributes.get("dest") == _PACKED_FORMAT)
    if op.type == "Input":
        return bool(op.attributes.get("dformat") == _PACKED_FORMAT)
    return op.type in _PACKED or any(packed.get(index, False) for index in op.inputs[:1])
