"""The graph of what a `Recorder` recorded, in normal form, the same for modules and for exported programs."""

from __future__ import annotations

from latency_nas.graph.int8 import in_int8
from latency_nas.graph.normal_form.computed_weights import with_computed_weights
from latency_nas.graph.normal_form.side_outputs import without_unread_outputs
from latency_nas.graph.normal_form.spellings import normalized
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
    return in_int8(normalized(with_computed_weights(without_unread_outputs(graph.without_dead_nodes()))))
