"""In which layout MNN stores each value: its channels packed by four, or plain.

References:
    MNN 3.6, ``tools/converter/source/optimizer/postconvert/AddTensorFormatConverter.cpp``.
"""

from __future__ import annotations

from latency_nas.engine.mnn.steps import BINARY, Program, Step

__all__ = ["KEEPS_LAYOUT", "MAJORITY", "PACKED", "UNARY", "layouts_of"]

# ops whose first input and output are packed
PACKED = frozenset({
    "conv2d", "conv3d", "conv_transpose2d", "conv_transpose3d", "pool1d", "pool2d", "pool3d", "batch_norm", "resize",
    "prelu", "grid_sample",
})  # fmt: skip
# elementwise ops of one operand, which MNN runs as ops of one type
UNARY = frozenset({
    "hard_swish", "sigmoid", "swish", "tanh", "gelu", "mish", "abs", "neg", "exp", "log", "sqrt", "rsqrt", "square",
    "reciprocal", "erf", "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "asinh", "acosh", "atanh",
    "expm1", "log1p", "floor", "ceil", "round", "sign",
})  # fmt: skip
# ops that have the layout of their first input
KEEPS_LAYOUT = UNARY | {
    "relu", "relu6", "clip", "leaky_relu", "elu", "selu", "softplus", "cast", "reshape", "transpose", "slice", "expand",
    "tile", "pad", "flip", "roll", "chunk",
}  # fmt: skip
# ops whose inputs and outputs all have the layout of most of the inputs, plain if there are equally many
MAJORITY = frozenset({"concat", "split", "stack", "unstack"})


def layouts_of(program: Program) -> dict[int, bool]:
    """Whether each value is packed. A constant operand of an elementwise op counts as stored like the other."""
    packed = dict.fromkeys(program.graph.inputs, False)
    for step in program.steps:
        packed.update(dict.fromkeys(step.outputs, _is_packed(program, step, packed)))
    return packed


def _is_packed(program: Program, step: Step, packed: dict[int, bool]) -> bool:
    if step.op in PACKED:
        return True
    if step.op in KEEPS_LAYOUT:
        return packed.get(step.inputs[0], False)
    if step.op in BINARY:
        known = [packed[index] for index in step.inputs if index in packed]
        return bool(known) and all(known)
    if step.op in MAJORITY:
        n_operands = len(step.inputs) + (step.op == "split" and len(step.inputs) == 1)  # its sizes are an operand, too
        return 2 * sum(packed.get(index, False) for index in step.inputs) > n_operands
    return False
