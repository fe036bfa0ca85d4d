"""The folding of MNN's converter: it merges an activation or a normalisation into the op before it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from latency_nas.errors import GraphError
from latency_nas.graph.op_graph import CHOICE, Node, OpGraph
from latency_nas.kernel import AttrValue

__all__ = ["BINARY", "fold"]

BINARY = ("add", "sub", "mul", "div")

# (op, the op that follows it) -> attributes of the merged kernel
_FOLDS: dict[tuple[str, str], dict[str, AttrValue]] = {
    ("conv2d", "batch_norm"): {"bias": 1},
    ("conv2d", "relu"): {"act": "relu"},
    ("conv2d", "relu6"): {"act": "relu6"},
    ("linear", "relu"): {"act": "relu"},
    ("linear", "relu6"): {"act": "relu6"},
    **{(op, "relu"): {"act": "relu"} for op in BINARY},  # MNN does not merge relu6 here
}


@dataclass(slots=True)
class _Folded:
    """A node with the followers that are merged into it."""

    head: Node
    attrs: Mapping[str, AttrValue]
    outputs: tuple[int, ...]
    names: tuple[str, ...]


def fold(graph: OpGraph) -> list[tuple[Node, tuple[str, ...]]]:
    """Merge each node with its followers as the converter does. Each pair has the names of all merged nodes."""
    consumers = graph.n_consumers()
    merged: list[_Folded] = []
    maker: dict[int, _Folded] = {}  # value -> the node that computes it
    for node in graph.nodes:
        if node.op == CHOICE:
            raise GraphError(f"Expected a graph of one architecture, but the choice `{node.attrs['name']}` is open.")
        sources = graph.activations(node)
        step = maker.get(sources[0]) if len(sources) == 1 else None
        extra = _FOLDS.get((step.head.op, node.op)) if step else None
        if step is not None and extra and "act" not in step.attrs and consumers[sources[0]] == 1:
            step.attrs, step.outputs, step.names = {**step.attrs, **extra}, node.outputs, (*step.names, node.name)
            maker[node.outputs[0]] = step
            continue
        merged.append(_Folded(node, node.attrs, node.outputs, (node.name,)))
        maker.update(dict.fromkeys(node.outputs, merged[-1]))
    return [
        (step.head if len(step.names) == 1 else replace(step.head, attrs=step.attrs, outputs=step.outputs), step.names)
        for step in merged
    ]
