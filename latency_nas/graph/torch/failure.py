"""Says why a forward cannot be read: by the values that it uses, by its input, or by an op that nobody can follow."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    UnsupportedOperatorException,
)

from latency_nas.errors import GraphError, InputMismatchError

__all__ = ["failure"]

# part of a message of torch -> what the forward does, and the way out
_MESSAGES = {
    "_local_scalar_dense": ("reads a tensor's value", "take `.item()`, `bool(tensor)` and the like out of it"),
    ".numpy() is not supported": ("makes a NumPy array of a tensor", "write it with torch's own ops"),
    "HigherOrderOperator": (
        "decides by a value what runs (`torch.cond` or another op with branches or loops as arguments)",
        "read a module of each branch",
    ),
}
_SIZES = (
    "sizes depend on the values of its tensors (as where tokens are routed to experts, or boxes are selected)",
    "read a module of the parts whose sizes are fixed, such as one expert with the tokens that it usually gets",
)


def failure(error: Exception, layer: str, inputs: Sequence[Tensor]) -> GraphError:
    """The error to raise for an error of a forward.

    Args:
        error: Error that the forward raised on fakes.
        layer: Layer that raised it, in words.
        inputs: Inputs of the forward.
    """
    if isinstance(error, GraphError):
        return error
    text = str(error).strip()
    lines = [line for line in text.splitlines() if line.strip()]
    found = next((message for part, message in _MESSAGES.items() if part in text), None)
    if isinstance(error, DynamicOutputShapeException) or "DynamicOutputShape" in text:
        does, way_out = _SIZES
        return GraphError(
            f"Expected a forward that does not depend on values, but {layer} has an output whose {does}: "
            f"{lines[-1]}; {way_out}."
        )
    if found is not None or isinstance(error, DataDependentOutputException):
        does, way_out = found or _MESSAGES["_local_scalar_dense"]
        return GraphError(f"Expected a forward that does not depend on values, but {layer} {does}: {way_out}.")
    if isinstance(error, UnsupportedOperatorException):
        return GraphError(
            f"Expected ops whose output has a shape that torch can tell, but {layer} calls {error.func}: register a "
            f"fake implementation of it (torch.library.register_fake)."
        )
    shapes = ", ".join(str(tuple(tensor.shape)) for tensor in inputs)
    reason = lines[0] if lines else type(error).__name__
    return InputMismatchError(
        f"Expected an input that fits the model, but with the input {shapes} {layer} fails: {reason}"
    )
