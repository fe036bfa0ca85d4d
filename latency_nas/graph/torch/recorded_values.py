"""`RecordedValues`: the values of the tensors that a model computes with, real ones and their fakes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from latency_nas.errors import GraphError
from latency_nas.graph.node import Value
from latency_nas.graph.normal_form.no_ops import is_zero
from latency_nas.graph.torch.choices import CandidateCalls
from latency_nas.graph.torch.fakes import Fakes, check_data
from latency_nas.graph.torch.model_tensors import ModelTensors
from latency_nas.graph.torch.numbers import Numbers
from latency_nas.graph.torch.ops import DTYPES, operands
from latency_nas.graph.torch.parameter_trace import ParameterTrace
from latency_nas.graph.torch.written import WrittenMemory

__all__ = ["Indices", "RecordedValues"]

Indices = tuple[int, ...]  # of values


class RecordedValues:
    """Knows which value of the graph each tensor is.

    Args:
        tensors: The model's parameters and buffers.
    """

    memory: WrittenMemory

    def __init__(self, tensors: ModelTensors) -> None:
        self.tensors = tensors
        self.fakes = Fakes()
        self.blank = self.fakes.blank
        self.names = {**tensors.buffers, **tensors.parameters}
        self.trace, self.numbers = ParameterTrace(tensors.parameters), Numbers(tensors.buffers)
        self.values: list[Value] = []
        self.choices: CandidateCalls | None = None
        self._index: dict[int, int] = {}  # id of a fake tensor -> value
        self._fake: dict[int, Tensor] = {}  # id of a real tensor -> its fake
        self._alive: list[Tensor] = []  # ids stay unique while the tensors live

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
        number = self.numbers.of(tensor) if parts == () and not parameter else None
        self.values.append(Value(
            shape=shape, dtype=dtype, constant=constant, parameter=parameter, parts=parts, number=number,
            literal=number is not None,
        ))  # fmt: skip
        self._alive.append(tensor)
        self._index[id(tensor)] = len(self.values) - 1
        return len(self.values) - 1

    def _literal(self, number: float, like: Tensor) -> int:
        """Index of a new value for a number of the code."""
        kind = DTYPES.get(like.dtype, "fp32")
        self.values.append(Value(shape=(), dtype=kind, constant=True, parts=(), number=float(number), literal=True))
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
        """Whether a tensor holds zeros, whatever the model's input and weights are."""
        return is_zero(self.values[self.find(tensor)])

    def is_weight(self, tensor: Tensor) -> bool:
        """Whether a fake represents a single number that was computed from constants."""
        value = self.values[self.find(tensor)]
        return tensor.numel() == 1 and value.constant and not value.parameter

    def _held(self, tensor: Tensor) -> int:
        """The value that an op wrote into a fake just now, whatever the memory held before."""
        index = self._index.get(id(tensor))
        return self.add(tensor, constant=True) if index is None else index

    def _inputs(self, name: str, args: Sequence[Any], tensors: Sequence[Tensor]) -> Indices:
        """The values that an op reads; those of an op of two operands with the number that one of them may be."""
        both = operands(name, args)
        like = next((item for item in both or () if isinstance(item, Tensor)), None)
        if both is None or like is None or not all(isinstance(item, Tensor | int | float) for item in both):
            return tuple(map(self.find, tensors))
        return tuple([self.find(item) if isinstance(item, Tensor) else self._literal(item, like) for item in both])
