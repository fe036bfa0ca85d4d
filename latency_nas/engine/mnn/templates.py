"""Small groups of ops that MNN's converter replaces by one, before it folds ops together.

References:
    MNN 3.6, ``tools/converter/source/optimizer/merge/FuseTemplateOp.cpp``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from latency_nas.engine.mnn.steps import Program, Step

__all__ = ["join_templates"]


def join_templates(program: Program) -> None:
    """Join x * x and x ** 2, 1 / sqrt(x), and paddings with convolutions; drop additions of 0 and products with 1."""
    makers = {index: step for step in program.steps for index in step.outputs}
    users = program.users()
    renamed: dict[int, int] = {}
    for step in program.steps:
        step.inputs = tuple([renamed.get(index, index) for index in step.inputs])
        template = _TEMPLATES.get(step.op)
        if template is None:
            continue
        before = makers.get(step.inputs[-1])
        alone = users[step.inputs[-1]] == step.inputs.count(step.inputs[-1])
        template(program, step, before if alone else None)
        if not step.op and step.outputs[0] in program.graph.outputs:
            step.op = "reshape"
        if not step.op:
            renamed[step.outputs[0]] = step.inputs[0]
    program.steps = [step for step in program.steps if step.op]


def _number(program: Program, step: Step) -> float | None:
    """The second operand, if it is a number without axes."""
    if len(step.inputs) != 2:
        return None
    value = program.values[step.inputs[1]]
    return value.number if value.shape == () else None


def _neutral(program: Program, step: Step, number: float) -> None:
    if _number(program, step) == number:
        step.op, step.inputs, step.attrs = "", step.inputs[:1], {}


def _add(program: Program, step: Step, _: Step | None) -> None:
    _neutral(program, step, 0.0)


def _mul(program: Program, step: Step, before: Step | None) -> None:
    if len(step.inputs) == 2 and step.inputs[0] == step.inputs[1]:
        if before is not None and before.op == "sub" and len(before.inputs) == 2:
            step.op, step.inputs, before.op = "sub", before.inputs, ""  # one op subtracts and squares
            return
        step.op, step.inputs, step.attrs = "square", step.inputs[:1], {}
    else:
        _neutral(program, step, 1.0)


def _conv(program: Program, step: Step, before: Step | None) -> None:
    """Let a convolution pad itself by zeros, in height and width."""
    pads = before.attrs.get("pads") if before and before.op == "pad" and before.attrs["mode"] == "constant" else None
    own = step.attrs["pad"]
    if before is None or not isinstance(pads, tuple) or len(pads) != 8 or not isinstance(own, tuple):
        return
    if min(pads) >= 0 and not any((*pads[:2], *pads[4:6])):
        added = zip(own, (*pads[2:4], *pads[6:]), strict=True)
        step.attrs = {**step.attrs, "pad": tuple(mine + other for mine, other in added)}
        step.inputs, before.op = before.inputs[:1], ""


def _pow(program: Program, step: Step, _: Step | None) -> None:
    if _number(program, step) == 2.0:
        step.op, step.inputs, step.attrs = "square", step.inputs[:1], {}


def _reciprocal(program: Program, step: Step, before: Step | None) -> None:
    del program
    if before is not None and before.op == "sqrt":
        step.op, step.inputs, before.op = "rsqrt", before.inputs, ""


def _div(program: Program, step: Step, before: Step | None) -> None:
    del program
    if before is not None and before.op == "sqrt" and len(step.inputs) == 2:
        step.op, before.op = "mul", "rsqrt"


# op -> function of (program, step, the step whose output, its last operand, only it reads) that changes both
_TEMPLATES: Mapping[str, Callable[[Program, Step, Step | None], None]] = {
    "add": _add,
    "sub": _add,
    "mul": _mul,
    "pow": _pow,
    "reciprocal": _reciprocal,
    "div": _div,
    "conv2d": _conv,
}
