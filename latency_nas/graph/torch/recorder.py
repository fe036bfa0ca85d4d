"""Records the aten ops that a module dispatches as the nodes of an `OpGraph`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from latency_nas.errors import GraphError
from latency_nas.graph.normal_form.spellings import into_parts
from latency_nas.graph.op_graph import Node, Value
from latency_nas.graph.torch.aten import decomposition, is_view, tensors_in, tensors_of, written_by
from latency_nas.graph.torch.choices import CandidateCalls
from latency_nas.graph.torch.fakes import Fakes, check_data
from latency_nas.graph.torch.model_tensors import ModelTensors
from latency_nas.graph.torch.ops import DTYPES, IDENTITY, SHAPE_ONLY, Attrs, full_name, is_random, name_of, read_op
from latency_nas.graph.torch.overwritten import Overwritten
from latency_nas.graph.torch.parameter_trace import ParameterTrace
from latency_nas.graph.torch.quantization import quantised
from latency_nas.graph.torch.rewrites import SEPARATE, WHOLE, rewrite_of
from latency_nas.graph.torch.written import WrittenMemory
from latency_nas.kernel import OPS

__all__ = ["Recorder"]

_IDLE_IF_SAME_SHAPE = frozenset({"reshape", "expand", "tile", "slice"})
_WITH_SCALARS = frozenset(op for op, (_, optional) in OPS.items() if "scalar" in optional)
_KEPT = IDENTITY | SHAPE_ONLY | WHOLE.keys()  # not decomposed
_Indices = tuple[int, ...]  # of values


class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records each dispatched aten op as a `Node`.

    Args:
        tensors: The model's parameters and buffers.
    """

    def __init__(self, tensors: ModelTensors) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.tensors = tensors
        self.fakes, self.overwritten = Fakes(), Overwritten()
        self.blank = self.fakes.blank
        self.names = {**tensors.buffers, **tensors.parameters}
        self.trace = ParameterTrace(tensors.parameters)
        self.values: list[Value] = []
        self.nodes: list[Node] = []
        self.modules: list[str] = []
        self.failed_in: list[str] | None = None
        self.raised: Exception | None = None
        self.choices: CandidateCalls | None = None
        self.memory = WrittenMemory(self)
        self._index: dict[int, int] = {}  # id of a fake tensor -> value
        self._fake: dict[int, Tensor] = {}  # id of a real tensor -> its fake
        self._zeros: set[int] = set()  # ids of fakes of zeros
        self._alive: list[Tensor] = []  # ids stay unique while the tensors live
        self._used_names: Counter[str] = Counter()

    def fake(self, tensor: Tensor) -> Tensor:
        """The fake of a real tensor, made on first use. With it, no real tensor is read or written."""
        if isinstance(tensor, FakeTensor):
            return tensor
        if self.memory.holds(tensor):
            made, is_constant = self.memory.fake(tensor)
            if is_constant:
                self._stand_for(made, tensor, self.add(made, constant=True, parameter=self.names.get(id(tensor), "")))
            return made
        known = self._fake.get(id(tensor))
        if known is not None and known.shape == tensor.shape and known.device == tensor.device:
            return known
        check_data(tensor, self.names.get(id(tensor)), self.tensors.on_meta)
        if known is not None:
            del self._index[id(tensor)]
        index = self.find(tensor)
        self._fake[id(tensor)] = made = self._made(tensor)
        self._stand_for(made, tensor, index)
        return made

    def _stand_for(self, made: Tensor, tensor: Tensor, index: int) -> None:
        """Record that a fake stands for a real tensor, of a value that is constant."""
        self._index[id(made)] = index
        self.trace.copy_parts(made, tensor)
        if self.choices is not None:
            self.choices.gates.copy(made, tensor)
        if self.choices is not None and not tensor.is_meta and not tensor.any():
            self._zeros.add(id(made))

    def _made(self, tensor: Tensor) -> Tensor:
        if type(tensor) not in (Tensor, torch.nn.Parameter) or tensor.layout != torch.strided or tensor.is_meta:
            return self.fakes.of(tensor)
        return self.blank(tensor.shape, tensor.stride(), tensor.dtype, tensor.device)

    def add(self, tensor: Tensor, *, constant: bool = False, parameter: str = "") -> int:
        """Add a value for a tensor; its index."""
        dtype = DTYPES.get(tensor.dtype)
        if dtype is None:
            raise GraphError(f"Expected tensors of type {', '.join(map(str, DTYPES))}, but got {tensor.dtype}.")
        parts = self.trace.parts(tensor) if constant and self.tensors.are_known else None
        shape = tuple(tensor.shape)
        self.values.append(Value(shape=shape, dtype=dtype, constant=constant, parameter=parameter, parts=parts))
        self._alive.append(tensor)
        self._index[id(tensor)] = len(self.values) - 1
        return len(self.values) - 1

    def find(self, tensor: Tensor) -> int:
        """Index of the value of a real or fake tensor. A tensor that was not seen before is a constant."""
        if self.memory.holds(tensor):
            tensor = self.fake(tensor)
        index = self.memory.value(tensor)
        if index is not None:
            self._index[id(tensor)] = index
        index = self._index.get(id(tensor))
        if index is None:
            return self.add(tensor, constant=True, parameter=self.names.get(id(tensor), ""))
        return index

    def unread(self) -> list[Tensor]:
        """The tensors that nodes made and none reads: what a function that returns nothing ran."""
        read = {index for node in self.nodes for index in node.inputs}
        made = {index for node in self.nodes for index in node.outputs}
        found = {index: tensor for tensor in self._alive if (index := self._index.get(id(tensor), -1)) in made - read}
        return list(found.values())

    def whole(self, storage: int) -> int | None:
        """The value of a tensor that has all of a memory."""
        for tensor in reversed(self._alive):
            memory = tensor.untyped_storage()
            if memory._cdata == storage and tensor.numel() * tensor.element_size() == memory.nbytes():
                return self._index.get(id(tensor))
        return None

    def is_constant(self, tensor: Tensor) -> bool:
        """Whether a tensor is known before the model runs."""
        return self.values[self.find(tensor)].constant

    def is_zero(self, tensor: Tensor) -> bool:
        """Whether a fake represents zeros that existed before the model ran."""
        return id(tensor) in self._zeros

    def is_weight(self, tensor: Tensor) -> bool:
        """Whether a fake represents a single number that was computed from constants."""
        value = self.values[self.find(tensor)]
        return tensor.numel() == 1 and value.constant and not value.parameter

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
        inputs = tuple(map(self.find, read))
        try:
            result = self.fakes.run(func, args, kwargs, self.fake)
        except Exception as error:
            self.raised = error
            raise
        made = tensors_of(result) or list(map(self.fake, written))
        self.fakes.note(made)
        if made:
            folds = not is_random(func) and all(self.values[index].constant for index in inputs)
            self._record(name, op or (full_name(name), {}), inputs, made, folds)
            if name not in SHAPE_ONLY and folds:
                self.trace.follow(tensors, made, view=is_view(func))
            for tensor in map(self.fake, written):
                self._zeros.discard(id(tensor))
                self.memory.wrote(tensor, self._held(tensor))
            for tensor in () if written else made:
                self.memory.note(tensor)
        return result

    def _held(self, tensor: Tensor) -> int:
        """The value that an op wrote into a fake just now, whatever the memory held before."""
        index = self._index.get(id(tensor))
        return self.add(tensor, constant=True) if index is None else index

    def _record(self, name: str, read: tuple[str, Attrs], inputs: _Indices, made: list[Tensor], folds: bool) -> None:
        """Add the node of an op; none if it computes a constant (it folds), or changes nothing."""
        if name in ("zeros_like", "new_zeros"):
            self._alive += made
            self._zeros.update(map(id, made))
        if name in SHAPE_ONLY or folds:
            for tensor in made:
                self._index.pop(id(tensor), None)  # a constant: every converter folds it
            return
        if (dtype := next((item.dtype for item in made if item.dtype not in DTYPES), None)) is not None:
            raise GraphError(
                f"Expected ops on tensors of type {', '.join(map(str, DTYPES))}, but {full_name(name)} gives {dtype}."
            )
        op, attrs = read
        source = self.values[inputs[0]]
        same_shape, same_dtype = tuple(made[0].shape) == source.shape, DTYPES.get(made[0].dtype) == source.dtype
        idle = op in _IDLE_IF_SAME_SHAPE and same_shape and "steps" not in attrs
        if name in IDENTITY or idle or (op == "pad" and not any(attrs["pads"])) or (op == "cast" and same_dtype):  # type: ignore[arg-type]
            self._alive.append(made[0])
            self._index[id(made[0])] = inputs[0]
            if len(made) > 1:  # the mask of a dropout, which runs if something reads it
                self.append(full_name(name), {}, inputs, tuple(map(self.add, made[1:])))
            return
        if op in _WITH_SCALARS and self._has_scalar(op, inputs):
            attrs = {"scalar": 1}
        self.append(op, attrs, inputs, tuple(map(self.add, made)))

    def _has_scalar(self, op: str, inputs: tuple[int, ...]) -> bool:
        """Whether an operand is a number: a Python number or a constant of one element."""
        operands = [self.values[index] for index in inputs]
        n_operands = 3 if op == "where" else 2
        return len(operands) < n_operands or any(value.constant and prod(value.shape) == 1 for value in operands)

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
        self.choices, self.memory, self.trace = None, WrittenMemory(self), ParameterTrace({})
        for held in (self._index, self._fake, self._zeros, self._alive):
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
