"""`Node` and `Value`: the operators of an `OpGraph`, and the tensors between them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod

from latency_nas.graph.parameters import ParameterPart
from latency_nas.kernel import AttrValue, Shape

__all__ = ["BRANCH", "CHOICE", "Node", "Value"]

CHOICE = "choice"  # op of a node whose output is one of its inputs: a choice of a supernet
# op of a node that reads a condition, which only an input's values decide, and two values: its output is the first of
# them where the condition is false, otherwise the second; see `latency_nas.graph.branches`
BRANCH = "branch"


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """A tensor of the graph.

    Args:
        shape: Sizes.
        dtype: Type of the elements, in the spelling of `Kernel`.
        constant: Whether the tensor is known before the model runs: a weight, or a tensor computed only from weights.
        parameter: Name of the parameter or buffer, or ``""``.
        parts: Parts of parameters that a constant holds or was computed from; empty for buffers and numbers. None where
            the graph does not record parameters.
        number: The number that all elements of a constant are, where the source states it.
        literal: Whether `number` is of the code, so that training cannot change it: no parameter and no buffer.
    """

    shape: Shape
    dtype: str = "fp32"
    constant: bool = False
    parameter: str = ""
    parts: tuple[ParameterPart, ...] | None = None
    number: float | None = None
    literal: bool = False

    @property
    def is_scalar(self) -> bool:
        """Whether it is a number: a constant of one element."""
        return self.constant and prod(self.shape) == 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One operator.

    Args:
        name: Name that is unique in the graph: the calling module, a slash, and the op.
        op: Name of the op in the vocabulary of `latency_nas.kernel.OPS`. An op that the reader does not know has its
            framework's name.
        inputs: Indices into `OpGraph.values`, with those of weights.
        outputs: Indices into `OpGraph.values`.
        attrs: Attributes of the op, as in `Kernel`.
        modules: Names of the modules that were running, outermost first.
        spelled: Nodes by which the source spells the op, in order; empty where it has the op itself. See
            `latency_nas.graph.normal_form`.
    """

    name: str
    op: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    attrs: Mapping[str, AttrValue]
    modules: tuple[str, ...] = ()
    spelled: tuple[Node, ...] = ()

    def reading(self, others: Mapping[int, int]) -> Node:
        """The node with other values in place of some of its inputs."""
        if others.keys().isdisjoint(self.inputs) and not self.spelled:
            return self
        inputs = tuple([others.get(index, index) for index in self.inputs])
        return replace(self, inputs=inputs, spelled=tuple([part.reading(others) for part in self.spelled]))
