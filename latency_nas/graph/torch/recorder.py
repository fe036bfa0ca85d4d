"""Records the aten ops that a module dispatches as the nodes of an `OpGraph`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from latency_nas.errors import GraphError
from latency_nas.graph.normal_form.no_ops import is_idle_move
from latency_nas.graph.normal_form.spellings import into_parts
from latency_nas.graph.op_graph import Node, Value
from latency_nas.graph.torch.aten import decomposition, is_view, tensors_in, tensors_of, written_by
from latency_nas.graph.torch.model_tensors import ModelTensors
from latency_nas.graph.torch.numbers import Numbers
from latency_nas.graph.torch.ops import (
    DTYPES,
    IDENTITY,
    SHAPE_ONLY,
    Attrs,
    full_name,
    is_random,
    name_of,
    read_op,
)  # fmt: skip
from latency_nas.graph.torch.overwritten import Overwritten
from latency_nas.graph.torch.parameter_trace import ParameterTrace
from latency_nas.graph.torch.quantization import quantised
from latency_nas.graph.torch.recorded_values import Indices, RecordedValues
from latency_nas.graph.torch.rewrites import SEPARATE, WHOLE, rewrite_of
from latency_nas.graph.torch.written import WrittenMemory
from latency_nas.kernel import OPS

__all__ = ["Recorder"]

_WITH_SCALARS = frozenset(op for op, (_, optional) in OPS.items() if "scalar" in optional)
_KEPT = IDENTITY | SHAPE_ONLY | WHOLE.keys()  # not decomposed


class Recorder(RecordedValues, TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records each dispatched aten op as a `Node`.

    Args:
        tensors: The model's parameters and buffers.
    """

    def __init__(self, tensors: ModelTensors) -> None:
        RecordedValues.__init__(self, tensors)
        TorchDispatchMode.__init__(self)  # type: ignore[no-untyped-call]
        self.memory, self.overwritten = WrittenMemory(self), Overwritten()
        self.nodes: list[Node] = []
        self.modules: list[str] = []
        self.failed_in: list[str] | None = None
        self.raised: Exception | None = None
        self._used_names: Counter[str] = Counter()

    def unread(self) -> list[Tensor]:
        """The tensors that nodes made and none reads: what a function that returns nothing ran."""
        read = {index for node in self.nodes for index in node.inputs}
        made = {index for node in self.nodes for index in node.outputs}
        found = {index: tensor for tensor in self._alive if (index := self._index.get(id(tensor), -1)) in made - read}
        return list(found.values())

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func.namespace == "prim":  # returns a property, such as the device
            return func(*args, **kwargs)
        result = self._dispatched(name_of(func), func, args, kwargs)
        if self.choices is not None and result is not None:
            self.choices.dispatched(name_of(func), func, args, kwargs, result)
        return result

    def _dispatched(self, name: str, func: Any, args: Any, kwargs: Any) -> Any:
        if name in SEPARATE:
            with self:
                return SEPARATE[name](*args, **kwargs)
        tensors = list(tensors_in((*args, *kwargs.values())))
        if not any(isinstance(tensor, FakeTensor) or self.memory.holds(tensor) for tensor in tensors):
            self.overwritten.keep(func, tensors)
            result = func(*args, **kwargs)
            if name not in SHAPE_ONLY:
                self.trace.follow(tensors, tensors_of(result), view=is_view(func))
                self.numbers.follow_buffers(tensors, tensors_of(result))
            return result
        written = written_by(func, args, kwargs)
        for tensor in written:
            if not isinstance(tensor, FakeTensor):
                self.memory.adopt(tensor)
        mixture = None if self.choices is None else self.choices.mixed(name, args, list(map(self.fake, tensors)))
        if self.choices is not None and mixture is not None:
            args, kwargs = tree_map_only(Tensor, self.fake, (args, kwargs))
            result = func(*args, **kwargs)
            self.choices.join(name, list(map(self.fake, tensors)), result, mixture)
            self._index[id(result)] = self.find(mixture)
            self._alive.append(result)
            if written:
                self.memory.wrote(result, self._index[id(result)])
            return result
        if name.startswith("fake_quantize") and not all(self.is_constant(tensor) for tensor in tensors[:1]):
            return quantised(self.fake(tensors[0]), self._emit)
        if name == "_grouped_mm":  # torch's own fake accepts no fp32
            return self._emit(f"aten.{name}", {}, tensors[:2], (*tensors[0].shape[:-1], tensors[1].shape[-1]))
        if name in WHOLE:
            with self:
                result = WHOLE[name](func, args, self._emit)
            if result is not None:
                return result
        rewrite = rewrite_of(name, func, kwargs)
        if rewrite is not None:
            with self:
                rewritten = rewrite(*args, **kwargs)
            if rewritten is not NotImplemented:
                return rewritten
        op = read_op(func, args, kwargs, self.is_constant)
        parts = decomposition(func) if op is None and name not in _KEPT else None
        if parts is not None:
            with self:
                return parts(*args, **kwargs)
        read = list(tensors_in(args)) if "out" in kwargs else tensors[1:] if name == "copy" else tensors
        inputs = self._inputs(name, args, read)
        try:
            result = self.fakes.run(func, args, kwargs, self.fake)
        except Exception as error:
            self.raised = error
            raise
        made = tensors_of(result) or list(map(self.fake, written))
        self.fakes.note(made)
        if made:
            folds = not is_random(func) and all(self.values[index].constant for index in inputs)
            if name in SHAPE_ONLY or folds:  # every converter folds it
                for tensor in made:
                    self._index.pop(id(tensor), None)
                self.numbers.made(name, args, op, [self.values[index] for index in inputs], made)
            else:
                self._record(name, op or (full_name(name), {}), inputs, made)
            if name not in SHAPE_ONLY and folds:
                self.trace.follow(tensors, made, view=is_view(func))
            for tensor in map(self.fake, written):
                self.memory.wrote(tensor, self._held(tensor))
            for tensor in () if written else made:
                self.memory.note(tensor)
        return result

    def _record(self, name: str, read: tuple[str, Attrs], inputs: Indices, made: list[Tensor]) -> None:
        """Add the node of an op; none if it changes nothing."""
        if (dtype := next((item.dtype for item in made if item.dtype not in DTYPES), None)) is not None:
            raise GraphError(
                f"Expected ops on tensors of type {', '.join(map(str, DTYPES))}, but {full_name(name)} gives {dtype}."
            )
        op, attrs = read
        target = Value(shape=tuple(made[0].shape), dtype=DTYPES[made[0].dtype])
        if name in IDENTITY or is_idle_move(op, attrs, self.values[inputs[0]], target):
            self._alive.append(made[0])
            self._index[id(made[0])] = inputs[0]
            if len(made) > 1:  # the mask of a dropout, which runs if something reads it
                self.append(full_name(name), {}, inputs, tuple(map(self.add, made[1:])))
            return
        if op in _WITH_SCALARS:
            values = [self.values[index] for index in inputs]
            if len(values) < (3 if op == "where" else 2) or any(value.is_scalar for value in values):
                attrs = {"scalar": 1}
        self.append(op, attrs, inputs, tuple(map(self.add, made)))

    def _emit(
        self,
        op: str,
        attrs: Attrs,
        tensors: Sequence[Tensor],
        shape: tuple[int, ...],
        dtype: torch.dtype | None = None,
    ) -> Tensor:
        """Add a node; the fake of its one output."""
        first, *_ = fakes = [self.fake(tensor) for tensor in tensors]
        made = self.blank(shape, torch.empty(shape, device="meta").stride(), dtype or first.dtype, first.device)
        self.append(op, attrs, tuple(map(self.find, fakes)), (self.add(made),))
        return made

    def release(self) -> list[Tensor]:
        """Let go of all tensors; the fakes that something else still holds."""
        self.choices, self.memory = None, WrittenMemory(self)
        self.trace, self.numbers = ParameterTrace({}), Numbers({})
        for held in (self._index, self._fake, self._alive):
            held.clear()
        return self.fakes.alive()

    def append(self, op: str, attrs: Attrs, inputs: tuple[int, ...], outputs: tuple[int, ...]) -> None:
        """Add a node, named after the running module."""
        running = self.modules[-1] if self.modules else ""
        parameter = next((self.values[index].parameter for index in inputs if self.values[index].parameter), "")
        layer = self.tensors.layer_of(parameter, running)
        is_chunk = op == "chunk"
        op = "split" if is_chunk else op
        name = f"{layer}/{op}"
        self._used_names[name] += 1
        if self._used_names[name] > 1:
            name = f"{name}_{self._used_names[name]}"
        modules = tuple(self.modules) if layer == running else (*self.modules, layer)
        node = Node(name=name, op=op, attrs=attrs, inputs=inputs, outputs=outputs, modules=modules)
        self.nodes.append(into_parts(node) if is_chunk else node)
