"""Reads the file of an exported program (``torch.export.save``): the ops in its JSON are called on fake tensors.

`torch.export.load` executes pickles and evaluates expressions that such a file holds. Neither is done here: shapes of
weights and the ops with their arguments are plain JSON, and only ops of torch's own libraries are called. An op of
another library is a node by its name, with outputs of the shapes that the file states. The contents of weights and
constants are not read.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from latency_nas.errors import GraphError, InputMismatchError, short_repr
from latency_nas.graph.op_graph import OpGraph
from latency_nas.graph.torch.aten import tensors_in
from latency_nas.graph.torch.exported_archive import program_in
from latency_nas.graph.torch.exported_schema import LIBRARIES, TYPES, VALUES, function_of, library_of
from latency_nas.graph.torch.failure import failure
from latency_nas.graph.torch.model_tensors import ModelTensors
from latency_nas.graph.torch.recorded import graph_of
from latency_nas.graph.torch.recorder import Recorder

__all__ = ["read_exported_file"]

_IS_PLAIN = ("as_int", "as_ints", "as_bool", "as_bools", "as_string", "as_strings", "as_int_lists")


def read_exported_file(path: Path, example_input: Any, input_shape: Sequence[int] | None) -> OpGraph:
    """Read a file of `torch.export.save`.

    Args:
        path: File, ``.pt2``.
        example_input: All inputs, in the order of the file's; only shapes matter. None if the file leaves no size open.
        input_shape: Shape of the only input whose sizes are open, instead of `example_input`.

    Raises:
        GraphError: if the file is damaged, or calls what is no op of torch.
        InputMismatchError: if shapes are missing or do not fit, or there are several open inputs for `input_shape`.
    """
    with _understood(path):
        program = _Program(program_in(path), path)
        try:
            return _recorded(program, example_input, input_shape)
        finally:
            program.recorder.release()


def _recorded(program: _Program, example_input: Any, input_shape: Sequence[int] | None) -> OpGraph:
    """Call the ops of a program on fakes; what was recorded."""
    recorder = program.recorder
    with torch.inference_mode(False), torch.no_grad():
        inputs = program.inputs(example_input, input_shape)
        with torch._C._AutoDispatchBelowAutograd(), recorder:
            program.run()
    outputs = tuple(map(recorder.find, program.outputs()))
    return graph_of(recorder, inputs, outputs)


@contextmanager
def _understood(path: Path) -> Iterator[None]:
    """Raise a `GraphError` for whatever a damaged file leads to inside the block."""
    try:
        yield
    except GraphError:
        raise
    except (LookupError, AttributeError, TypeError, ValueError, RuntimeError, OSError, zipfile.BadZipFile) as error:
        raise GraphError(
            f"Expected {path} to be a file of torch.export, but it is damaged ({type(error).__name__})."
        ) from error


class _Program:
    """The ops of a program, and its tensors as they are computed.

    Args:
        read: Its graph and its signature.
        path: File that it was read from, for messages.
    """

    def __init__(self, read: Mapping[str, Any], path: Path) -> None:
        self.graph, self.path = read["graph"], path
        self.specs: list[tuple[str, Any]] = [next(iter(spec.items())) for spec in read["signature"]["input_specs"]]
        self.results = [spec["user_output"] for spec in read["signature"]["output_specs"] if "user_output" in spec]
        parameters = self._held("parameter", torch.empty)
        buffers = self._held("buffer", torch.zeros) | self._held("tensor_constant", torch.zeros)
        self.values: dict[str, Any] = {name: tensor for name, (tensor, _) in (parameters | buffers).items()}
        self.recorder = Recorder(ModelTensors.named(parameters.values(), buffers.values()))

    def _held(self, kind: str, make: Callable[..., Tensor]) -> dict[str, tuple[Tensor, str]]:
        """The tensors of a kind that the program holds, and their names, by their names in the graph."""
        found = {}
        for spec_kind, spec in self.specs:
            if spec_kind == kind:
                name = spec["arg"]["name"]
                shape, strides, dtype = self._meta(name)
                memory = make(
                    1 + sum((size - 1) * step for size, step in zip(shape, strides, strict=True)), dtype=dtype
                )
                found[name] = (
                    (memory.as_strided(shape, strides) if all(shape) else make(shape, dtype=dtype)),
                    spec[f"{kind}_name"],
                )
        return found

    def _meta(
        self, name: str, given: Sequence[int] | None = None
    ) -> tuple[tuple[int, ...], tuple[int, ...], torch.dtype]:
        """The shape, strides and type of a tensor of the graph; a given shape is contiguous."""
        meta = self.graph["tensor_values"][name]
        if meta["dtype"] not in TYPES:
            raise GraphError(
                f"Expected tensors of the types of `torch.export` in {self.path}, but got {meta['dtype']}."
            )
        if given is not None:
            return tuple(given), torch.empty(tuple(given), device="meta").stride(), TYPES[meta["dtype"]]
        return tuple(_sizes(meta["sizes"])), tuple(_sizes(meta["strides"])), TYPES[meta["dtype"]]

    def inputs(self, example_input: Any, input_shape: Sequence[int] | None) -> tuple[int, ...]:
        """Make the fakes of the inputs; their values in the graph."""
        named = {
            spec["arg"]["as_tensor"]["name"]: None
            for kind, spec in self.specs
            if kind == "user_input" and "as_tensor" in spec["arg"]
        }
        opened = [name for name in named if _is_open(self.graph["tensor_values"][name]["sizes"])]
        if example_input is not None:
            shapes = self._shown([*named], example_input)
        else:
            shapes = self._given(opened or [*named], opened, input_shape)
        indices = []
        for name in named:
            shape, strides, dtype = self._meta(name, shapes.get(name))
            self.values[name] = fake = self.recorder.blank(shape, strides, dtype, torch.device("cpu"))
            indices.append(self.recorder.add(fake))
        return tuple(indices)

    def _given(
        self, takes: Sequence[str], opened: Sequence[str], shape: Sequence[int] | None
    ) -> dict[str, Sequence[int]]:
        """The shape of each input that one is given for.

        Raises:
            InputMismatchError: if there is none for an open input, or it fits no input.
        """
        if shape is None and not opened:
            return {}
        if shape is None or len(takes) != 1:
            raise InputMismatchError(
                f"Expected `input_shape` for the one input of {self.path} whose sizes are open, but got "
                f"{short_repr(shape)} for {', '.join(takes)}: export it with fixed sizes of all others."
            )
        self._check_fit(takes[0], shape)
        return {takes[0]: shape}

    def _shown(self, takes: Sequence[str], example_input: Any) -> dict[str, Sequence[int]]:
        """The shape of each input in an example.

        Raises:
            InputMismatchError: if there are more or fewer tensors than inputs, or one does not fit.
        """
        tensors = [leaf for leaf in tree_leaves(example_input) if isinstance(leaf, Tensor)]
        if len(tensors) != len(takes):
            raise InputMismatchError(
                f"Expected {len(takes)} tensors in `example_input` ({', '.join(takes)}), as {self.path} was exported, "
                f"but got {len(tensors)}."
            )
        for name, tensor in zip(takes, tensors, strict=True):
            self._check_fit(name, tensor.shape)
        return {name: tuple(tensor.shape) for name, tensor in zip(takes, tensors, strict=True)}

    def _check_fit(self, name: str, shape: Sequence[int]) -> None:
        """Check the shape of an input.

        Raises:
            InputMismatchError: if it has other sizes than the file, where these are fixed.
        """
        known = self.graph["tensor_values"][name]["sizes"]
        fits = len(known) == len(shape) and all(
            size.get("as_int", given) == given for size, given in zip(known, shape, strict=True)
        )
        if not fits:
            listed = ", ".join(str(size.get("as_int", "any")) for size in known)
            raise InputMismatchError(
                f"Expected `input_shape` of `{name}` to be ({listed}), as {self.path} was exported, but got "
                f"{tuple(shape)}."
            )

    def run(self) -> None:
        """Call the ops in order."""
        for node in self.graph["nodes"]:
            stack = str(node.get("metadata", {}).get("nn_module_stack", ""))
            self.recorder.modules = [
                entry.split(",")[1].partition("@")[0] for entry in stack.split(";") if "," in entry
            ]
            args = [self._argument(item["arg"]) for item in node["inputs"] if item.get("kind") != 2]
            kwargs = {item["name"]: self._argument(item["arg"]) for item in node["inputs"] if item.get("kind") == 2}
            library = library_of(node["target"], self.path)
            if library not in LIBRARIES:
                self._run_unknown(node, [*args, *kwargs.values()])
                continue
            try:
                result = function_of(node["target"])(*args, **kwargs)
            except GraphError:
                raise
            except Exception as error:
                layer = f"layer `{self.recorder.modules[-1]}`" if self.recorder.modules else "the program"
                inputs = [tensor for tensor in args if isinstance(tensor, Tensor)]
                raise failure(error, f"{layer} ({node['target']})", inputs) from error
            self._store(node["outputs"], result)

    def _run_unknown(self, node: Mapping[str, Any], args: Sequence[Any]) -> None:
        """Record an op of another library without calling it, with outputs as the file states them.

        Raises:
            GraphError: if their sizes are open.
        """
        name = "::".join(node["target"].split(".")[2:4])
        written = [item for output in node["outputs"] for item in _tensors_written(output)]
        if any(_is_open(self.graph["tensor_values"][item]["sizes"]) for item in written):
            raise GraphError(
                f"Expected fixed sizes of what ops of other libraries than torch's make, but those of {name} are open "
                f"in {self.path}: export it with fixed sizes."
            )
        made = [self.recorder.blank(*self._meta(item), torch.device("cpu")) for item in written]
        read = tuple(map(self.recorder.find, tensors_in(args)))
        self.recorder.append(name, {}, read, tuple(map(self.recorder.add, made)))
        self.values |= dict(zip(written, made, strict=True))

    def outputs(self) -> list[Tensor]:
        """The tensors that the program returns."""
        found = [self._argument(spec["arg"]) for spec in self.results]
        return [item for item in found if isinstance(item, Tensor)]

    def _argument(self, given: Mapping[str, Any]) -> Any:
        """The value of an argument, which is written as ``{"as_<kind>": value}``."""
        [(kind, value)] = given.items()
        if kind in _IS_PLAIN:
            return value
        if kind in ("as_tensor", "as_optional_tensor") and "name" in value:
            return self.values[value["name"]]
        if kind == "as_optional_tensor":
            return self._argument(value)
        if kind in ("as_tensors", "as_optional_tensors", "as_sym_ints", "as_sym_bools", "as_sym_floats"):
            return [self.values[item["name"]] if "name" in item else self._argument(item) for item in value]
        if kind == "as_name":
            return self.values[value]
        if kind in ("as_sym_int", "as_sym_bool", "as_sym_float"):
            return self._argument(value)
        if kind not in VALUES:
            raise GraphError(
                f"Expected arguments that are tensors or numbers in {self.path}, but got {short_repr(kind)}."
            )
        return VALUES[kind](value)

    def _store(self, outputs: Sequence[Mapping[str, Any]], result: Any) -> None:
        """Keep the results of an op by their names. An assertion has none."""
        if not outputs:
            return
        results = [result] if len(outputs) == 1 else result
        for written, made in zip(outputs, results, strict=True):
            [(kind, value)] = written.items()
            if kind == "as_tensors":
                self.values |= {item["name"]: part for item, part in zip(value, made, strict=True)}
            elif kind in ("as_tensor", "as_optional_tensor") and "name" in value:
                self.values[value["name"]] = made[0] if isinstance(made, tuple | list) and len(made) == 1 else made
            elif kind.startswith("as_sym") and "as_name" in value:
                self.values[value["as_name"]] = made


def _tensors_written(output: Mapping[str, Any]) -> list[str]:
    """Names of the tensors in an output of an op."""
    [(kind, value)] = output.items()
    items = value if kind == "as_tensors" else [value] if kind in ("as_tensor", "as_optional_tensor") else []
    return [item["name"] for item in items if "name" in item]


def _is_open(sizes: Sequence[Mapping[str, Any]]) -> bool:
    return not all("as_int" in size for size in sizes)


def _sizes(sizes: Sequence[Mapping[str, Any]]) -> list[int]:
    return [int(size["as_int"]) for size in sizes]
