"""The ops of a program after Paddle-Lite's optimiser. PaddleSlim looks these ops up in its tables.

PaddleSlim runs the optimiser of Paddle-Lite 2.11.2 for ARM. Unlike later versions, it keeps ops that depend on weights
only, and it keeps a fully connected layer as a flatten, a product and a sum. PaddleSlim's tables have rows for these.

Limitations:
1. Programs in fp32 only. In fp16 or int8, the optimiser inserts `calib` ops at places that are not known here.
2. Sparse weights are not detected. (PaddleSlim looks up `sparse_conv2d` where 40 % of a 1 x 1 filter are zero.)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from latency_nas.graph.paddle.program import PaddleProgram
from latency_nas.kernel import Shape
from latency_nas.table.formats.paddleslim.templates import OptimisedOp

__all__ = ["optimised_ops"]

_CONVS = ("conv2d", "depthwise_conv2d", "conv2d_transpose")
_CONV_ACTIVATIONS = ("relu", "relu6", "leaky_relu")
_SUMS = ("elementwise_add", "elementwise_sub", "elementwise_mul")

Slots = Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Op:
    type: str
    inputs: Slots
    outputs: Slots
    attrs: Mapping[str, Any]

    def read(self) -> list[str]:
        """Names of all variables that the op reads."""
        return [name for names in self.inputs.values() for name in names]

    def output(self) -> str:
        """Name of the main output. A `reshape2` and similar ops write a second output that no op reads."""
        slot = next((slot for slot in ("Out", "Output", "Y") if self.outputs.get(slot)), min(self.outputs))
        return self.outputs[slot][0]


class _Fuser:
    """Merges each op with the one before it, where a rule allows it."""

    def __init__(self, program: PaddleProgram, shapes: Mapping[str, Shape]) -> None:
        self._weights = {name for name, variable in program.variables.items() if variable.persistable}
        self._shapes = shapes
        self._ops = [_Op(type=op.type, inputs=op.inputs, outputs=op.outputs, attrs=op.attrs) for op in program.ops]
        self._n_readers = Counter(name for op in self._ops for name in op.read())
        self._maker = {op.output(): index for index, op in enumerate(self._ops) if op.outputs}
        self._gone: set[int] = set()

    def ops(self) -> list[_Op]:
        """The remaining ops, in the order of the program."""
        for index in range(len(self._ops)):
            self._merge(index)
        return [op for index, op in enumerate(self._ops) if index not in self._gone]

    def _merge(self, index: int) -> None:
        """Merge op `index` into an op that computed one of its inputs."""
        second = self._ops[index]
        for name in second.read():
            position = self._maker.get(name)
            if position is None or self._n_readers[name] > 1:
                continue  # another op reads this value as well, so that it must be kept
            first = self._ops[position]
            merged = self._merged(first, second, name) or self._shuffled(first, second)
            if merged is not None:
                self._gone.add(position)
                self._ops[index] = merged
                return

    def _merged(self, first: _Op, second: _Op, between: str) -> _Op | None:
        """Two ops as one, where `second` reads `between` from `first`; None where no rule merges them."""
        outputs = {"Out": [second.output()]} if second.outputs else {}
        if second.type == "scale" and _is_identity(second):
            return replace(first, outputs=outputs)
        if first.type in _CONVS and "activation" not in first.attrs:
            if second.type == "batch_norm" or self._is_bias(second, between) or self._is_cheaper(first, second):
                return replace(first, outputs=outputs)
            if second.type in _CONV_ACTIVATIONS:
                return replace(first, outputs=outputs, attrs={**first.attrs, "activation": second.type})
        if first.type in _SUMS and second.type == "relu":
            return replace(first, type=f"fusion_{first.type}_activation", outputs=outputs)
        return None

    def _is_bias(self, op: _Op, between: str) -> bool:
        """Whether the op adds a vector of weights along the channels."""
        if op.type != "elementwise_add" or list(op.inputs["X"]) != [between] or op.attrs.get("axis") != 1:
            return False
        (other,) = op.inputs["Y"]
        return other in self._weights and len(self._shapes[other]) == 1

    def _is_cheaper(self, first: _Op, second: _Op) -> bool:
        """Whether a convolution and a 1 x 1 convolution after it need less work when multiplied into one."""
        if first.type != "conv2d" or second.type != "conv2d" or first.attrs["groups"] * second.attrs["groups"] != 1:
            return False
        before, after = (self._shapes[op.inputs["Filter"][0]] for op in (first, second))
        between = self._shapes[first.output()][1]
        return tuple(after[2:]) == (1, 1) and before[1] * (after[0] - between) <= between * after[0]

    def _shuffled(self, transpose: _Op, last: _Op) -> _Op | None:
        """A reshape, a transpose and a reshape as one `shuffle_channel`; None where they do something else."""
        if (transpose.type, last.type) != ("transpose2", "reshape2"):
            return None
        (source,) = transpose.inputs["X"]
        start = self._maker.get(source)
        if start is None or self._ops[start].type != "reshape2" or self._n_readers[source] > 1:
            return None
        inputs = self._ops[start].inputs["X"]
        shapes = [self._shapes[name] for name in (*inputs, source, last.output())]
        if list(transpose.attrs["axis"]) != [0, 2, 1, 3, 4] or shapes[0] != shapes[2]:
            return None
        self._gone.add(start)
        outputs = {"Out": [last.output()]}
        return _Op(type="shuffle_channel", inputs={"X": inputs}, outputs=outputs, attrs={"group": shapes[1][1]})


def _is_identity(scale: _Op) -> bool:
    return scale.attrs.get("scale") == 1 and scale.attrs.get("bias", 0) == 0


def _lists(attrs: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes in the types that Paddle's own Python gives them."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in attrs.items()}


def optimised_ops(program: PaddleProgram, shapes: Mapping[str, Shape] | None = None) -> tuple[OptimisedOp, ...]:
    """The ops whose keys PaddleSlim looks up in its table, in the order of the program.

    Args:
        program: Inference program in fp32.
        shapes: Shapes of its variables. By default those that the program states, where an open size is -1.
    """
    stated = {name: variable.shape for name, variable in program.variables.items()}
    known = {**stated, **(shapes or {})}

    def shapes_of(slots: Slots) -> tuple[Shape, ...]:
        return tuple(known[name] for slot in sorted(slots) for name in slots[slot])

    return tuple(
        OptimisedOp(type=op.type, inputs=shapes_of(op.inputs), outputs=shapes_of(op.outputs), attrs=_lists(op.attrs))
        for op in _Fuser(program, known).ops()
        if op.type not in ("feed", "fetch")
    )
