"""Reads the file of an exported program (``torch.export.save``): the ops in its JSON are called on fake tensors.

`torch.export.load` executes pickles and evaluates expressions that such a file holds. Neither is done here: shapes of
weights and the ops with their arguments are plain JSON, and only ops of torch's own libraries are called. The contents
of weights and constants are not read.
"""

from __future__ import annotations

import json
import math
import operator
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from latency_nas.errors import GraphError, InputMismatchError, short_repr
from latency_nas.graph.op_graph import OpGraph
from latency_nas.graph.torch.failure import failure
from latency_nas.graph.torch.model_tensors import ModelTensors
from latency_nas.graph.torch.recorder import Recorder

__all__ = ["is_exported", "read_exported_file"]

_MAX_BYTES = 1 << 28
# numbers of types, as in the schema of `torch.export`
_TYPES = {
    1: torch.uint8, 2: torch.int8, 3: torch.int16, 4: torch.int32, 5: torch.int64, 6: torch.float16, 7: torch.float32,
    8: torch.float64, 10: torch.complex64, 12: torch.bool, 13: torch.bfloat16,
}  # fmt: skip
_MEMORY_FORMATS = {
    1: torch.contiguous_format, 2: torch.channels_last, 3: torch.channels_last_3d, 4: torch.preserve_format,
}  # fmt: skip
# functions of sizes
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    **{f"_operator.{name}": getattr(operator, name) for name in (
        "add", "sub", "mul", "floordiv", "truediv", "mod", "neg", "pow", "eq", "ne", "lt", "le", "gt", "ge", "and_",
        "or_", "getitem",
    )},
    **{f"math.{name}": getattr(math, name) for name in ("ceil", "floor", "trunc", "sqrt")},
    "torch.sym_float": float, "torch.sym_max": max, "torch.sym_min": min, "torch.sym_not": operator.not_,
}  # fmt: skip
_LIBRARIES = frozenset({"aten", "prims", "torchvision", "quantized_decomposed"})
_NEVER = frozenset({"from_file"})  # touches files
_IS_PLAIN = ("as_int", "as_ints", "as_bool", "as_bools", "as_string", "as_strings", "as_int_lists")


def is_exported(names: Sequence[str]) -> bool:
    """Whether an archive with entries of these names holds an exported program."""
    return any(_is_program(name) for name in names)


def _is_program(name: str) -> bool:
    return name == "serialized_exported_program.json" or name.endswith("/models/model.json")


def read_exported_file(path: Path, input_shape: Sequence[int] | None) -> OpGraph:
    """Read a file of `torch.export.save`.

    Args:
        path: File, ``.pt2``.
        input_shape: Shape of the only input whose sizes are open; None if the file leaves none open.

    Raises:
        GraphError: if the file is damaged, or calls ops that are not of torch's own libraries.
        InputMismatchError: if `input_shape` is missing, does not fit, or there are several open inputs.
    """
    with _understood(path):
        program = _Program(_read_json(path), path)
        try:
            return _recorded(program, input_shape)
        finally:
            program.recorder.release()


def _recorded(program: _Program, input_shape: Sequence[int] | None) -> OpGraph:
    """Call the ops of a program on fakes; what was recorded."""
    recorder = program.recorder
    with torch.inference_mode(False), torch.no_grad():
        inputs = program.inputs(input_shape)
        with torch._C._AutoDispatchBelowAutograd(), recorder:
            program.run()
    outputs = tuple(map(recorder.find, program.outputs()))
    values, nodes = tuple(recorder.values), tuple(recorder.nodes)
    return OpGraph(values=values, nodes=nodes, inputs=inputs, outputs=outputs).without_dead_nodes()


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


def _read_json(path: Path) -> Mapping[str, Any]:
    with zipfile.ZipFile(path) as archive:
        [entry] = [item for item in archive.infolist() if _is_program(item.filename)]
        if entry.file_size > _MAX_BYTES:
            raise GraphError(f"Expected {path} to describe its program in at most {_MAX_BYTES >> 20} MiB.")
        read = json.loads(archive.read(entry))
    return {name: read["graph_module"][name] for name in ("graph", "signature")}


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
        if meta["dtype"] not in _TYPES:
            raise GraphError(
                f"Expected tensors of the types of `torch.export` in {self.path}, but got {meta['dtype']}."
            )
        if given is not None:
            return tuple(given), torch.empty(tuple(given), device="meta").stride(), _TYPES[meta["dtype"]]
        return tuple(_sizes(meta["sizes"])), tuple(_sizes(meta["strides"])), _TYPES[meta["dtype"]]

    def inputs(self, input_shape: Sequence[int] | None) -> tuple[int, ...]:
        """Make the fakes of the inputs; their values in the graph."""
        named = {
            spec["arg"]["as_tensor"]["name"]: None
            for kind, spec in self.specs
            if kind == "user_input" and "as_tensor" in spec["arg"]
        }
        opened = [name for name in named if _is_open(self.graph["tensor_values"][name]["sizes"])]
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
        known = self.graph["tensor_values"][takes[0]]["sizes"]
        fits = len(known) == len(shape) and all(
            size.get("as_int", given) == given for size, given in zip(known, shape, strict=True)
        )
        if not fits:
            listed = ", ".join(str(size.get("as_int", "any")) for size in known)
            raise InputMismatchError(
                f"Expected `input_shape` of `{takes[0]}` to be ({listed}), as {self.path} was exported, but got "
                f"{tuple(shape)}."
            )
        return {takes[0]: shape}

    def run(self) -> None:
        """Call the ops in order."""
        for node in self.graph["nodes"]:
            stack = str(node.get("metadata", {}).get("nn_module_stack", ""))
            self.recorder.modules = [
                entry.split(",")[1].partition("@")[0] for entry in stack.split(";") if "," in entry
            ]
            args = [self._argument(item["arg"]) for item in node["inputs"] if item.get("kind") != 2]
            kwargs = {item["name"]: self._argument(item["arg"]) for item in node["inputs"] if item.get("kind") == 2}
            called = self._function(node["target"])
            try:
                result = called(*args, **kwargs)
            except GraphError:
                raise
            except Exception as error:
                layer = f"layer `{self.recorder.modules[-1]}`" if self.recorder.modules else "the program"
                inputs = [tensor for tensor in args if isinstance(tensor, Tensor)]
                raise failure(error, f"{layer} ({node['target']})", inputs) from error
            self._store(node["outputs"], result)

    def outputs(self) -> list[Tensor]:
        """The tensors that the program returns."""
        found = [self._argument(spec["arg"]) for spec in self.results]
        return [item for item in found if isinstance(item, Tensor)]

    def _function(self, target: str) -> Callable[..., Any]:
        """The function that an op calls.

        Raises:
            GraphError: if it is not of torch's own libraries.
        """
        if target in _FUNCTIONS:
            return _FUNCTIONS[target]
        parts = target.removeprefix("torch.ops.").split(".")
        library, name = parts[0], parts[1] if len(parts) > 1 else ""
        if not target.startswith("torch.ops.") or library not in _LIBRARIES or name in _NEVER or len(parts) > 3:
            raise GraphError(
                f"Expected ops of {', '.join(sorted(_LIBRARIES))} in {self.path}, but it calls {short_repr(target)}: "
                f"give the model itself, as package.module:callable."
            )
        packet = getattr(getattr(torch.ops, library), name)
        found: Callable[..., Any] = getattr(packet, parts[2]) if len(parts) == 3 else packet
        return found

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
        if kind not in _VALUES:
            raise GraphError(
                f"Expected arguments that are tensors or numbers in {self.path}, but got {short_repr(kind)}."
            )
        return _VALUES[kind](value)

    def _store(self, outputs: Sequence[Mapping[str, Any]], result: Any) -> None:
        """Keep the results of an op by their names."""
        results = [result] if len(outputs) == 1 else result
        for written, made in zip(outputs, results, strict=True):
            [(kind, value)] = written.items()
            if kind == "as_tensors":
                self.values |= {item["name"]: part for item, part in zip(value, made, strict=True)}
            elif kind in ("as_tensor", "as_optional_tensor") and "name" in value:
                self.values[value["name"]] = made[0] if isinstance(made, tuple | list) and len(made) == 1 else made
            elif kind.startswith("as_sym") and "as_name" in value:
                self.values[value["as_name"]] = made


# kind of an argument -> function that gives its value
_VALUES: dict[str, Callable[[Any], Any]] = {
    "as_none": lambda _: None,
    "as_float": float,
    "as_floats": lambda values: [*map(float, values)],
    "as_scalar_type": _TYPES.__getitem__,
    "as_memory_format": _MEMORY_FORMATS.__getitem__,
    "as_layout": lambda _: torch.strided,
    "as_device": lambda _: torch.device("cpu"),
}


def _is_open(sizes: Sequence[Mapping[str, Any]]) -> bool:
    return not all("as_int" in size for size in sizes)


def _sizes(sizes: Sequence[Mapping[str, Any]]) -> list[int]:
    return [int(size["as_int"]) for size in sizes]
