"""The graph of what a `Recorder` recorded, in normal form, the same for modules and for exported programs."""

from __future__ import annotations

from latency_nas.graph.normal_form.reading import in_normal_form
from latency_nas.graph.op_graph import OpGraph
from latency_nas.graph.torch.recorder import Recorder

__all__ = ["graph_of"]


def graph_of(recorder: Recorder, inputs: tuple[int, ...], outputs: tuple[int, ...]) -> OpGraph:
    """The graph of the nodes that lead to outputs.

    Args:
        recorder: Recorder of a run.
        inputs: Indices of the values of the inputs.
        outputs: Indices of the values of the outputs. Without any, all nodes stay as they are.
    """
    graph = OpGraph(values=tuple(recorder.values), nodes=tuple(recorder.nodes), inputs=inputs, outputs=outputs)
    if not outputs:
        return graph
    return in_normal_form(graph)
