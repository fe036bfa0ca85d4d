"""Reads a torch module into an `OpGraph`, by running it once on fake tensors: with real shapes, without arithmetic.

Limitations:
1. A forward that uses a tensor's value (``.item()``, ``if x.any()``) is refused. The message names the layer.
2. Modules are always read in evaluation mode.
3. Tensors that are not inputs, not parameters, and not computed from them count as constants.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._pytree import tree_flatten, tree_map_only

from latency_nas.errors import GraphError
from latency_nas.graph.op_graph import OpGraph
from latency_nas.graph.torch.choices import CandidateCalls
from latency_nas.graph.torch.failure import failure
from latency_nas.graph.torch.gate_trace import GateTrace, leaf_names
from latency_nas.graph.torch.model_tensors import ModelTensors
from latency_nas.graph.torch.outside import Outside
from latency_nas.graph.torch.quantization import quantise_as_deployed
from latency_nas.graph.torch.recorded import graph_of
from latency_nas.graph.torch.recorder import Recorder
from latency_nas.graph.torch.unchanged import unchanged

__all__ = ["read_torch"]


@contextmanager
def _watched(model: nn.Module, recorder: Recorder) -> Iterator[None]:
    """Keep the stack of running modules in `recorder.modules`, inside the block."""
    handles = []

    def enter(name: str) -> Callable[..., None]:
        return lambda *_: recorder.modules.append(name)

    outer = sys.exc_info()[1]  # a caller may read a model while it handles an error

    def leave(*_: Any) -> None:
        if sys.exc_info()[1] is not outer and recorder.failed_in is None:
            recorder.failed_in = list(recorder.modules)
        recorder.modules.pop()

    try:
        for name, module in model.named_modules():
            if isinstance(module, torch.jit.ScriptModule):
                continue
            handles.append(module.register_forward_pre_hook(enter(name), prepend=True))
            handles.append(module.register_forward_hook(leave, always_call=True))
        yield
    finally:
        for handle in handles:
            handle.remove()


def read_torch(
    model: nn.Module,
    example_input: Any = None,
    *,
    input_shape: Sequence[int] | None = None,
    choices: Mapping[str, Sequence[str | None]] | None = None,
    run: Callable[[Any], Any] | None = None,
    known_weights: Container[str] = (),
) -> OpGraph:
    """Read a torch module by running it once on fake tensors.

    Nothing is computed, and the model is unchanged: its weights, buffers, training flags and hooks, and all random
    states.

    Args:
        model: Module on any device, also on ``meta``.
        example_input: Input of the forward: a tensor, a tuple of arguments, or a dict of named arguments, with tensors
            at any depth (token ids, for example). Only their shapes and types matter.
        input_shape: Shape of the only float input, instead of `example_input`. It has the type of the first parameter.
        choices: Name of each choice of a supernet -> names of its candidates, None for one that is switched off. Where
            the forward calls some of them, all are read (see `latency_nas.graph.torch.choices`).
        run: Function that calls the module once with its arguments, instead of `example_input`. The tensors among the
            arguments that need no gradient are the inputs.
        known_weights: Names of the architecture parameters that `choices` have their weights from. With `choices`, a
            sum whose weights are the softmax of other parameters is read as a choice among its summands (see
            `latency_nas.graph.torch.weighted_sums`).

    Returns:
        The graph. Each op has the names of the modules that called it.

    Raises:
        InputMismatchError: if a layer does not accept its input. The message names the layer.
        GraphError: if the forward uses a tensor's value, or the candidates of a choice have different shapes.

    Example:
        >>> graph = read_torch(nn.Sequential(nn.Linear(8, 4), nn.ReLU()), input_shape=(1, 8))
        >>> [node.name for node in graph.nodes]
        ['0/linear', '1/relu']
    """
    if run is None and (example_input is None) == (input_shape is None):
        got = "neither (--input-shape at the command line)" if example_input is None else "both"
        raise GraphError(f"Expected either `example_input` or `input_shape`, but got {got}.")
    model = getattr(model, "_orig_mod", model)  # `torch.compile` wraps the module
    recorder, outside = Recorder(ModelTensors.of(model)), Outside(model.modules())
    try:
        return _recorded(model, recorder, (example_input, input_shape), choices, run, known_weights)
    finally:
        if left := recorder.release():
            outside.clear(left)


def _recorded(
    model: nn.Module,
    recorder: Recorder,
    given: tuple[Any, Sequence[int] | None],
    choices: Mapping[str, Sequence[str | None]] | None,
    run: Callable[[Any], Any] | None,
    known_weights: Container[str],
) -> OpGraph:
    """Run the model on fakes; what was recorded."""
    args, kwargs = ((), {}) if run else _fake_inputs(model, recorder, *given)
    indices = [recorder.add(tensor) for tensor in _tensors((args, kwargs))]
    with ExitStack() as stack:
        stack.enter_context(unchanged(model))
        if choices:
            followed = {key: name for key, name in leaf_names(model).items() if name not in known_weights}
            recorder.choices = CandidateCalls(recorder, choices, GateTrace(followed))
            recorder.choices.intercept(model)  # undone by `unchanged`
        stack.callback(recorder.overwritten.put_back)
        quantise_as_deployed(model)  # undone by `unchanged`
        stack.enter_context(_watched(model, recorder))
        if run is not None:
            stack.enter_context(_inputs_faked(model, recorder, indices))
        stack.enter_context(_as_written(model))
        stack.enter_context(_below_autograd(recorder.tensors.tensors))
        stack.enter_context(recorder)
        result = _run(model, args, kwargs, recorder, run)
    if recorder.choices is not None:
        recorder.choices.sums.check()
    outputs = _outputs(result) if run is None else _outputs(result) or recorder.unread()
    if not outputs and run is None:
        raise GraphError(f"Expected a forward that returns tensors, but {type(model).__name__} returns {type(result)}.")
    found = tuple(recorder.find(tensor) for tensor in outputs)  # may add nodes
    return graph_of(recorder, tuple(indices), found)


@contextmanager
def _below_autograd(tensors: Sequence[Tensor]) -> Iterator[None]:
    """Let torch dispatch whole ops, such as ``linear``, inside the block.

    `torch.inference_mode` does so too, but a constant that a forward computes in it cannot be used in training.
    """
    of_inference = any(tensor.is_inference() for tensor in tensors)
    with torch.inference_mode(of_inference), torch.no_grad(), torch._C._AutoDispatchBelowAutograd():
        yield


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_flatten(tree)[0] if isinstance(leaf, Tensor)]


def _outputs(result: Any, depth: int = 4) -> list[Tensor]:
    """The tensors in what a forward returned, also in the attributes of its objects."""
    found: list[Tensor] = []
    for item in tree_flatten(result)[0]:
        if isinstance(item, Tensor):
            found.append(item)
        elif depth and hasattr(item, "__dict__"):
            found += _outputs([*item.values()] if isinstance(item, Mapping) else vars(item), depth - 1)
    return found


@contextmanager
def _as_written(model: nn.Module) -> Iterator[None]:
    """Run no compiled modules inside the block, and none of torch's fused ops, which no exporter has."""
    fast = torch.backends.mha.get_fastpath_enabled()
    compiled = any(
        "_orig_mod" in part.get("_modules", ()) or part.get("_compiled_call_impl")
        for part in map(vars, model.modules())
    )
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with (
            torch.compiler.set_stance("force_eager") if compiled else nullcontext(),
            torch.jit.optimized_execution(False),  # type: ignore[attr-defined]
        ):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def _fake_inputs(
    model: nn.Module, recorder: Recorder, example: Any, shape: Sequence[int] | None
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Fake positional and named arguments for the forward."""
    if example is None:
        first = next(filter(Tensor.is_floating_point, (*model.parameters(), *model.buffers())), torch.empty(()))
        strides = torch.empty(tuple(shape or ()), device="meta").stride()
        return (recorder.blank(tuple(shape or ()), strides, first.dtype, first.device),), {}
    named = dict(example) if isinstance(example, Mapping) else {}
    args = () if named else tuple(example) if isinstance(example, tuple | list) else (example,)
    if not _tensors((args, named)):
        raise GraphError(
            f"Expected `example_input` to be a tensor, or a tuple or dict with tensors in it, "
            f"but got {type(example).__name__}."
        )
    fakes: tuple[tuple[Any, ...], dict[str, Any]] = tree_map_only(Tensor, recorder.fakes.of, (args, named))
    return fakes


@contextmanager
def _inputs_faked(model: nn.Module, recorder: Recorder, indices: list[int]) -> Iterator[None]:
    """Fake the tensors that the model is called with, inside the block. Tensors that need a gradient are gates.

    A call may be of the model, of one of its own methods, or of a module inside; only the outermost one gets inputs.
    """
    made: dict[int, Tensor] = {}
    running: list[str] = []  # methods

    def fake(tensor: Tensor) -> Tensor:
        if tensor.requires_grad or isinstance(tensor, FakeTensor):
            return tensor
        if id(tensor) not in made:
            made[id(tensor)] = recorder.fakes.of(tensor)
            indices.append(recorder.add(made[id(tensor)]))
        return made[id(tensor)]

    def enter(_: nn.Module, args: Any, kwargs: Any) -> Any:
        return (args, kwargs) if running or recorder.modules else tree_map_only(Tensor, fake, (args, kwargs))

    def wrapped(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def call(*args: Any, **kwargs: Any) -> Any:
            args, kwargs = enter(model, args, kwargs)
            running.append(name)
            try:
                return method(*args, **kwargs)
            finally:
                running.pop()

        return call

    # the first of a module's hooks, so that the module does not count as running yet
    parts = [part for part in model.modules() if not isinstance(part, torch.jit.ScriptModule)]
    handles = [part.register_forward_pre_hook(enter, prepend=True, with_kwargs=True) for part in parts]
    for kind in type(model).__mro__[: type(model).__mro__.index(nn.Module)]:
        for name, method in vars(kind).items():
            if isinstance(method, FunctionType) and not name.startswith("_") and name not in vars(model):
                vars(model)[name] = wrapped(name, getattr(model, name))  # undone by `unchanged`
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _run(
    model: nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    recorder: Recorder,
    run: Callable[[Any], Any] | None,
) -> Any:
    """Call the model. Errors get the name of the layer here."""
    try:
        return model(*args, **kwargs) if run is None else run(model)
    except Exception as error:  # whatever a forward raises
        where = recorder.failed_in or recorder.modules
        name = f"layer `{where[-1]}`" if where and where[-1] else "the model's own forward"
        kind = type(model.get_submodule(where[-1]) if where else model).__name__
        inside = recorder.raised if "TorchScript interpreter" in str(error) else None
        said = failure(inside or error, f"{name} ({kind})", _tensors((args, kwargs)))
        raise said from (None if said is error else error)
