"""Reads choices among tensors: a sum whose weights are the softmax of parameters is a choice among its summands.

Such are the edges of a node in PC-DARTS (``sum(b[i] * edge_i(x_i))``), the heads of DenseNAS, and the depth of TF-NAS
(``w[0] * y + w[1] * z`` over the outputs of a stage's blocks). A summand may hold choices itself, which then matter
only where it is taken. The node of the choice names the parameters' elements that its softmax is of.

Limitation: every number of the softmax has to weight a summand, and all summands have the same shape.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from latency_nas.errors import GraphError
from latency_nas.graph.op_graph import CHOICE
from latency_nas.graph.torch.gate_trace import Computed, Element, Gate, GateTrace, Label
from latency_nas.graph.torch.ops import Attrs

__all__ = ["WeightedSums"]

_Row = tuple[Element, ...]


class _Graph(Protocol):
    """The methods of the recorder that are needed here."""

    def find(self, tensor: Tensor) -> int: ...

    def add(self, tensor: Tensor) -> int: ...

    def append(self, op: str, attrs: Attrs, inputs: tuple[int, ...], outputs: tuple[int, ...]) -> None: ...


@dataclass(frozen=True, slots=True)
class _Sum:
    """A tensor is a sum that is not complete yet: ``rest + sum(gate[i] * parts[i])``.

    Args:
        row: Elements that the softmax is of.
        parts: Summand of each gate that was met so far.
        rest: What is added without a weight.
    """

    row: _Row
    parts: Mapping[int, Tensor]
    rest: Tensor | None = None


class WeightedSums:
    """Finds the sums that are choices.

    Args:
        graph: Recorder of the graph.
        gates: Trace of the architecture parameters.
    """

    def __init__(self, graph: _Graph, gates: GateTrace) -> None:
        self.graph, self.gates = graph, gates
        self._sums: dict[int, _Sum] = {}  # id of a tensor -> what it is
        # id of a stack -> its dimension, the tensors in it, and the sums that they are
        self._stacks: dict[int, tuple[int, list[Tensor], list[_Sum | None]]] = {}
        self._explained: set[_Row] = set()
        self._used: dict[_Row | str, None] = {}  # rows of gates, or parameters, by which something was multiplied
        self._alive: list[Tensor] = []

    def total(self, op: str, args: Any, tensors: Sequence[Tensor]) -> Tensor | None:
        """The tensor that equals the result of an op, if this adds the parts of a weighted sum; None if not."""
        if op == "add" and len(tensors) == 2:
            return self._added(*tensors)
        return self._summed(tensors[0], (*args, None)[1]) if op == "sum" else None

    def weighted(self, result: Tensor, tensor: Tensor, weight: Tensor, *, of_candidate: bool) -> Label | None:
        """Note that a tensor was multiplied by a single number.

        Args:
            result: The product.
            tensor: What was multiplied.
            weight: The number.
            of_candidate: Whether the tensor is what a candidate of a choice gave: then the number weights it.

        Returns:
            What the number is; None if no parameter decides it.
        """
        label, *_ = self.gates.labels(weight) or (None,)
        if not of_candidate and tensor.numel() > 1:
            self._use([label])
        if isinstance(label, Gate):
            self._keep(result, _Sum(label.row, {label.index: tensor}))
        else:
            self.same(result, tensor)
        return label

    def forget(self, tensor: Tensor) -> None:
        """Note that an op has written into a tensor."""
        self._sums.pop(id(tensor), None)

    def same(self, result: Tensor, tensor: Tensor) -> None:
        """Note that a result equals a tensor."""
        if id(tensor) in self._sums:
            self._keep(result, self._sums[id(tensor)])

    def mixed(self, tensors: Iterable[Tensor]) -> None:
        """Note that tensors are the weighted outputs of one choice's candidates."""
        self._explained.update(self._sums[id(tensor)].row for tensor in tensors if id(tensor) in self._sums)

    def recorded(self, op: str, args: Any, tensors: Sequence[Tensor], result: Any) -> None:
        """Note what an op of the graph made of its arguments."""
        if op == "stack":
            self._stacks[id(result)] = (
                (*args, 0)[1] % result.dim(),
                list(args[0]),
                [self._sums.get(id(tensor)) for tensor in tensors],
            )
            self._alive.append(result)
        labels = {
            index: found
            for index, tensor in enumerate(tensors)
            if not self.gates.is_leaf(tensor) and (found := self.gates.labels(tensor))
        }
        if any(tensor.numel() > 1 for index, tensor in enumerate(tensors) if index not in labels):
            for found in labels.values():
                self._use(found)
        if op == "mul" and len(tensors) == 2 and len(labels) == 1:
            ((index, found),) = labels.items()
            self._weight_stack(result, tensors[1 - index], tensors[index], found)

    def _weight_stack(self, result: Tensor, stack: Tensor, weights: Tensor, labels: Sequence[Label | None]) -> None:
        """Note that each tensor of a stack was multiplied by a number of its own."""
        dim, tensors, _ = self._stacks.get(id(stack), (0, [], []))
        sizes = (*(1,) * (stack.dim() - weights.dim()), *weights.shape)
        if result.shape == stack.shape and weights.numel() == len(tensors) == sizes[dim]:
            sums = [
                _Sum(label.row, {label.index: tensor}) if isinstance(label, Gate) else None
                for tensor, label in zip(tensors, labels, strict=True)
            ]
            self._stacks[id(result)] = dim, tensors, sums
            self._alive.append(result)

    def _added(self, one: Tensor, other: Tensor) -> Tensor | None:
        left, right = self._sums.get(id(one)), self._sums.get(id(other))
        if (left is None and right is None) or one.shape != other.shape:
            return None
        if left is not None and right is not None:
            joined = self._joined(left, right)
        elif left is not None:
            joined = replace(left, rest=self._plus(left.rest, other))
        elif right is not None:
            joined = replace(right, rest=self._plus(right.rest, one))
        if joined is None or len(joined.parts) == len(joined.row):
            return None if joined is None else self._complete(joined)
        result = self._plus(one, other)  # which nothing reads once the sum is complete
        self._keep(result, joined)
        return result

    def _summed(self, stack: Tensor, dims: Any) -> Tensor | None:
        dim, _, sums = self._stacks.get(id(stack), (0, [], []))
        given = [dims] if isinstance(dims, int) else list(dims or ())
        if not sums or [item % stack.dim() for item in given] != [dim]:
            return None
        total = sums[0]
        for item in sums[1:]:
            total = None if total is None or item is None else self._joined(total, item)
        return self._complete(total) if total is not None and len(total.parts) == len(total.row) else None

    def check(self) -> None:
        """Check that every parameter whose weights multiplied something belongs to a choice.

        Raises:
            GraphError: if not; the message names the parameters.
        """
        left = [item for item in self._used if item not in self._explained]
        names = dict.fromkeys(item if isinstance(item, str) else item[0].parameter for item in left)
        listed = ", ".join(f"`{name}`" for name in names)
        if not listed:
            return
        raise GraphError(
            f"Expected parameters whose weights multiply tensors to be those of a choice: a softmax whose numbers "
            f"weight the summands of one sum, all of the same shape. But those of {listed} weight something else: name "
            f"this choice by groups_of or options_of with a function `gates` that reads the parameter."
        )

    def _joined(self, left: _Sum, right: _Sum) -> _Sum | None:
        if left.row != right.row or not left.parts.keys().isdisjoint(right.parts):
            return None
        rest = left.rest if right.rest is None else self._plus(left.rest, right.rest)
        return _Sum(left.row, {**left.parts, **right.parts}, rest)

    def _complete(self, found: _Sum) -> Tensor:
        """Add the choice to the graph; the tensor that stands for the sum."""
        self._explained.add(found.row)
        inputs = tuple(self.graph.find(found.parts[index]) for index in range(len(found.row)))
        output = found.parts[0]
        if len(set(inputs)) > 1:
            output = self._blank(output)
            attrs: Attrs = {
                "name": _name(found.row),
                "parameters": "\n".join(element.parameter for element in found.row),
                "elements": tuple(element.index for element in found.row),
            }
            self.graph.append(CHOICE, attrs, inputs, (self.graph.add(output),))
        return self._plus(found.rest, output)

    def _plus(self, one: Tensor | None, other: Tensor) -> Tensor:
        """The sum of two tensors as an addition in the graph, or the only one."""
        if one is None:
            return other
        result = self._blank(one)
        self.graph.append("add", {}, (self.graph.find(one), self.graph.find(other)), (self.graph.add(result),))
        return result

    def _blank(self, like: Tensor) -> Tensor:
        result = torch.empty_like(like)
        self._alive.append(result)
        return result

    def _keep(self, tensor: Tensor, found: _Sum) -> None:
        self._sums[id(tensor)] = found
        self._alive.append(tensor)

    def _use(self, labels: Iterable[Label | None]) -> None:
        for label in labels:
            if isinstance(label, Gate):
                self._used[label.row] = None
            elif isinstance(label, Computed):
                self._used[label.parameter] = None


def _name(row: _Row) -> str:
    """The name of the choice whose gates are the softmax of these elements."""
    parameters = list(dict.fromkeys(element.parameter for element in row))
    if len(parameters) > 1:
        return ", ".join(f"{element.parameter}[{element.index}]" for element in row)
    begin = row[0].index
    if [element.index for element in row] == list(range(begin, begin + len(row))):
        return f"{parameters[0]}[{begin}:{begin + len(row)}]"
    return f"{parameters[0]}[{', '.join(str(element.index) for element in row)}]"
