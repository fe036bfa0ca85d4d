"""`GateTrace`: follows architecture parameters through a forward, to the numbers that weight its tensors.

Every number of a followed tensor has a label: it is an element of a parameter, a gate (one of the numbers that a
softmax makes of such elements), or computed from a parameter in another way. Ops that only move numbers move the
labels. Noise that is added and a temperature leave the label as it is, so that a Gumbel-softmax gives gates, too, and
so does its straight-through form.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from latency_nas.graph.torch.aten import tensors_in

__all__ = ["Computed", "Element", "Gate", "GateTrace", "Label", "leaf_names"]

_NONE = -1  # label of a number that no parameter decides
_MAX_NUMEL = 65_536  # of a parameter; larger ones are weights of layers

# ops that only move the numbers of their first argument
_MOVES = frozenset({
    "select", "slice", "narrow", "view", "_unsafe_view", "reshape", "flatten", "unflatten", "unsqueeze", "squeeze", "t",
    "transpose", "permute", "movedim", "expand", "expand_as", "split", "split_with_sizes", "chunk", "unbind", "cat",
    "concat", "stack", "index", "index_select", "flip", "repeat",
})  # fmt: skip
_SAME = frozenset({
    "clone", "detach", "alias", "contiguous", "to", "_to_copy", "lift_fresh", "log_softmax", "_log_softmax", "type_as",
    "dropout", "requires_grad",
})  # fmt: skip
_SHIFTED_OR_SCALED = frozenset({"add", "sub", "rsub", "mul", "div"})
_SOFTMAX = frozenset({"softmax", "_softmax"})


@dataclass(frozen=True, slots=True)
class Element:
    """A number of a parameter: the parameter's name, and the index of the number in it when it is flattened."""

    parameter: str
    index: int


@dataclass(frozen=True, slots=True)
class Gate:
    """Number `index` of the softmax of `row`."""

    row: tuple[Element, ...]
    index: int


@dataclass(frozen=True, slots=True)
class Computed:
    """A number that was computed from a parameter, but is neither an element of it nor a gate."""

    parameter: str


Label = Element | Gate | Computed


class GateTrace:
    """Knows what the numbers of tensors are that were computed from architecture parameters.

    Args:
        names: Names of the leaf tensors that may be architecture parameters, by their ids.
    """

    def __init__(self, names: Mapping[int, str]) -> None:
        self._names = dict(names)
        self._labels: dict[int, Tensor] = {}  # id of a tensor -> the number of each label in `_table`
        self._table: list[Label] = []
        self._numbers: dict[Label, int] = {}
        self._single: set[str] = set()  # names of parameters of one number: on its own, it is no weight of a choice
        self._alive: list[Tensor] = []  # ids stay unique while the tensors live

    def labels(self, tensor: Tensor) -> list[Label | None] | None:
        """The label of each number of a tensor, flat; None for a tensor that no parameter decides."""
        found = self._of(tensor)
        return None if found is None else [self._label(number) for number in found.reshape(-1).tolist()]

    def copy(self, made: Tensor, tensor: Tensor) -> None:
        """Give a tensor the labels of another one."""
        if self.is_leaf(tensor):
            self._names[id(made)] = self._names[id(tensor)]
            self._alive.append(made)
        else:
            self._set(made, self._of(tensor))

    def is_leaf(self, tensor: Tensor) -> bool:
        """Whether a tensor is a parameter itself: its numbers are labelled once something is computed from it."""
        return id(tensor) in self._names

    def follow(self, name: str, func: Callable[..., Any], args: Any, kwargs: Mapping[str, Any], result: Any) -> None:
        """Label the result of an op on constants.

        Args:
            name: Name of the op in aten.
            func: The op.
            args: Its arguments.
            kwargs: Its named arguments.
            result: Tensor that it returned, or several.
        """
        labelled = {id(tensor): self._of(tensor) for tensor in tensors_in((*args, *kwargs.values()))}
        found = [labels for labels in labelled.values() if labels is not None]
        if not found or name.endswith("_like") or name.startswith("new_"):
            return
        moved = self._followed(name, func, args, kwargs, found)
        results = [result] if isinstance(result, Tensor) else list(tensors_in((result,)))
        parts = [moved] if isinstance(moved, Tensor) else list(moved or ())
        if [part.shape for part in parts] != [part.shape for part in results]:
            parameter = self._parameter_of(found[0])
            computed = _NONE if parameter in self._single else self._number(Computed(parameter))
            parts = [torch.full(part.shape, computed) for part in results]
        for part, labels in zip(results, parts, strict=True):
            if part.is_floating_point():  # others are indices and shapes
                self._set(part, labels)

    def _followed(self, name: str, func: Any, args: Any, kwargs: Any, found: Sequence[Tensor]) -> Any:
        if name in _MOVES:
            return func(tree_map_only(Tensor, self._or_none, args[0]), *args[1:], **kwargs)
        if name in _SAME:
            return found[0]
        if name in _SHIFTED_OR_SCALED:
            return self._agreed([self._or_none(arg) for arg in args[:2] if isinstance(arg, Tensor)])
        if name in _SOFTMAX:
            return self._gates(found[0], args[1] if len(args) > 1 else kwargs["dim"])
        return None

    def _agreed(self, operands: Sequence[Tensor]) -> Tensor | None:
        """The labels of operands of one op; none where two differ."""
        labels = operands[0]
        for other in operands[1:]:
            if bool(((labels != other) & (labels != _NONE) & (other != _NONE)).any()):
                return None
            labels = torch.maximum(labels, other)
        return labels

    def _gates(self, labels: Tensor, dim: int) -> Tensor | None:
        """The labels of a softmax, if each of its rows is of elements."""
        rows = labels.movedim(dim, -1) if labels.dim() else labels.reshape(1)
        found = []
        for row in rows.reshape(-1, rows.shape[-1]).tolist():
            elements = tuple(item for number in row if isinstance(item := self._label(number), Element))
            if len(elements) < len(row):
                return None
            found += [self._number(Gate(elements, index)) if len(row) > 1 else _NONE for index in range(len(row))]
        gates = torch.tensor(found).reshape(rows.shape)
        return gates.movedim(-1, dim) if labels.dim() else gates.reshape(())

    def _of(self, tensor: Tensor) -> Tensor | None:
        name = self._names.get(id(tensor))
        if name is not None and id(tensor) not in self._labels and tensor.numel() <= _MAX_NUMEL:
            if tensor.numel() == 1:
                self._single.add(name)
            numbers = [self._number(Element(name, index)) for index in range(tensor.numel())]
            self._set(tensor, torch.tensor(numbers).reshape(tensor.shape))
        return self._labels.get(id(tensor))

    def _or_none(self, tensor: Tensor) -> Tensor:
        labels = self._of(tensor)
        return torch.full(tensor.shape, _NONE) if labels is None else labels

    def _set(self, tensor: Tensor, labels: Tensor | None) -> None:
        if labels is not None:
            self._labels[id(tensor)] = labels
            self._alive.append(tensor)

    def _number(self, label: Label) -> int:
        if label not in self._numbers:
            self._numbers[label] = len(self._table)
            self._table.append(label)
        return self._numbers[label]

    def _label(self, number: int) -> Label | None:
        return None if number == _NONE else self._table[number]

    def _parameter_of(self, labels: Tensor) -> str:
        label = self._label(int(labels.max()))
        if isinstance(label, Gate):
            return label.row[0].parameter
        return label.parameter if label is not None else ""


def leaf_names(model: nn.Module) -> dict[int, str]:
    """Id -> name of the parameters of a model, and of plain tensors in its attributes that require a gradient."""
    names: dict[int, str] = {}
    for path, module in model.named_modules():
        for key, value in {**vars(module), **vars(module)["_parameters"]}.items():
            if isinstance(value, Tensor) and value.requires_grad and value.is_leaf:
                names.setdefault(id(value), f"{path}.{key}".lstrip("."))
    return names
