"""Reads the ops of a ``.mnn`` file, with their attributes. Weights are not read."""

from __future__ import annotations

import mmap
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from latency_nas.errors import GraphError, InputMismatchError
from latency_nas.graph.mnn.flat import FlatFile, Table
from latency_nas.graph.mnn.schema import NET, OP, OP_TYPES, PARAMETERS, TABLES, Fields

Shape = tuple[int, ...]

__all__ = ["MnnFile", "MnnOp", "read_mnn_file"]

_SMALLEST = 8  # bytes
_CONSTANT = frozenset({"Const", "TrainableParam", "Shape", "Rank", "Size"})


@dataclass(frozen=True)
class MnnOp:
    """An op of a file.

    Args:
        name: Name of the op.
        type: Type of the op, as MNN spells it.
        inputs: Indices of the tensors that it reads.
        outputs: Indices of the tensors that it writes.
        kind: Number of the type of its parameters.
        main: Its parameters; None where it has none.
    """

    name: str
    type: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    kind: int
    main: Table | None

    @cached_property
    def attributes(self) -> Mapping[str, Any]:
        """The parameters that the schema's table names, with their defaults; empty for other types."""
        fields = PARAMETERS.get(self.kind)
        return _fields(self.main, fields) if fields and self.main is not None else {}


@dataclass(frozen=True, kw_only=True)
class MnnFile:
    """The ops of a file.

    Args:
        name: Name of the file, for messages.
        ops: Ops in the order in which they run.
        tensors: Names of the tensors.
        outputs: Names of the network's outputs.
    """

    name: str
    ops: tuple[MnnOp, ...]
    tensors: tuple[str, ...]
    outputs: tuple[str, ...]

    @cached_property
    def by_name(self) -> Mapping[str, MnnOp]:
        """The ops by name. Of ops of one name, the last one."""
        return {op.name: op for op in self.ops}

    @cached_property
    def constants(self) -> frozenset[int]:
        """The tensors that are known before the network runs: weights, shapes, and what is computed from them."""
        found: set[int] = set()
        for op in self.ops:
            if op.type in _CONSTANT or (op.inputs and found.issuperset(op.inputs)):
                found.update(op.outputs)
        return frozenset(found)

    @cached_property
    def _makers(self) -> Mapping[int, MnnOp]:
        return {index: op for op in self.ops for index in op.outputs}

    def integers(self, tensors: Sequence[int]) -> tuple[int, ...]:
        """The numbers in constants of the file that hold integers; none in others."""
        ops = [self._makers.get(index) for index in tensors]
        return tuple(number for op in ops if op is not None for number in op.attributes.get("int32s", ()))

    @cached_property
    def inputs(self) -> Mapping[str, tuple[int, ...]]:
        """Name of each input -> its sizes, where an open one is 0 or less."""
        ops = [op for op in self.ops if op.type == "Input" and op.outputs]
        return {self.tensors[op.outputs[0]]: op.attributes.get("dims", ()) for op in ops}

    def sizes(self, given: Sequence[int] | Mapping[str, Sequence[int]] | None = None) -> dict[str, Shape]:
        """The sizes of each input.

        Args:
            given: Shape of the only input, or of the only one that is open; or a mapping input -> shape.

        Raises:
            InputMismatchError: if a size is neither in the file nor given, or the given shapes do not fit the inputs.
        """
        known = self.inputs
        if given is not None and not isinstance(given, Mapping):
            targets = known if len(known) == 1 else [name for name, shape in known.items() if min(shape, default=1) < 1]
            if len(targets) != 1:
                raise InputMismatchError(
                    f"Expected a shape for each input of {self.name} ({', '.join(known)}), but got one shape, "
                    f"{list(given)}."
                )
            given = dict.fromkeys(targets, given)
        given = {name: tuple(shape) for name, shape in (given or {}).items()}
        if unknown := [name for name in given if name not in known]:
            raise InputMismatchError(
                f"Expected `input_shape` to name inputs of {self.name} ({', '.join(known)}), but got "
                f"{', '.join(unknown)}."
            )
        for name, shape in given.items():
            file_shape = known[name]
            if len(shape) != len(file_shape) or min(shape, default=1) < 1:
                raise InputMismatchError(
                    f"Expected {len(file_shape)} positive sizes for `{name}` of {self.name}, whose shape is "
                    f"{list(file_shape)}, but got {list(shape)}."
                )
        sizes: dict[str, Shape] = {name: tuple(given.get(name, shape)) for name, shape in known.items()}
        if still_open := [f"{name} {list(shape)}" for name, shape in sizes.items() if min(shape, default=1) < 1]:
            raise InputMismatchError(
                f"Expected an `input_shape` for {self.name}, since it leaves sizes open ({', '.join(still_open)}), but "
                f"got none."
            )
        return sizes


def _fields(table: Table, fields: Fields) -> dict[str, Any]:
    return {name: _value(table, *spec) for name, spec in fields.items()}


def _value(table: Table, field: int, kind: str, default: float) -> Any:
    if kind in TABLES:
        nested = table.table(field)
        return None if nested is None else _fields(nested, TABLES[kind])
    if kind.startswith("["):
        return table.numbers(field, kind[1])
    return table.number(field, kind, default)


def _op(table: Table, file: FlatFile, n_tensors: int) -> MnnOp:
    inputs, outputs = (table.numbers(OP[side], "i") for side in ("inputs", "outputs"))
    number, name = int(table.number(OP["type"], "i", 0)), table.text(OP["name"])
    if not all(0 <= index < n_tensors for index in outputs) or not all(-1 <= index < n_tensors for index in inputs):
        raise file.broken(f"the op {name!r} uses tensors that the file does not have")
    return MnnOp(
        name=name,
        type=OP_TYPES.get(number, f"type{number}"),
        inputs=inputs,
        outputs=outputs,
        kind=int(table.number(OP["kind"], "B", 0)),
        main=table.table(OP["main"]),
    )


def read_mnn_file(path: Path, name: str = "") -> MnnFile:
    """Read the ops of a ``.mnn`` file.

    Args:
        path: The file.
        name: Its name in messages, if it was converted from another; by default its path.

    Raises:
        GraphError: if the file does not exist, is damaged or no MNN file.
    """
    try:
        with path.open("rb") as stream:
            stream.seek(0, 2)
            if stream.tell() < _SMALLEST:
                raise GraphError(f"Expected {path} to be a whole .mnn file, but it has {stream.tell()} bytes.")
            data = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise GraphError(f"Expected {path} to be a .mnn file, but it cannot be read ({error.strerror}).") from error
    file = FlatFile(data, name or str(path))
    try:
        root = file.root()
        tensors = tuple(root.texts(NET["tensors"]))
        ops = tuple(_op(table, file, len(tensors)) for table in root.tables(NET["ops"]))
        outputs = tuple(root.texts(NET["outputs"]))
    except (struct.error, MemoryError) as error:
        raise file.broken("it is damaged") from error
    if not ops:
        raise file.broken("it has no ops")
    return MnnFile(name=name or str(path), ops=ops, tensors=tensors, outputs=outputs)
