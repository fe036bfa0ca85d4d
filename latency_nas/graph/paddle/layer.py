"""Reads a ``paddle.nn.Layer``, also a supernet: Paddle writes its program once, and the program is read.

A supernet is read like a torch module (see `latency_nas.graph.torch.choices`). The call of a candidate returns a value
that represents the output of one of them. The weighted sum that mixes the outputs adds no operator to the graph. In the
program, that value is an ``add_n`` of all outputs and of a number that marks the choice.

Limitations:
1. Paddle refuses a forward that decides by the value of a tensor, such as ``int(gates.argmax())``. A candidate may be
   picked by anything else.
2. All candidates of a choice must give tensors of the same shape.
3. A product of an output with a single computed number counts as its weight. A derived network does not have it.
"""

from __future__ import annotations

import contextlib
import functools
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path
from typing import Any

from latency_nas.errors import GraphError, InputMismatchError
from latency_nas.graph.normal_form.spellings import normalized
from latency_nas.graph.op_graph import CHOICE, Node, OpGraph, Value
from latency_nas.graph.paddle.calls import call_by
from latency_nas.graph.paddle.program import PaddleProgram
from latency_nas.graph.paddle.reader import read_program, read_with_sums
from latency_nas.graph.paddle.steps import SUM, with_additions
from latency_nas.graph.paddle.tracing import write_program

__all__ = ["read_layer"]

_MARK = -7_340_033.0  # minus the number of a choice, this marks the choice; no network adds such a number
_STACKED = frozenset({
    "mul", "reshape", "reduce_sum", "transpose", "matmul", "linear", "expand", "paddle.einsum", "paddle.unbind",
})  # fmt: skip


def read_layer(
    layer: Any,
    example_input: Any = None,
    *,
    input_shape: Sequence[int] | None = None,
    choices: Mapping[str, Sequence[str | None]] | None = None,
    run: Callable[[Any], Any] | None = None,
) -> OpGraph:
    """Read a layer in evaluation mode. It is not changed.

    Args:
        layer: Layer, a ``paddle.nn.Layer``.
        example_input: Input of the forward: a tensor or an ``InputSpec``, or several.
        input_shape: Shape of the only float32 input, instead of `example_input`.
        choices: Name of each choice of a supernet -> names of its candidates' layers; None for a candidate that is
            switched off.
        run: Function that calls the layer once with its arguments, instead of `example_input`.

    Returns:
        The graph, with a node of op ``"choice"`` wherever a candidate is called.

    Raises:
        GraphError: if Paddle cannot write its program, or a choice cannot be read.
        InputMismatchError: if there is no input.

    Example:
        >>> read_layer(paddle.vision.models.mobilenet_v2(), input_shape=(1, 3, 224, 224))  # doctest: +SKIP
    """
    with _evaluated(layer):
        call = call_by(run, layer) if run is not None else None
    specification = _specification(example_input, input_shape) if call is None else _specification(call.tensors, None)
    calls = _Calls(layer, choices or {})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "layer.json"
        with _evaluated(layer), calls.intercepted():
            try:
                write_program(layer, specification, path, call=call, before_retry=calls.forget)
            except GraphError as error:  # Paddle rewords errors that are raised inside
                raise calls.error or error from None
        graph, program = _without_buffers(read_with_sums(path), layer), read_program(path)
    return _renamed(normalized(with_additions(_Unmixed(graph, program, calls).graph() if choices else graph)))


def _specification(example_input: Any, input_shape: Sequence[int] | None) -> list[Any]:
    """The specification of each input."""
    from paddle.static import InputSpec

    if input_shape is not None:
        return [InputSpec(list(input_shape), "float32")]
    if example_input is None:
        raise InputMismatchError("Expected `example_input` or `input_shape` of a Paddle layer, but got neither.")
    inputs = list(example_input) if isinstance(example_input, tuple | list) else [example_input]
    return [item if isinstance(item, InputSpec) else InputSpec.from_tensor(item) for item in inputs]


def _renamed(graph: OpGraph) -> OpGraph:
    """Number the nodes of each layer, so that their names do not depend on what else the program holds."""
    count: Counter[str] = Counter()
    nodes = []
    for node in graph.nodes:
        name = "/".join([*node.modules[-1:], node.op])
        count[name] += 1
        nodes.append(replace(node, name=name if count[name] == 1 else f"{name}.{count[name]}"))
    return replace(graph, nodes=tuple(nodes))


def _without_buffers(graph: OpGraph, layer: Any) -> OpGraph:
    """Remove buffers from the parts. A program does not distinguish them from parameters, but the layer does."""
    names = {parameter.name for parameter in layer.parameters()}
    values = tuple(
        [
            value
            if not value.parts
            else replace(value, parts=tuple(part for part in value.parts if part.name in names))
            for value in graph.values
        ]
    )
    return replace(graph, values=values)


@contextlib.contextmanager
def _evaluated(layer: Any) -> Iterator[None]:
    """Set evaluation mode inside the block, and restore each layer's own mode after it."""
    modes = [(item, item.training) for item in layer.sublayers(include_self=True)]
    layer.eval()
    try:
        yield
    finally:
        for item, training in modes:
            item.training = training


@dataclass(slots=True)
class _Instance:
    """One run of a choice.

    Args:
        given: Input that the candidates were called with.
        output: Value that represents the output of one of them.
        called: Indices of the candidates that were called so far.
    """

    given: Any
    output: Any
    called: set[int] = field(default_factory=set)


class _Calls:
    """Answers the calls of candidates while Paddle writes the program."""

    def __init__(self, layer: Any, choices: Mapping[str, Sequence[str | None]]) -> None:
        found = dict(layer.named_sublayers(remove_duplicate=False))
        self.names, self.paths = tuple(choices), choices
        self.candidates = [
            [None if path is None else found[path] for path in candidates] for candidates in choices.values()
        ]
        self.error: GraphError | None = None
        self._open: dict[int, _Instance] = {}
        self._inside: set[int] = set()

    def forget(self) -> None:
        """Forget the runs of choices so far."""
        self._open, self._inside = {}, set()

    @contextlib.contextmanager
    def intercepted(self) -> Iterator[None]:
        """Answer each call of a candidate inside the block."""
        import paddle

        members = {
            id(candidate): (candidate, number, index)
            for number, candidates in enumerate(self.candidates)
            for index, candidate in enumerate(candidates)
            if candidate is not None
        }
        try:
            for candidate, number, index in members.values():
                answer = functools.partial(self._answer, candidate.forward, number, index)
                candidate.__dict__["forward"] = paddle.jit.not_to_static(_plain(answer))
            yield
        finally:
            for candidate, _, _ in members.values():
                candidate.__dict__.pop("forward", None)

    def _answer(self, forward: Callable[..., Any], number: int, index: int, x: Any, *more: Any, **named: Any) -> Any:
        if number in self._inside:
            return forward(x, *more, **named)
        instance = self._open.get(number)
        if instance is None or instance.given is not x or index in instance.called:
            self._inside.add(number)
            try:
                instance = self._open[number] = _Instance(x, self._run_all(number, x, *more, **named))
            finally:
                self._inside.discard(number)
        instance.called.add(index)
        return instance.output

    def _run_all(self, number: int, x: Any, *more: Any, **named: Any) -> Any:
        import paddle

        outputs = [x if layer is None else layer(x, *more, **named) for layer in self.candidates[number]]
        shapes = [tuple(output.shape) for output in outputs]
        if len(set(shapes)) > 1:
            self.error = GraphError(
                f"Expected all candidates of `{self.names[number]}` to give one tensor of the same shape, but they "
                f"give {', '.join(map(str, shapes))}."
            )
            raise self.error
        return paddle.add_n([*outputs, paddle.full(shapes[0], _MARK - number, outputs[0].dtype)])


def _plain(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a partial in a function, since Paddle sets an attribute that a partial cannot have."""

    def call(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return call


class _Unmixed:
    """Removes the ops that mix the outputs of candidates."""

    def __init__(self, graph: OpGraph, program: PaddleProgram, calls: _Calls) -> None:
        self.source, self.program, self.calls = graph, program, calls
        self.marks = {
            name: self.calls.names[round(_MARK - op.attrs["value"])]
            for op in program.ops
            if op.type == "full" and _MARK - len(calls.names) < op.attrs["value"] <= _MARK
            for name in op.outputs["Out"]
        }
        self.nodes: list[Node] = []
        self.mixed: dict[int, int] = {}  # value of a mixture -> the choice's output that it equals

    def graph(self) -> OpGraph:
        """The graph without mixtures."""
        for node in self.source.nodes:
            name = self.marks.get(self.program.ops[int(node.name.rpartition("#")[2])].inputs.get("X", ("",))[-1])
            if name is not None:
                self._choose(name, node)
            else:
                self._add(node)
        outputs = tuple(self.mixed.get(index, index) for index in self.source.outputs)
        return replace(self.source, nodes=tuple(self.nodes), outputs=outputs)

    def _choose(self, name: str, node: Node) -> None:
        (output,) = node.outputs
        inputs = tuple(self.mixed.get(index, index) for index in node.inputs[:-1])
        self.nodes.append(replace(node, op=CHOICE, inputs=inputs, attrs={"name": name}))
        self.mixed[output] = output

    def _add(self, node: Node) -> None:
        mixtures = {self.mixed[index] for index in node.inputs if index in self.mixed}
        if len(mixtures) == 1 and self._mixes(node):
            self.mixed[node.outputs[0]] = mixtures.pop()
            return
        for index in node.inputs:
            if index in self.mixed and self._shape(index) != self._shape(self.mixed[index]):
                raise GraphError(
                    f"Expected the outputs of candidates to be mixed by a weighted sum, but {node.name} takes a stack "
                    f"of them: sum the stack over the candidates first."
                )
        self.nodes.append(replace(node, inputs=tuple(self.mixed.get(index, index) for index in node.inputs)))

    def _mixes(self, node: Node) -> bool:
        """Whether an operator on the outputs of one choice only mixes them."""
        (output,) = {self.mixed[index] for index in node.inputs if index in self.mixed}
        others = [index for index in node.inputs if index not in self.mixed]
        if any(index in self.mixed and self._shape(index) != self._shape(output) for index in node.inputs):
            return node.op in _STACKED
        if node.op == "mul":
            return len(others) == 1 and prod(self._shape(others[0])) == 1
        if node.op in ("add", SUM):
            return all(self._adds_nothing(self.source.values[index]) for index in others)
        return node.op == "stack" and not others

    def _adds_nothing(self, value: Value) -> bool:
        """Whether a value is zero, or the weight of a candidate that does not run in this step."""
        return value.constant and (value.number == 0 if value.literal else prod(value.shape) == 1)

    def _shape(self, index: int) -> tuple[int, ...]:
        return self.source.values[index].shape
