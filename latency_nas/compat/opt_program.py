"""The ops that PaddleSlim finds in a program: what Paddle-Lite's optimiser, as PaddleSlim runs it, leaves of it.

PaddleSlim's is the optimiser of Paddle-Lite 2.11.2 for ARM. Unlike later ones it keeps what is computed from weights
alone, and a fully connected layer as a flatten, a product and a sum: that is what its tables hold.

Limitations:
1. Programs in fp32. Those of fp16 or int8 get `calib` ops at places that are not known here.
2. Sparse weights (PaddleSlim asks for `sparse_conv2d` where 40 % of a 1 x 1 filter are zero) are not looked for.
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
        """The names of all that it reads."""
        return [name for names in self.inputs.values() for name in names]

    def output(self) -> str:
        """What it is for; a `reshape2` and its kind write a second output that nobody reads."""
        slot = next((slot for slot in ("Out", "Output", "Y") if self.outputs.get(slot)), min(self.outputs))
        return self.outputs[slot][0]


class _Fuser:
    """Merges each op with the one before it, where a rule says so."""

    def __init__(self, program: PaddleProgram, shapes: Mapping[str, Shape]) -> None:
        self._weights = {name for name, variable in program.variables.items() if variable.persistable}
        self._shapes = shapes
        self._ops = [_Op(type=op.type, inputs=op.inputs, outputs=op.outputs, attrs=op.attrs) for op in program.ops]
        self._n_readers = Counter(name for op in self._ops for name in op.read())
        self._maker = {op.output(): index for index, op in enumerate(self._ops) if op.outputs}
        self._gone: set[int] = set()

    def ops(self) -> list[_Op]:
        for index in range(len(self._ops)):
            self._merge(index)
        return [op for index, op in enumerate(self._ops) if index not in self._gone]

    def _merge(self, index: int) -> None:
        """Merge op `index` into one that made an input of it."""
        second = self._ops[index]
        for name in second.read():
            position = self._maker.get(name)
            if position is None or self._n_readers[name] > 1:
                continue
            first = self._ops[position]
            merged = self._merged(first, second, name) or self._shuffled(first, second)
            if merged is not None:
                self._gone.add(position)
                self._ops[index] = merged
                return

    def _merged(self, first: _Op, second: _Op, between: str) -> _Op | None:
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
        """Whether it adds a vector of weights along the channels."""
        if op.type != "elementwise_add" or list(op.inputs["X"]) != [between] or op.attrs.get("axis") != 1:
            return False
        (other,) = op.inputs["Y"]
        return other in self._weights and len(self._shapes[other]) == 1

    def _is_cheaper(self, first: _Op, second: _Op) -> bool:
        """Whether a convolution and a 1 x 1 one after it, multiplied into one, are less work than both."""
        if first.type != "conv2d" or second.type != "conv2d" or first.attrs["groups"] * second.attrs["groups"] != 1:
            return False
        before, after = (self._shapes[op.inputs["Filter"][0]] for op in (first, second))
        between = self._shapes[first.output()][1]
        return tuple(after[2:]) == (1, 1) and before[1] * (after[0] - between) <= between * after[0]

    def _shuffled(self, transpose: _Op, last: _Op) -> _Op | None:
        """Reshape, transpose, reshape that shuffle channels."""
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
    """As Paddle's own Python shows them."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in attrs.items()}


def optimised_ops(program: PaddleProgram, shapes: Mapping[str, Shape] | None = None) -> tuple[OptimisedOp, ...]:
    """The ops whose keys PaddleSlim asks its table for, in the order of the program.

    Args:
        program: an inference program.
        shapes: of its variables; by default those that it states, whose open sizes are -1.
    """
    stated = {name: variable.shape for name, variable in program.variables.items()}
    held = {**stated, **(shapes or {})}

    def shapes_of(slots: Slots) -> tuple[Shape, ...]:
        return tuple(held[name] for slot in sorted(slots) for name in slots[slot])

    return tuple(
        OptimisedOp(type=op.type, inputs=shapes_of(op.inputs), outputs=shapes_of(op.outputs), attrs=_lists(op.attrs))
        for op in _Fuser(program, held).ops()
        if op.type not in ("feed", "fetch")
    )
