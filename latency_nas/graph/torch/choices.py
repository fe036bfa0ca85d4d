"""Reads the choices of a supernet: where its forward calls one candidate of a choice, all candidates are read.

The call of a candidate returns a new value that represents "the output of one of them". The supernet then mixes the
outputs, w_1 y_1 + ... + w_k y_k with weights that sum to one. This mixture is the identity on that value, so it adds no
operator to the graph. It does not matter where the weights are kept, how they reach the mixture, how many candidates
run (all of them, or a sampled one), or whether a module of its own mixes them.

Limitations:
1. All candidates of a choice must give tensors of the same shape.
2. A product with a single computed number that is not a parameter counts as the weight of a mixture or of an edge. A
   derived network does not have it.
3. A candidate that is None adds nothing. It is read as the identity.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._pytree import tree_leaves

from latency_nas.errors import GraphError
from latency_nas.graph.op_graph import CHOICE, Node
from latency_nas.graph.torch.aten import tensors_in
from latency_nas.graph.torch.candidate_runs import Instance, Member, check_alike
from latency_nas.graph.torch.gate_trace import Gate, GateTrace
from latency_nas.graph.torch.ops import Attrs
from latency_nas.graph.torch.weighted_sums import WeightedSums

__all__ = ["CandidateCalls"]

# allowed ops on stacked outputs, until they are one tensor again
_LINEAR = {"mul", "div", "sum", "bmm", "mm", "mv", "matmul", "einsum", "linear", "view", "_unsafe_view", "reshape"} | {
    "permute", "transpose", "t", "expand", "squeeze", "unsqueeze", "clone"
}  # fmt: skip


class _Graph(Protocol):
    """The methods of the recorder that are needed here."""

    modules: list[str]
    nodes: list[Node]

    def find(self, tensor: Tensor) -> int: ...

    def is_constant(self, tensor: Tensor) -> bool: ...

    def is_zero(self, tensor: Tensor) -> bool: ...

    def is_weight(self, tensor: Tensor) -> bool: ...

    def add(self, tensor: Tensor) -> int: ...

    def append(self, op: str, attrs: Attrs, inputs: tuple[int, ...], outputs: tuple[int, ...]) -> None: ...


class CandidateCalls:
    """Answers the calls of candidates, and tracks which tensors are mixtures of their outputs.

    Args:
        graph: Recorder of the graph.
        choices: Name of each choice -> names of its candidates; None for a candidate that is switched off.
        gates: Trace of the architecture parameters that these choices do not have their weights from.
    """

    def __init__(self, graph: _Graph, choices: Mapping[str, Sequence[str | None]], gates: GateTrace) -> None:
        self.graph, self.choices, self.gates = graph, choices, gates
        self.sums = WeightedSums(graph, gates)
        self._open: dict[str, Instance] = {}
        self._inside: set[tuple[str, int]] = set()
        self._joined: set[int] = set()  # ids of the results of ops that `mixed` left out of the graph
        self._attrs: dict[int, Attrs] = {}  # id of a choice's output -> the attributes of its node
        self._mixed: dict[int, tuple[Tensor, Tensor]] = {}  # id of a mixture -> itself, and the output that it equals

    def intercept(self, model: nn.Module) -> None:
        """Answer each call of a candidate from now on. To undo this, restore the modules' attributes."""
        groups = {
            name: [None if path is None else model.get_submodule(path) for path in paths]
            for name, paths in self.choices.items()
        }
        members: dict[nn.Module, list[Member]] = defaultdict(list)
        for name, modules in groups.items():
            for index, (module, path) in enumerate(zip(modules, self.choices[name], strict=True)):
                if module is not None and path is not None:
                    owner = path.rpartition(".")[0].rpartition(".")[0]
                    members[module].append(Member(name, index, owner, modules))
        for module, memberships in members.items():
            vars(module)["forward"] = self._answer(memberships, module.forward)

    def _answer(self, memberships: list[Member], forward: Callable[..., Any]) -> Callable[..., Any]:
        def answer(*args: Any, **kwargs: Any) -> Any:
            member = self._member(memberships)
            if (member.choice, member.index) in self._inside:
                return forward(*args, **kwargs)  # `_run_all` reads this candidate
            inputs = tuple(self.graph.find(leaf) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor))
            instance = self._open.get(member.choice)
            is_new = instance is None or member.index in instance.called
            if instance is None or is_new or (instance.inputs != inputs and not self._continues(instance, inputs)):
                made = self._run_all(member, args, kwargs)
                instance = self._open[member.choice] = Instance(inputs, made)
            elif instance.inputs != inputs:
                self._run_other(member, instance, args, kwargs)
            instance.called.add(member.index)
            return instance.output

        return answer

    def _member(self, memberships: list[Member]) -> Member:
        """The running choice of a module that may be a candidate of several choices."""
        if len(memberships) == 1:
            return memberships[0]
        running = {name: depth for depth, name in enumerate(self.graph.modules)}
        return max(memberships, key=lambda member: running.get(member.owner, -1))

    def _continues(self, instance: Instance, inputs: tuple[int, ...]) -> bool:
        """Whether a candidate with inputs of its own is called in the same run: none of them comes from its output."""
        output, needed = self.graph.find(instance.output), set(inputs)
        for node in reversed(self.graph.nodes):
            if not needed.isdisjoint(node.outputs):
                needed.update(node.inputs)
        return output not in needed and not any(output in node.inputs for node in self.graph.nodes)

    def _run_other(self, member: Member, instance: Instance, args: Any, kwargs: Any) -> None:
        """Read one candidate of a run with inputs of its own, as an edge from another node of a cell."""
        output = self.graph.find(instance.output)
        (choice,) = (node for node in self.graph.nodes if node.op == CHOICE and output in node.outputs)
        running, self.graph.modules = self.graph.modules, self.graph.modules[:-1]
        try:
            made = self._run_one(member, member.index, args, kwargs)
        finally:
            self.graph.modules = running
        check_alike(member.choice, [instance.output, made], (0, member.index))
        inputs = tuple(
            self.graph.find(made) if index == member.index else read for index, read in enumerate(choice.inputs)
        )
        self.graph.nodes.remove(choice)
        self.graph.append(CHOICE, dict(choice.attrs), inputs, choice.outputs)

    def _run_one(self, member: Member, index: int, args: Any, kwargs: Any) -> Any:
        """Read one candidate. Runs of choices inside it end with it."""
        module, outer = member.modules[index], dict(self._open)
        self._inside.add((member.choice, index))
        made = args[0] if module is None else module(*args, **kwargs)
        self._inside.discard((member.choice, index))
        self._open = outer
        return made

    def _run_all(self, member: Member, args: Any, kwargs: Any) -> Tensor:
        """Read all candidates of a choice; the tensor that represents the output of one of them."""
        running, self.graph.modules = self.graph.modules, self.graph.modules[:-1]
        try:
            outputs = [self._run_one(member, index, args, kwargs) for index in range(len(member.modules))]
        finally:
            self.graph.modules = running
        return self._choose(member.choice, outputs)

    def _choose(self, name: str, outputs: Sequence[Any]) -> Tensor:
        """Add a choice among `outputs` to the graph; its output is a new tensor."""
        check_alike(name, outputs, range(len(outputs)))
        inputs = tuple(self.graph.find(tensor) for tensor in outputs)
        result = torch.empty_like(outputs[0])
        attrs: Attrs = {"name": name}
        self._attrs[id(result)] = attrs
        self.graph.append(CHOICE, attrs, inputs, (self.graph.add(result),))
        self._mixed[id(result)] = (result, result)
        return result

    def mixed(self, op: str, args: Any, tensors: Sequence[Tensor]) -> Tensor | None:
        """The tensor that equals the result of an operator, if this only mixes outputs of candidates; None if not.

        Args:
            op: Name of the operator in aten.
            args: Arguments of the operator.
            tensors: Tensors among the arguments.

        Raises:
            GraphError: if outputs were stacked, and the stack is used for anything except their sum.
        """
        mixtures = [tensor for tensor in tensors if id(tensor) in self._mixed]
        others = [tensor for tensor in tensors if id(tensor) not in self._mixed]
        if (total := self._total(op, args, tensors)) is not None:
            return total
        if not mixtures:
            if op == "add" and len(others) == 1 and not isinstance(args[1], Tensor) and args[1] == 0:
                return others[0]  # the start of Python's `sum`: what is summed stays known as such
            scaled = [tensor for tensor in others if not self.graph.is_weight(tensor)]
            return scaled[0] if op == "mul" and (len(others), len(scaled)) == (2, 1) else None
        output = self._mixed[id(mixtures[0])][1]
        alone = all(self._mixed[id(tensor)][1] is output for tensor in mixtures)
        if any(tensor.shape != output.shape for tensor in mixtures):
            if not alone or op not in _LINEAR:
                running = self.graph.modules[-1] if self.graph.modules else ""
                raise GraphError(
                    f"Expected `{running}` to mix the outputs of its candidates by a weighted sum, but it gives a "
                    f"stack of them to {op}: sum the stack over the candidates first."
                )
            return output
        return output if alone and self._mixes(op, args, others) else None

    def _total(self, op: str, args: Any, tensors: Sequence[Tensor]) -> Tensor | None:
        """The tensor that equals a sum whose weights are those of a choice among tensors."""
        outputs = {id(self._mixed[id(tensor)][1]) for tensor in tensors if id(tensor) in self._mixed}
        mixes = len(outputs) == 1 and all(id(tensor) in self._mixed for tensor in tensors)
        return None if mixes else self.sums.total(op, args, tensors)

    def join(self, op: str, tensors: Sequence[Tensor], result: Tensor, output: Tensor) -> None:
        """Record that the result of an operator equals `output`, which `mixed` gave.

        Args:
            op: Name of the operator in aten.
            tensors: Tensors among its arguments.
            result: Its result.
            output: What the result equals.
        """
        self._joined.add(id(result))
        if id(output) in self._mixed:
            self._mixed[id(result)] = (result, output)
        held = [tensor for tensor in tensors if not self.graph.is_weight(tensor)]
        if any(tensor is result for tensor in tensors):
            held = [tensor for tensor in held if tensor is not result]
            self.sums.forget(result)
            self.sums.same(result, output)
        elif op == "mul" and len(tensors) == 2 and len(held) == 1:
            (weight,) = (tensor for tensor in tensors if tensor is not held[0])
            is_output = id(held[0]) in self._mixed and self._mixed[id(held[0])][1] is held[0]
            label = self.sums.weighted(result, held[0], weight, of_candidate=is_output)
            if is_output and isinstance(label, Gate):
                self._attrs[id(held[0])]["weighted_by"] = label.row[0].parameter
        elif len(held) == 1:
            self.sums.same(result, held[0])
        elif id(output) in self._mixed:
            self.sums.mixed(held)
        else:
            self.sums.same(result, output)

    def dispatched(self, op: str, func: Any, args: Any, kwargs: Any, result: Any) -> None:
        """Follow the weights of choices among tensors through any operator; the arguments are those of its dispatch."""
        tensors = list(tensors_in((*args, *kwargs.values())))
        fakes = [tensor for tensor in tensors if isinstance(tensor, FakeTensor)]
        if all(map(self.graph.is_constant, fakes)):
            self.gates.follow(op, func, args, kwargs, result)
        elif id(result) not in self._joined:
            self.sums.recorded(op, args, tensors, result)

    def _mixes(self, op: str, args: Any, others: Sequence[Tensor]) -> bool:
        """Whether an operator on outputs of candidates and on `others` only mixes the outputs."""
        if op == "mul":
            return len(others) == 1 and self.graph.is_weight(others[0])
        if op == "add":
            numbers = [leaf for leaf in tree_leaves(args) if isinstance(leaf, int | float)]
            return not any(numbers) and all(self.graph.is_weight(item) or self.graph.is_zero(item) for item in others)
        return op in ("stack", "detach", "alias", "clone") and not others
