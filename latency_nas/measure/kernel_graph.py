"""The graph of one kernel, the inverse of `OpGraph.kernel`: with it a kernel can be measured from its key alone."""

from __future__ import annotations

from collections.abc import Iterator

from latency_nas.engine import Engine, Target
from latency_nas.errors import LatencyNASError, MeasureError
from latency_nas.graph import Node, OpGraph, Value
from latency_nas.kernel import Kernel, Shape

__all__ = ["kernel_graph"]

# ops that take another time for a negative number, of which an engine may compute no result
_OF_POSITIVES = frozenset({"log", "sqrt", "rsqrt", "pow"})
# ops whose inputs have the type of their output, which may be an integer
_OF_ONE_TYPE = frozenset({"index", "cumsum", "topk", "logical_and", "logical_or", "logical_xor", "logical_not"})


def _weight(kernel: Kernel) -> Shape | None:
    """The shape of a convolution's weight; the writer derives every other weight from the activations."""
    if not kernel.op.startswith("conv"):
        return None
    area, group = kernel.attributes["kernel"], kernel.attributes["group"]
    c_in, c_out = kernel.inputs[0][1], kernel.outputs[0][1]
    if not isinstance(area, tuple) or not isinstance(group, int):
        raise MeasureError(f"Expected {kernel} to have a kernel size and a group.")
    return (c_in, c_out // group, *area) if "transpose" in kernel.op else (c_out, c_in // group, *area)


def _dtypes(kernel: Kernel) -> Iterator[str]:
    """The type of each input: that of the output, except for what compares, looks up by integers, or selects."""
    if kernel.op == "embedding":
        yield from ("int64" for _ in kernel.inputs)
        return
    is_masked = kernel.op == "where" and len(kernel.inputs) + bool(kernel.attributes.get("scalar")) == 3
    for position, _ in enumerate(kernel.inputs):
        mask = is_masked and not position
        yield "bool" if mask else kernel.dtype if kernel.op in _OF_ONE_TYPE else "fp32"


def kernel_graph(kernel: Kernel, engine: Engine, target: Target) -> OpGraph:
    """A graph for which an engine runs this kernel: alone, or with others if the engine's ops can be timed one by one.

    Raises:
        MeasureError: if there is none. Copies between layouts, for example, occur only inside networks.
    """
    attrs = {name: value for name, value in kernel.attrs if name != "act"}
    act = kernel.attributes.get("act")
    if not kernel.inputs or not kernel.outputs:
        raise MeasureError(f"Expected a kernel with an input and an output to be measured alone, but got {kernel}.")
    values = [Value(shape=shape, dtype=dtype) for shape, dtype in zip(kernel.inputs, _dtypes(kernel), strict=True)]
    inputs = tuple(range(len(values)))
    weight = _weight(kernel)
    if weight is not None:
        values.append(Value(shape=weight, constant=True))
    first = len(values)
    values += [Value(shape=shape, dtype=kernel.dtype) for shape in kernel.outputs]
    outputs = tuple(range(first, len(values)))
    read = tuple(range(first))
    nodes = []
    if kernel.op in _OF_POSITIVES:
        values.append(Value(shape=kernel.inputs[0]))
        read = (len(values) - 1, *read[1:])
        nodes.append(Node(name="positive", op="abs", inputs=(0,), outputs=read[:1], attrs={}))
    nodes.append(Node(name=f"{kernel.op}", op=kernel.op, inputs=read, outputs=outputs, attrs=attrs))
    if act is not None:
        values.append(Value(shape=kernel.outputs[0], dtype=kernel.dtype))
        last = (len(values) - 1,)
        nodes.append(Node(name=f"{act}", op=str(act), inputs=outputs, outputs=last, attrs={}))
        outputs = last
    graph = OpGraph(values=tuple(values), nodes=tuple(nodes), inputs=inputs, outputs=outputs)
    try:
        made = [call.kernel for call in engine.fuse(graph, target)]
    except LatencyNASError as error:
        raise MeasureError(f"No network is known for which {engine.title} runs {kernel}: {error}") from error
    if not engine.times_ops and made != [kernel]:
        raise MeasureError(
            f"No network is known for which {engine.title} runs {kernel} alone, but {'; '.join(map(str, made))}."
        )
    if kernel.op in engine.layout_ops or kernel not in made:
        raise MeasureError(
            f"No network is known for which {engine.title} runs {kernel}: measure it inside a network that has it."
        )
    return graph
