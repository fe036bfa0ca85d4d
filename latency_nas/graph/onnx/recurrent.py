"""Reads ONNX's recurrent layers: one op over the whole sequence, in one or both directions."""

from __future__ import annotations

from dataclasses import dataclass

from latency_nas.graph.onnx.call import Call, Step
from latency_nas.kernel import AttrValue, Shape

__all__ = ["RECURRENT", "Recurrent", "read_recurrent"]

# type of a node -> op
RECURRENT = {"LSTM": "lstm", "GRU": "gru", "RNN": "rnn"}


@dataclass(frozen=True, slots=True)
class Recurrent:
    """A recurrent layer.

    Args:
        before: Steps that make the layer's input.
        step: Op of the layer.
        shape: Shape of its output, ``(steps, batch, directions * hidden)``.
        outputs: Steps that make each output of the ONNX node of the layer's output.
    """

    before: tuple[Step, ...]
    step: Step
    shape: Shape
    outputs: tuple[tuple[Step, ...], ...]


def read_recurrent(call: Call) -> Recurrent:
    """The layer that a node is. If its sequences may differ in length, all are counted as long as the longest can be.

    ONNX keeps directions on an axis of their own, and gives the last states beside the sequence. They are parts of the
    layer's output, which costs what an engine pays for them: a copy. Where batches come first, the input and the
    sequence are transposed.
    """
    batch_first = bool(call.attrs.get("layout"))
    steps, batch, features = call.shape() if not batch_first else (call.shape()[1], call.shape()[0], call.shape()[2])
    directions, _, hidden = call.shape(2)
    both: dict[str, AttrValue] = {"directions": directions} if directions > 1 else {}
    attrs: dict[str, AttrValue] = {"hidden": hidden, **both}
    split = (steps, batch, directions, hidden)
    before: tuple[Step, ...] = ()
    sequence: tuple[Step, ...] = (Step("reshape", {}),)
    if batch_first:
        before = (Step("transpose", {"perm": (1, 0, 2)}, None, (steps, batch, features)),)
        sequence = (Step("reshape", {}, None, split), Step("transpose", {"perm": (1, 0, 2, 3)}))
    elif directions > 1:
        sequence = (Step("reshape", {}, None, split), Step("transpose", {"perm": (0, 2, 1, 3)}))
    end = Step("slice", {"axes": (0,), "starts": (steps - 1,)}, None, (1, batch, directions * hidden))
    state = (end, Step("reshape", {}))
    return Recurrent(
        before, Step(RECURRENT[call.op], attrs), (steps, batch, directions * hidden), (sequence, state, state)
    )
