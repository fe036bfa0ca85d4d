"""Marks the ops between dequantisers and quantisers as ops that compute in int8."""

from __future__ import annotations

from dataclasses import replace

from latency_nas.graph.normal_form.patterns import Patterns
from latency_nas.graph.op_graph import OpGraph

__all__ = ["in_int8"]

_FOLDED = frozenset({"batch_norm", "relu", "relu6", "clip"})  # into the op before them


def in_int8(graph: OpGraph, *, always: frozenset[str] = frozenset()) -> OpGraph:
    """Let ops compute in int8 if their inputs come from dequantisers and their output goes only to quantisers.

    Args:
        graph: Graph of a quantised model.
        always: Ops that the engine computes in int8 even if their output is not quantised.
    """
    if not any(node.op == "quantize" for node in graph.nodes):
        return graph
    found = Patterns(graph)
    integers: dict[int, int] = {  # dequantised value -> its int8 value
        node.outputs[0]: node.inputs[0] for node in graph.nodes if node.op == "dequantize"
    }
    for position, node in enumerate(graph.nodes):
        if node.op == "quantize":
            _mark_int8(found, node.outputs[0])
        if node.op in {"quantize", "dequantize"} or len(node.outputs) != 1:
            continue
        activations = found.activations(node)
        output = node.outputs[0]
        quantised = _is_quantised(found, output)
        if not activations or not all(index in integers for index in activations):
            continue
        if not quantised and node.op not in always:
            continue
        found.nodes[position] = node.reading(integers)
        _mark_int8(found, output)
        if not quantised:
            for index in _folded(found, output):
                _mark_int8(found, index)
            continue
        integers[output] = output
        for reader in found.readers.get(output, ()):
            if found.nodes[reader].op == "quantize":
                found.gone.add(reader)
                found.alias[found.nodes[reader].outputs[0]] = output
    # A dequantiser stays where an op outside of int8, or an output, still needs its value.
    kept = [node for position, node in enumerate(found.nodes) if node.op != "dequantize" and position not in found.gone]
    needed = {*graph.outputs, *(index for node in kept for index in node.inputs)}
    for position in reversed(range(len(found.nodes))):
        node = found.nodes[position]
        if node.op == "dequantize" and needed.isdisjoint(node.outputs):
            found.gone.add(position)
        elif node.op == "dequantize":
            needed.update(node.inputs)
    return found.graph()


def _mark_int8(found: Patterns, index: int) -> None:
    """Give a value the type int8."""
    found.values[index] = replace(found.values[index], dtype="int8")


def _folded(found: Patterns, index: int) -> list[int]:
    """The outputs of the ops that are folded into the op that makes a value, in order."""
    results: list[int] = []
    readers = found.readers.get(index, ())
    while len(readers) == 1 and index not in found.outputs and found.nodes[readers[0]].op in _FOLDED:
        index = found.nodes[readers[0]].outputs[0]
        results.append(index)
        readers = found.readers.get(index, ())
    return results


def _is_quantised(found: Patterns, index: int) -> bool:
    """Whether only quantisers read a value, or the output of the ops that are folded into its maker."""
    last = [index, *_folded(found, index)][-1]
    ops = {found.nodes[reader].op for reader in found.readers.get(last, ())}
    return last not in found.outputs and ops == {"quantize"}
