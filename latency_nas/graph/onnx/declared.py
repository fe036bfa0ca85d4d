"""Holds the shapes that an ONNX file declares against those that follow from its inputs."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from latency_nas.graph.onnx.model import STANDARD, OnnxModel, title
from latency_nas.kernel import Shape

if TYPE_CHECKING:
    import onnx

__all__ = ["drop_stale_shapes"]

logger = logging.getLogger(__name__)

_POOLS = frozenset({"MaxPool", "AveragePool"})
_UNARY = frozenset({"Relu", "Sigmoid", "Tanh", "HardSwish", "HardSigmoid", "Clip", "BatchNormalization", "Identity"})


def drop_stale_shapes(model: OnnxModel) -> None:
    """Forget all declared shapes of a model if one contradicts the input of its node: tools edit inputs and leave them.

    Convolutions, poolings and activations are checked. They decide the sizes of nearly every network, and are checked
    in microseconds; a full inference takes several times as long as all other reading.
    """
    for node in model.nodes:
        if node.domain not in STANDARD or not node.input or node.output[0] not in model.tensors:
            continue
        source, target = model.tensors.get(node.input[0]), model.tensors[node.output[0]][0]
        if source is None or (source[0] == target and node.op_type in _UNARY):
            continue
        follows = _follows(model, node, source[0])
        if follows is not None and follows != target:
            logger.warning(
                "%s declares the shape %s for %s, but %s follows from its inputs: declared shapes are not used.",
                model.name, list(target), title(node), list(follows),
            )  # fmt: skip
            kept = {*model.inputs, *model.weights}
            model.tensors = {name: tensor for name, tensor in model.tensors.items() if name in kept}
            return


def _follows(model: OnnxModel, node: onnx.NodeProto, source: Shape) -> Shape | None:
    """The shape of a node's output; None where it is not computed here."""
    op = node.op_type
    if op in _UNARY:
        return source
    if (op != "Conv" or len(node.input) < 2) and op not in _POOLS:
        return None
    attrs = model.attributes(node)
    weight = model.tensors.get(node.input[1], ((), 0))[0] if op == "Conv" else ()
    kernel = weight[2:] if op == "Conv" else tuple(attrs.get("kernel_shape", ()))
    rank = len(source) - 2
    if attrs.get("auto_pad", "NOTSET") != "NOTSET" or attrs.get("ceil_mode") or len(kernel) != rank or rank < 1:
        return None
    ones, zeros = (1,) * rank, (0,) * 2 * rank
    stride, dilation, pads = attrs.get("strides", ones), attrs.get("dilations", ones), attrs.get("pads", zeros)
    sizes = [
        (size + pads[axis] + pads[axis + rank] - dilation[axis] * (kernel[axis] - 1) - 1) // stride[axis] + 1
        for axis, size in enumerate(source[2:])
    ]
    return (source[0], weight[0] if op == "Conv" else source[1], *sizes)
