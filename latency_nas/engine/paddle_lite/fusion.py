"""The kernels that Paddle-Lite runs for an operator graph, on ARM.

This is checked against ``opt``: for the networks of the tests, the kernels are the operators of its optimised program.
Chains that are one operator in Paddle are joined first (`latency_nas.engine.paddle_lite.spelling`). A node is then
translated to Paddle's op (`_Program.as_paddle`), and folded into the node that computes its input (`_FOLDS`). A few
longer patterns are found by their shapes.

Two versions of ``opt`` matter. Release 2.13 is ``"Paddle-Lite"``. PaddleSlim's tables were made with a build of 2.11,
``"Paddle-Lite 2.11"``. It leaves a linear layer a product and an addition, and a hard swish an operator of its own.

Limitations:
1. A mean over height and width that keeps both axes counts as Paddle's global pool, since torch writes one as the
   other.
2. Dropout and assignments are not part of an operator graph. Paddle-Lite runs them as copies.
3. Any reshape to one row for each image is folded into the linear layer after it, as opt folds a flatten. But opt keeps
   a squeeze, or a flatten with dropout after it, as an operator that moves nothing.
4. A sum of n tensors counts as n - 1 additions, of which the tables have rows. opt keeps it as one operator.
5. A bias that several convolutions share counts as a part of each. opt keeps its additions.
6. A recurrent layer counts as one kernel a layer. opt keeps the layers that one operator holds together.
7. What follows from shapes is constant, as in a program that was saved with fixed sizes. In one with open sizes, opt
   keeps the operators that compute it, and does not find a shuffle of channels.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from latency_nas.engine.paddle_lite.spelling import join_chains
from latency_nas.errors import GraphError
from latency_nas.graph.op_graph import CHOICE, Node, OpGraph
from latency_nas.kernel import WITH_SIDE_OUTPUTS, AttrValue, Shape, shared_kernel
from latency_nas.kernel.kernel_call import KernelCall

__all__ = ["fuse_lite", "fuse_lite_2_11"]

_BINARY = ("add", "sub", "mul", "div")
_SCALE_ACTS = ("relu", "relu6", "leaky_relu")
_PADDLE_WEIGHT = re.compile(r"\.[wb]_\d+$")  # as Paddle names weights: conv2d_0.w_0, conv2d_0.b_0

_Folds = Mapping[tuple[str, str], Mapping[str, AttrValue]]

# (op, the op that follows it) -> attributes of the merged kernel
_FOLDS_2_11: _Folds = {
    ("conv2d", "batch_norm"): {"bias": 1},
    **{(op, "add"): {"bias": 1} for op in ("conv2d", "conv_transpose2d")},  # see `_Program.is_bias`
    **{("conv2d", act): {"act": act} for act in ("relu", "relu6", "leaky_relu")},
    ("conv2d", "conv2d"): {},
    ("conv_transpose2d", "batch_norm"): {"bias": 1},
    ("conv_transpose2d", "relu"): {"act": "relu"},
    **{(op, "relu"): {"act": "relu"} for op in ("add", "sub", "mul")},
    ("paddle.scale", "paddle.scale"): {},
}
_FOLDS: _Folds = {
    **_FOLDS_2_11,
    ("conv2d", "hard_swish"): {"act": "hard_swish"},  # except into a depthwise one
    ("flatten", "linear"): {},  # see `_Program.is_flatten`
    ("linear", "relu"): {"act": "relu"},
    **{("paddle.scale", act): {"act": act} for act in _SCALE_ACTS},
    ("conv2d", "paddle.scale"): {},  # see `_Program.scales`
}


@dataclass(slots=True)
class _Step:
    """A node as Paddle's op, with the nodes that were folded into it."""

    op: str
    attrs: dict[str, AttrValue]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    names: tuple[str, ...]
    layer: str
    scaled: str = ""  # the last of what was folded into a convolution: "number", or "act" of a scale


class _Program:
    """Folds the nodes of a graph, in order."""

    def __init__(self, graph: OpGraph, folds: _Folds) -> None:
        self.graph = graph
        self.folds = folds
        self.consumers = graph.n_consumers()
        self.readers: dict[int, Node] = {index: node for node in graph.nodes for index in node.inputs}
        self.steps: list[_Step] = []
        self.maker: dict[int, _Step] = {}
        self.done: set[str] = set()
        self.flattened: dict[int, str] = {}  # value -> name of the flatten that made it and was folded into its reader

    def shape(self, index: int) -> Shape:
        return self.graph.values[index].shape

    def constant(self, index: int) -> bool:
        return self.graph.values[index].constant

    def as_paddle(self, node: Node) -> tuple[str, dict[str, AttrValue]]:
        """The op and the attributes that Paddle has for the node."""
        attrs = dict(node.attrs)
        source, target = self.shape(node.inputs[0]) if node.inputs else (), self.shape(node.outputs[0])
        spatial_mean = node.op == "reduce_mean" and len(source) == 4 and attrs["axes"] == (2, 3) and len(target) == 4
        if spatial_mean or (node.op == "pool2d" and attrs.get("global")):
            kind = attrs.get("type", "avg")
            return "pool2d", {
                "type": kind, "kernel": source[2:], "stride": (1, 1), "pad": (0,) * 4, "global": 1
            }  # fmt: skip
        if node.op in _BINARY and attrs.pop("scalar", 0) and not any(map(self.is_weight, node.inputs)):
            return "paddle.scale", {}
        return node.op, attrs

    def is_weight(self, index: int) -> bool:
        """Whether a value is a weight: a product with one of a single element is no scale with a number."""
        value = self.graph.values[index]
        return value.constant and (bool(value.parts) or bool(_PADDLE_WEIGHT.search(value.parameter)))

    def shuffle(self, node: Node) -> list[Node]:
        """The reshape, transpose and reshape from `node` on, if they swap groups with channels; otherwise nothing."""
        nodes = [node]
        for op in ("transpose", "reshape"):
            made = nodes[-1].outputs[0]
            if self.consumers[made] != 1 or not self.reader_is(made, op):
                return []
            nodes.append(self.readers[made])
        source, split, target = (self.shape(index) for index in (node.inputs[0], node.outputs[0], nodes[2].outputs[0]))
        swaps = nodes[1].attrs["perm"] == (0, 2, 1, *range(3, len(split)))
        return nodes if source == target and len(split) == len(source) + 1 == 5 and swaps else []

    def is_flatten(self, node: Node) -> bool:
        """Whether the node flattens the input of a linear layer, its only reader, and opt folds it into that layer."""
        made = node.outputs[0]
        if node.op != "reshape" or ("flatten", "linear") not in self.folds or self.consumers[made] != 1:
            return False
        source, target = self.shape(node.inputs[0]), self.shape(made)
        return len(target) == 2 < len(source) and source[0] == target[0] and self.reader_is(made, "linear")

    def reader_is(self, index: int, op: str) -> bool:
        return index in self.readers and self.readers[index].op == op

    def place(self, node: Node) -> None:
        """Fold the node into the step that computes its input, or add a step for it."""
        if node.op == CHOICE:
            raise GraphError(f"Expected a graph of one architecture, but the choice `{node.attrs['name']}` is open.")
        if node.name in self.done:
            return
        if node.op == "reshape" and (nodes := self.shuffle(node)):
            self.done.update(item.name for item in nodes)
            names = tuple(item.name for item in nodes)
            self.add("shuffle_channel", {"group": self.shape(node.outputs[0])[1]}, nodes[0], nodes[2], names)
            return
        if self.is_flatten(node):
            self.flattened[node.outputs[0]] = node.name
            return
        op, attrs = self.as_paddle(node)
        activations = self.graph.activations(node)
        step = self.maker.get(activations[0]) if activations else None
        if (
            step is not None
            and len(activations) == 1
            and self.consumers[activations[0]] == 1
            and self.fold(step, op, node)
        ):
            step.outputs, step.names = node.outputs, (*step.names, node.name)
            self.maker[node.outputs[0]] = step
            return
        before = [self.flattened[index] for index in activations if index in self.flattened]
        self.add(op, attrs, node, node, (*before, node.name))

    def fold(self, step: _Step, op: str, node: Node) -> bool:
        """Fold the node, which is an `op` of Paddle's, into the step if opt does so; False if not."""
        extra = self.folds.get((step.op, op))
        if (step.op, op) == ("conv2d", "paddle.scale") and extra is not None:
            return self.scales(step)
        if extra is None or ("act" in step.attrs and step.scaled != "number") or not self.may_follow(step, op):
            return False
        if op == "add" and not self.is_bias(step, node):
            return False
        if op == "hard_swish" and step.attrs["group"] == self.shape(step.inputs[0])[1] > 1:
            return False
        if op == "batch_norm" and self.consumers[step.inputs[1]] > 1:  # opt keeps weights that other layers share
            return False
        if op == "conv2d" and not self.multiplies(step, node):
            return False
        step.attrs.update(extra)
        step.scaled = "act" if step.scaled else ""
        return True

    def scales(self, step: _Step) -> bool:
        """Whether opt multiplies the weights of a convolution by a number, after any activation. It does so once."""
        if not step.attrs.get("bias") or step.scaled == "act":
            return False
        step.scaled = "number"
        return True

    def may_follow(self, step: _Step, op: str) -> bool:
        """Whether opt still folds an op: after a number, it folds activations of the scale, and nothing else."""
        return not step.scaled or (step.scaled == "number" and op in _SCALE_ACTS)

    def is_bias(self, step: _Step, node: Node) -> bool:
        """Whether the node adds a number for each channel that the step makes."""
        _, channels, *spatial = self.shape(node.outputs[0])
        weights = [self.shape(index)[-len(spatial) - 1 :] for index in node.inputs if self.constant(index)]
        return not step.attrs.get("bias") and weights == [(channels, *(1 for _ in spatial))]

    def multiplies(self, step: _Step, node: Node) -> bool:
        """Whether opt merges a convolution and the 1 x 1 convolution after it, as their product is less work."""
        c_in, c_mid, c_out = (
            self.shape(step.inputs[0])[1],
            self.shape(node.inputs[0])[1],
            self.shape(node.outputs[0])[1],
        )
        plain = {"kernel": (1, 1), "stride": (1, 1), "pad": (0,) * 4, "group": 1}.items() <= node.attrs.items()
        return plain and step.attrs["group"] == 1 and 0 < c_in * (c_out - c_mid) <= c_mid * c_out

    def add(self, op: str, attrs: dict[str, AttrValue], first: Node, last: Node, names: tuple[str, ...]) -> None:
        layer = first.modules[-1] if first.modules else ""
        step = _Step(op=op, attrs=attrs, inputs=first.inputs, outputs=last.outputs, names=names, layer=layer)
        self.steps.append(step)
        self.maker.update(dict.fromkeys(step.outputs, step))

    def call(self, step: _Step, op: str, inputs: tuple[Shape, ...], attrs: Mapping[str, AttrValue]) -> KernelCall:
        outputs = tuple(self.shape(index) for index in step.outputs[: 1 if op in WITH_SIDE_OUTPUTS else None])
        dtype = self.graph.values[step.outputs[0]].dtype
        kernel = shared_kernel(op, inputs, outputs, tuple(attrs.items()), dtype)
        return KernelCall(kernel=kernel, layer=step.layer, nodes=step.names)

    def operand(self, index: int) -> Shape:
        """The shape of a value. A weight's shape begins at its first size that is not 1, as Paddle writes a bias."""
        shape = self.shape(index)
        while self.constant(index) and len(shape) > 1 and shape[0] == 1:
            shape = shape[1:]
        return shape

    def calls(self, step: _Step) -> tuple[KernelCall, ...]:
        """The kernels of one step. A weight is among the inputs only where it is added or multiplied."""
        whole = step.op in (*_BINARY, "matmul")
        shape = self.operand if step.op in _BINARY else self.shape
        inputs = tuple(shape(index) for index in step.inputs if whole or not self.constant(index))
        if step.op != "linear" or ("linear", "relu") in self.folds:
            return (self.call(step, step.op, inputs, step.attrs),)
        source, target = inputs[0], self.shape(step.outputs[0])
        product = self.call(step, "matmul", (source, (source[-1], target[-1])), {})
        if not step.attrs.get("bias"):
            return (product,)
        return product, self.call(step, "add", (target, target[-1:]), {})


def _fuse(graph: OpGraph, folds: _Folds) -> tuple[KernelCall, ...]:
    program = _Program(graph, folds)
    for node in graph.nodes:
        program.place(node)
    return tuple(call for step in program.steps for call in program.calls(step))


def fuse_lite(graph: OpGraph) -> tuple[KernelCall, ...]:
    """The kernels that Paddle-Lite 2.13 runs for `graph`, in order.

    Args:
        graph: Graph of one architecture, without open choices.

    Raises:
        GraphError: if a choice is open.
    """
    return _fuse(join_chains(graph), _FOLDS)


def fuse_lite_2_11(graph: OpGraph) -> tuple[KernelCall, ...]:
    """The kernels that Paddle-Lite 2.11 runs for `graph`, in order. PaddleSlim's tables were made with it.

    Args:
        graph: Graph of one architecture, without open choices.

    Raises:
        GraphError: if a choice is open.
    """
    return _fuse(join_chains(graph), _FOLDS_2_11)
