"""Reads foreign pickles without running anything in them."""

from __future__ import annotations

import io
import os
import pickle
import pickletools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from latency_nas.errors import TableFileError, UnsafePickleError, short_repr

__all__ = ["load_plain_pickle"]

# Opcodes that build plain data: None, booleans, numbers, text, bytes, lists and dicts. Opcodes that name a class, call
# something, or set an object's state are excluded. So are tuples and sets: as keys of a dict, nested ones may take
# forever to hash. An `OrderedDict`, which is made by a call, is read as a dict: see `_OrderedDicts`.
_PLAIN = frozenset({
    "PROTO", "FRAME", "STOP", "MARK", "POP", "POP_MARK", "DUP", "NONE", "NEWTRUE", "NEWFALSE", "INT", "BININT",
    "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING", "BINSTRING",
    "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES",
    "BINBYTES8", "EMPTY_LIST", "LIST", "APPEND",
    "APPENDS", "EMPTY_DICT", "DICT", "SETITEM", "SETITEMS", "GET",
    "BINGET", "LONG_BINGET", "PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE",
})  # fmt: skip
_FRAME_BYTES = 9  # length of the opcode FRAME with its argument
_PUTS = frozenset({"PUT", "BINPUT", "LONG_BINPUT"})
_TEXTS = frozenset({"UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"})
_ORDERED_DICT = "collections OrderedDict"
_MAX_BYTES = 1 << 28


class _PlainUnpickler(pickle.Unpickler):  # noqa: S301 - it builds only plain data
    """Refuses classes and objects, in addition to the scan of opcodes."""

    def find_class(self, module: str, name: str) -> type[dict[Any, Any]]:
        if f"{module} {name}" == _ORDERED_DICT:
            return dict
        raise UnsafePickleError(f"Expected plain data, but the pickle asks for {module}.{name}.")

    def persistent_load(self, pid: object) -> NoReturn:
        raise UnsafePickleError(f"Expected plain data, but the pickle asks for the persistent object {pid!r}.")


def load_plain_pickle(path: str | os.PathLike[str]) -> Any:
    """Load a pickle that holds only plain data.

    All opcodes are read first. The pickle is loaded only if all of them are harmless. An ``OrderedDict`` becomes a
    dict.

    Raises:
        UnsafePickleError: if it names another class, a function or an object. None of it was run.
        TableFileError: if it is truncated, not a pickle, or larger than 256 MiB.
    """
    source = Path(path)
    if source.stat().st_size > _MAX_BYTES:
        raise TableFileError(f"Expected {source} to have at most {_MAX_BYTES >> 20} MiB, but it is larger.")
    data = source.read_bytes()
    try:
        _scan(source, data)
        return _PlainUnpickler(io.BytesIO(data)).load()
    except (UnsafePickleError, TableFileError):
        raise
    except Exception as error:  # the pickle module raises almost anything on damaged input
        reason = str(error) or type(error).__name__
        raise TableFileError(
            f"Expected {source} to be a pickle, but it is truncated or of another format ({reason})."
        ) from error


def _scan(source: Path, data: bytes) -> None:
    """Read the opcodes, and refuse those that are not plain data or could be read in two ways."""
    begins: set[int | None] = set()
    frames_end: list[int] = []
    calls = _OrderedDicts()
    for count, (opcode, argument, position) in enumerate(pickletools.genops(data)):
        refused = calls.refused(opcode.name, argument, position)
        if refused is not None:
            name, value, place = refused
            what = name if value is None else f"{name} {short_repr(value)}"
            raise UnsafePickleError(
                f"Refused {source}: at byte {place} the pickle holds {what}, and only numbers, text, lists and dicts "
                f"are read. Nothing of the file was run. If you trust it, write its data as JSON where it was made."
            )
        if opcode.name in _PUTS and int(argument or 0) > count:
            raise TableFileError(f"Expected {source} to be a sound pickle, but at byte {position} it skips memory.")
        begins.add(position)
        if opcode.name == "FRAME":
            frames_end.append((position or 0) + _FRAME_BYTES + int(argument or 0))
    begins.add((position or 0) + 1)  # position after the last opcode
    for end in frames_end:
        if end not in begins:
            raise TableFileError(
                f"Expected {source} to be a sound pickle, but a frame ends at byte {end}, in an opcode."
            )


_Opcode = tuple[str, object, int | None]  # name, argument and position


@dataclass(slots=True)
class _OrderedDicts:
    """Tells which opcodes are plain data or make an empty ``OrderedDict``: its name, an empty tuple, and the call."""

    texts: list[object] = field(default_factory=list)
    tuple_before: _Opcode | None = None  # an empty tuple, which is allowed only right before a call

    def refused(self, name: str, argument: object, position: int | None) -> _Opcode | None:
        """The opcode that is not allowed, this one or the one before; None if there is none."""
        before, self.tuple_before = self.tuple_before, None
        if name == "REDUCE" and before is not None:
            return None
        if before is not None:
            return before
        if name in _TEXTS:
            self.texts = [*self.texts[-1:], argument]
        if name == "EMPTY_TUPLE":
            self.tuple_before = name, argument, position
            return None
        named = argument if name == "GLOBAL" else " ".join(map(str, self.texts)) if name == "STACK_GLOBAL" else None
        return None if name in _PLAIN or named == _ORDERED_DICT else (name, argument, position)
