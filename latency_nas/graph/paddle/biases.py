"""Merges biases into convolutions and linear layers, since Paddle writes them as separate additions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from latency_nas.graph.op_graph import Node, OpGraph
from latency_nas.kernel import Shape

__all__ = ["with_biases"]

_CHANNEL_AXIS = {"conv1d": 1, "conv2d": 1, "conv3d": 1, "conv_transpose2d": 1, "conv_transpose3d": 1, "linear": -1}


def with_biases(graph: OpGraph) -> OpGraph:
    """The graph with each addition of a weight per channel merged into the layer before, if it is the only reader."""
    consumers = graph.n_consumers()
    nodes: list[Node] = []
    maker: dict[int, int] = {}  # value -> position in `nodes`
    for node in graph.nodes:
        sources = graph.activations(node)
        position = maker.get(sources[0]) if node.op == "add" and len(sources) == 1 and len(node.inputs) == 2 else None
        if position is not None and consumers[sources[0]] == 1 and not node.attrs.get("scalar"):
            layer, weight = nodes[position], sum(node.inputs) - sources[0]
            if _is_bias(layer, graph.values[weight].shape, graph.values[sources[0]].shape):
                attrs = {**layer.attrs, "bias": 1}
                nodes[position] = replace(layer, inputs=(*layer.inputs, weight), outputs=node.outputs, attrs=attrs)
                maker[node.outputs[0]] = position
                continue
        maker.update(dict.fromkeys(node.outputs, len(nodes)))
        nodes.append(node)
    return replace(graph, nodes=tuple(nodes))


def _is_bias(layer: Node, weight: Shape, target: Sequence[int]) -> bool:
    axis = _CHANNEL_AXIS.get(layer.op)
    if axis is None or layer.attrs.get("bias"):
        return False
    after = () if axis == -1 else (1,) * (len(target) - 2)
    return weight[len(weight) - len(after) - 1 :] == (target[axis], *after) and set(weight[: -len(after) - 1]) <= {1}
