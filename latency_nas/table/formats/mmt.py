"""Reads MMT's pickles, ``meta_latency.pkl`` and ``*.mnn.pj``, without importing or running anything in them.

There are two generations. Before 2.2.0, the pickle itself names the class of an op. From 2.2.0 on, the class is in a
file beside it, ``<mnn_fname>.pj``, a pickle that holds only the name.
"""

from __future__ import annotations

import io
import logging
import os
import pickle
import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, NoReturn

from latency_nas.errors import TableError, TableFileError, UnsafePickleError, short_repr
from latency_nas.kernel import Shape
from latency_nas.table.datasheet import finite
from latency_nas.table.formats.content import is_pickle

__all__ = ["MMTOp", "import_mmt", "read_class_name", "recognises_mmt", "refuse_mmt"]

logger = logging.getLogger(__name__)

_META_CLASSES = frozenset({("mmt.utils", "ops_meta"), ("core.utils", "ops_meta")})
_MAX_BYTES, _MAX_CLASS_BYTES = 2**28, 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class MMTOp:
    """A row of MMT's: a module, and its times when it runs alone.

    Args:
        class_name: Module and qualified name of the module's class, as ``torch.nn.modules.conv.Conv2d``.
        repr: The module's ``repr``. With class and input shape, it is MMT's key.
        input_shape: Shape of the first input.
        latency_ms: Mean time.
        min_ms: Shortest time.
        max_ms: Longest time.
        arguments: Arguments of the constructor; None if there were none.
        file: Name of the module's MNN file.
    """

    class_name: str
    repr: str
    input_shape: Shape
    latency_ms: float
    min_ms: float
    max_ms: float
    arguments: Mapping[str, Any] | None = None
    file: str = ""


@dataclass(slots=True)
class _ClassName:
    """The name of a class, which is never imported."""

    name: str


class _Meta:
    """A replacement for MMT's ``ops_meta``. It keeps the instance's fields and does nothing else."""

    def __init__(self) -> None:
        self.fields: dict[str, Any] = {}

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, dict):
            raise UnsafePickleError(f"Expected the fields of an op, but got {short_repr(state)}.")
        self.fields = state


# Opcodes that call something that the pickle chooses. The others can only make a `_Meta` and set its fields.
_REFUSED = frozenset({
    "REDUCE", "INST", "OBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4", "PERSID", "BINPERSID", "EMPTY_SET", "FROZENSET",
    "ADDITEMS", "NEXT_BUFFER", "READONLY_BUFFER", "BYTEARRAY8",
})  # fmt: skip


class _MetaUnpickler(pickle._Unpickler):  # noqa: SLF001
    """Makes only `_Meta`, names and plain data. Tuples become lists: as keys, nested ones may take forever to hash."""

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = dict(pickle._Unpickler.dispatch)  # noqa: SLF001

    stack: list[Any]
    append: Callable[[Any], None]
    pop_mark: Callable[[], list[Any]]

    def find_class(self, module: str, name: str) -> Any:
        return _Meta if (module, name) in _META_CLASSES else _ClassName(f"{module}.{name}")

    def load_some(self, n: int) -> None:
        """Replace the last `n` items by a list of them."""
        self.stack[-n:] = [self.stack[-n:]]

    def load_marked(self) -> None:
        """Push a list of the items since the mark."""
        self.append(self.pop_mark())


_MetaUnpickler.dispatch.update({
    pickle.TUPLE[0]: _MetaUnpickler.load_marked,
    pickle.TUPLE1[0]: lambda unpickler: unpickler.load_some(1),
    pickle.TUPLE2[0]: lambda unpickler: unpickler.load_some(2),
    pickle.TUPLE3[0]: lambda unpickler: unpickler.load_some(3),
})  # fmt: skip


def _load(source: Path) -> Any:
    data = source.read_bytes()
    if len(data) > _MAX_BYTES:
        raise TableFileError(f"Expected {source} to be of at most {_MAX_BYTES >> 20} MB, but it is larger.")
    try:
        for opcode, argument, position in pickletools.genops(data):
            if opcode.name in _REFUSED:
                raise UnsafePickleError(
                    f"Refused {source}: at byte {position} the pickle holds {opcode.name} {short_repr(argument)}, "
                    f"and only ops of MMT's are read. Nothing of the file was run."
                )
        return _MetaUnpickler(io.BytesIO(data)).load()
    except (UnsafePickleError, TableFileError):
        raise
    except Exception as error:  # the pickle module raises almost anything on damaged input
        reason = str(error) or type(error).__name__
        raise TableFileError(
            f"Expected {source} to be a pickle of MMT's, but it is truncated or of another format ({reason})."
        ) from error


def read_class_name(path: str | os.PathLike[str]) -> str:
    """The class that a ``.pj`` file names. Its opcodes are read, but the pickle is never loaded.

    Raises:
        TableFileError: if the file is not a pickle of a single class by reference.
    """
    source = Path(path)
    texts: list[str] = []
    names: list[str] = []
    try:
        for opcode, argument, _ in pickletools.genops(source.read_bytes()[:_MAX_CLASS_BYTES]):
            if opcode.name in ("SHORT_BINUNICODE", "BINUNICODE", "UNICODE"):
                texts.append(str(argument))
            elif opcode.name == "STACK_GLOBAL":
                names.append(".".join(texts[-2:]))
            elif opcode.name == "GLOBAL":
                names.append(str(argument).replace(" ", "."))
            elif opcode.name not in ("PROTO", "FRAME", "MEMOIZE", "PUT", "BINPUT", "STOP"):
                raise ValueError(f"it holds {opcode.name}")
    except (ValueError, IndexError) as error:
        raise TableFileError(f"Expected {source} to be a pickle of one class, but {error}.") from error
    if len(names) != 1:
        raise TableFileError(f"Expected {source} to be a pickle of one class, but it names {len(names)}.")
    return names[0]


@dataclass(slots=True)
class _SharedFiles:
    """Warns of files that several rows share: MMT timed only the last of these rows, for all of them."""

    labels: dict[str, str] = field(default_factory=dict)

    def note(self, op: MMTOp, source: Path) -> None:
        if op.file and op.file in self.labels:
            logger.warning(
                "%s: %s and %s share the file %s, so that MMT timed one of them for both: at least one row is wrong.",
                source, self.labels[op.file], op.repr, op.file,
            )  # fmt: skip
        self.labels.setdefault(op.file, op.repr)


def recognises_mmt(head: bytes, path: Path) -> bool:
    """Whether the file is a pickle that names MMT's class of ops."""
    return is_pickle(head, path.suffix) and b"ops_meta" in head


def refuse_mmt(path: str | os.PathLike[str]) -> NoReturn:
    """Raise an error that says why MMT's rows make no table.

    Raises:
        TableFileError: always.
    """
    raise TableFileError(
        f"Expected a table of kernels, but {path} is MMT's, which times modules: what an engine makes of them next to "
        f"others is not known. Price a model by it with latency_nas.compat.mmt.predict_latency, or measure the same "
        f"ops.yaml with latency-nas measure."
    )


def import_mmt(path: str | os.PathLike[str]) -> tuple[MMTOp, ...]:
    """Read MMT's ``meta_latency.pkl``, of either generation.

    Raises:
        FileNotFoundError: if there is no such file.
        UnsafePickleError: if the pickle holds more than such ops. None of it was run.
        TableFileError: if it is truncated, of another format, or not timed yet.
    """
    source = Path(path)
    rows = _load(source)
    if not isinstance(rows, list) or not all(isinstance(row, _Meta) for row in rows) or not rows:
        raise TableFileError(f"Expected {source} to be a list of MMT's ops, but got {short_repr(type(rows).__name__)}.")
    shared, ops = _SharedFiles(), []
    for number, row in enumerate(rows):
        try:
            ops.append(_op(source, row.fields))
        except (KeyError, TypeError, ValueError, TableError, OSError) as error:
            raise TableFileError(f"Row {number} of {source} is not valid: {error}") from error
        shared.note(ops[-1], source)
    return tuple(ops)


def _op(source: Path, fields: Mapping[str, Any]) -> MMTOp:
    named, file = fields.get("classname"), str(fields.get("mnn_fname") or "")
    if named is not None and not isinstance(named, _ClassName):
        raise TableError(f"Expected `classname` to be a class, but got {short_repr(named)}.")
    if Path(file).name != file:
        raise TableError(f"Expected `mnn_fname` to be a file's name, but got {file!r}.")
    arguments = fields["init_param"]
    if arguments is not None and not isinstance(arguments, dict):
        raise TableError(f"Expected `init_param` to be a mapping, but got {short_repr(arguments)}.")
    return MMTOp(
        class_name=named.name if named else read_class_name(source.with_name(f"{file}.pj")),
        repr=str(fields["repr"]),
        input_shape=tuple(int(size) for size in fields["input_shape"]),
        latency_ms=finite("avg", fields["avg"], zero=False),
        min_ms=finite("min", fields["min"]),
        max_ms=finite("max", fields["max"]),
        arguments=arguments,
        file=file,
    )
