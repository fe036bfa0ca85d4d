"""Reads a torch module into an `OpGraph` by running it once on fake tensors: real shapes, no arithmetic.

Limitations:
1. A forward that asks for a tensor's value (``.item()``, ``if x.any()``) is refused, with the layer's name.
2. Modules are read in evaluation mode, whatever mode they are in.
3. Tensors that are neither inputs, parameters nor computed from them are taken as constants.
"""

from __future__ import annotations

import random
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorMode,
)
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map_only

from latency_nas.errors import GraphError, InputMismatchError
from latency_nas.graph.op_graph import CHOICE, Node, OpGraph, Value
from latency_nas.graph.torch_ops import DTYPES, Attrs, is_identity, read_op

__all__ = ["read_torch", "unchanged"]


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Turns each aten op that is dispatched into a `Node`."""

    def __init__(self, fake_mode: FakeTensorMode, names: Mapping[int, str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.fake_mode = fake_mode
        self.parameter_names = names
        self.values: list[Value] = []
        self.nodes: list[Node] = []
        self.modules: list[str] = []
        self.failed_in: list[str] | None = None
        self._index: dict[int, int] = {}  # id of a fake tensor -> value
        self._fake: dict[int, Tensor] = {}  # id of a real tensor -> its fake
        self._alive: list[Tensor] = []  # ids stay unique while the tensors live
        self._used_names: Counter[str] = Counter()

    def fake(self, tensor: Tensor) -> Tensor:
        """The fake of a real tensor, made once, so that nothing real is read or written."""
        if isinstance(tensor, FakeTensor):
            return tensor
        if id(tensor) not in self._fake:
            self._alive.append(tensor)
            made = self.fake_mode.from_tensor(tensor, static_shapes=True)
            self._fake[id(tensor)] = made
            self.add(made, constant=True, parameter=self.parameter_names.get(id(tensor), ""))
        return self._fake[id(tensor)]

    def add(self, tensor: Tensor, *, constant: bool = False, parameter: str = "") -> int:
        """A new value for `tensor`."""
        dtype = DTYPES.get(tensor.dtype)
        if dtype is None:
            raise GraphError(f"Expected tensors of type {', '.join(map(str, DTYPES))}, but got {tensor.dtype}.")
        self.values.append(Value(shape=tuple(tensor.shape), dtype=dtype, constant=constant, parameter=parameter))
        self._alive.append(tensor)
        self._index[id(tensor)] = len(self.values) - 1
        return len(self.values) - 1

    def find(self, tensor: Tensor) -> int:
        """The value of `tensor`; one that was never seen is a constant."""
        index = self._index.get(id(tensor))
        return self.add(tensor, constant=True) if index is None else index

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        args, kwargs = tree_map_only(Tensor, self.fake, (args, kwargs or {}))
        tensors = [leaf for leaf in tree_flatten((args, kwargs))[0] if isinstance(leaf, Tensor)]
        inputs = tuple(self.find(tensor) for tensor in tensors)
        result = func(*args, **kwargs)
        made = [leaf for leaf in tree_flatten(result)[0] if isinstance(leaf, Tensor)]
        self._record(func, args, kwargs, inputs, made)
        return result

    def _record(self, func: Any, args: Any, kwargs: Any, inputs: tuple[int, ...], made: list[Tensor]) -> None:
        if not made:
            return
        if all(self.values[index].constant for index in inputs):
            for tensor in made:
                self._index.pop(id(tensor), None)  # computed from constants alone: folded by every converter
            return
        same_shape = tuple(made[0].shape) == self.values[inputs[0]].shape
        op, attrs = read_op(func, args, kwargs)
        if is_identity(func) or (op == "reshape" and same_shape):
            self._alive.append(made[0])
            self._index[id(made[0])] = inputs[0]
            return
        outputs = made[:1] if op in ("batch_norm", "layer_norm", "pool2d") else made  # the others are for training
        self.append(op, attrs, inputs, tuple(self.add(tensor) for tensor in outputs))

    def append(self, op: str, attrs: Attrs, inputs: tuple[int, ...], outputs: tuple[int, ...]) -> None:
        """File a node under the module that is running."""
        name = f"{self.modules[-1] if self.modules else ''}/{op}"
        self._used_names[name] += 1
        if self._used_names[name] > 1:
            name = f"{name}_{self._used_names[name]}"
        modules = tuple(self.modules)
        self.nodes.append(Node(name=name, op=op, attrs=attrs, inputs=inputs, outputs=outputs, modules=modules))

    def choose(self, name: str, candidates: Sequence[Tensor]) -> Tensor:
        """A new tensor that stands for one of `candidates`."""
        for index, tensor in enumerate(candidates):
            if not isinstance(tensor, Tensor) or tensor.shape != candidates[0].shape:
                raise GraphError(
                    f"Expected all candidates of `{name}` to give one tensor of the same shape, but candidate {index} "
                    f"gives {tuple(tensor.shape) if isinstance(tensor, Tensor) else type(tensor).__name__} "
                    f"and candidate 0 gives {tuple(candidates[0].shape)}."
                )
        inputs = tuple(self.find(tensor) for tensor in candidates)
        result = candidates[0].clone()
        self.append(CHOICE, {"name": name}, inputs, (self.add(result),))
        return result


@contextmanager
def _watched(model: nn.Module, recorder: _Recorder) -> Iterator[None]:
    """Keeps `recorder.modules` the stack of running modules."""
    handles = []

    def enter(name: str) -> Callable[..., None]:
        return lambda *_: recorder.modules.append(name)

    outer = sys.exc_info()[1]  # of a caller that reads a model while it handles an error

    def leave(*_: Any) -> None:
        if sys.exc_info()[1] is not outer and recorder.failed_in is None:
            recorder.failed_in = list(recorder.modules)
        recorder.modules.pop()

    try:
        for name, module in model.named_modules():
            handles.append(module.register_forward_pre_hook(enter(name), prepend=True))
            handles.append(module.register_forward_hook(leave, always_call=True))
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def unchanged(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside; afterwards every module holds what it held, and every random state is as before."""
    held = [(module, dict(vars(module))) for module in model.modules()]
    tensors = [
        (vars(module)[kind], dict(vars(module)[kind])) for module, _ in held for kind in ("_parameters", "_buffers")
    ]
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()
    try:
        for module, _ in held:
            module.training = False
        yield
    finally:
        for attributes, before in [*((vars(module), before) for module, before in held), *tensors]:
            attributes.clear()
            attributes.update(before)
        torch.set_rng_state(states[0])
        random.setstate(states[1])
        np.random.set_state(states[2])


def _run_all_candidates(model: nn.Module, choices: Mapping[str, Sequence[str]], recorder: _Recorder) -> None:
    """From now on each module that chooses runs all of its candidates on its first argument and mixes none."""

    def forward_of(name: str, candidates: list[nn.Module]) -> Callable[..., Tensor]:
        return lambda x, *_, **__: recorder.choose(name, [candidate(x) for candidate in candidates])

    for name, paths in choices.items():
        vars(model.get_submodule(name))["forward"] = forward_of(name, [model.get_submodule(path) for path in paths])


def read_torch(
    model: nn.Module,
    example_input: Tensor | tuple[Tensor, ...] | None = None,
    *,
    input_shape: Sequence[int] | None = None,
    choices: Mapping[str, Sequence[str]] | None = None,
) -> OpGraph:
    """Read a torch module by running it once on fake tensors.

    Nothing is computed and nothing of the model changes: not its weights, buffers, training flags or hooks, nor any
    random state.

    Args:
        model: the module, on any device (``meta`` too).
        example_input: what its forward takes: a tensor or a tuple of tensors. Only shapes and types matter.
        input_shape: instead of `example_input`, the shape of its one float input.
        choices: for a supernet, the name of each module that chooses -> the names of its candidates. Such a module is
            taken to give the output of one candidate, called with its own first argument.

    Returns:
        The graph, each op filed under the modules that called it.

    Raises:
        InputMismatchError: if a layer does not accept what reaches it; the message names the layer.
        GraphError: if the forward needs a tensor's value, or the candidates of a choice disagree in shape.

    Example:
        >>> graph = read_torch(nn.Sequential(nn.Linear(8, 4), nn.ReLU()), input_shape=(1, 8))
        >>> [node.name for node in graph.nodes]
        ['0/linear', '1/relu']
    """
    if (example_input is None) == (input_shape is None):
        raise GraphError("Expected either `example_input` or `input_shape`, and not both.")
    names = {id(tensor): name for name, tensor in [*model.named_buffers(), *model.named_parameters()]}
    fake_mode = FakeTensorMode(allow_non_fake_inputs=True)
    recorder = _Recorder(fake_mode, names)
    inputs = _fake_inputs(model, fake_mode, example_input, input_shape)
    indices = tuple(recorder.add(tensor) for tensor in inputs)
    with ExitStack() as stack:
        stack.enter_context(unchanged(model))
        _run_all_candidates(model, choices or {}, recorder)  # undone by `unchanged`
        stack.enter_context(_watched(model, recorder))
        stack.enter_context(torch.no_grad())
        stack.enter_context(fake_mode)
        stack.enter_context(recorder)
        result = _run(model, inputs, recorder)
    outputs = [leaf for leaf in tree_flatten(result)[0] if isinstance(leaf, Tensor)]
    return OpGraph(
        values=tuple(recorder.values),
        nodes=tuple(recorder.nodes),
        inputs=indices,
        outputs=tuple(recorder.find(tensor) for tensor in outputs),
    )


def _fake_inputs(
    model: nn.Module,
    mode: FakeTensorMode,
    example: Tensor | tuple[Tensor, ...] | None,
    shape: Sequence[int] | None,
) -> tuple[Tensor, ...]:
    if example is not None:
        tensors = (example,) if isinstance(example, Tensor) else tuple(example)
        for tensor in tensors:
            if not isinstance(tensor, Tensor):
                kind = type(tensor if isinstance(example, tuple | list) else example).__name__
                raise GraphError(f"Expected `example_input` to be a tensor or a tuple of tensors, but got {kind}.")
        return tuple(mode.from_tensor(tensor, static_shapes=True) for tensor in tensors)
    first = next(model.parameters(), None)
    with mode:
        return (torch.empty(tuple(shape or ()), device=first.device if first is not None else "cpu"),)


def _run(model: nn.Module, inputs: tuple[Tensor, ...], recorder: _Recorder) -> Any:
    """Call the model; an error gets the layer's name, once, here."""
    try:
        return model(*inputs)
    except GraphError:
        raise
    except Exception as error:
        where = recorder.failed_in or recorder.modules
        layer = f"layer `{where[-1]}`" if where and where[-1] else "the model's own forward"
        kind = type(model.get_submodule(where[-1]) if where else model).__name__
        if isinstance(error, DataDependentOutputException | DynamicOutputShapeException):
            raise GraphError(
                f"Expected a forward that does not depend on values, but {layer} ({kind}) asks for one ({error}): "
                f"take `.item()`, `bool(tensor)` and the like out of it."
            ) from error
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in inputs)
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputMismatchError(
            f"Expected an input that fits the model, but with the input {shapes} {layer} ({kind}) fails: {reason}"
        ) from error
