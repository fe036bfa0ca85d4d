"""Reads foreign pickles without running anything in them."""

from __future__ import annotations

import io
import os
import pickle
import pickletools
from pathlib import Path
from typing import Any, NoReturn

from latency_nas.errors import TableFileError, UnsafePickleError, short_repr

__all__ = ["load_plain_pickle"]

# Opcodes that build plain data: None, booleans, numbers, text, bytes, lists and dicts. Opcodes that name a class, call
# something, or set an object's state are excluded. So are tuples and sets: as keys of a dict, nested ones may take
# forever to hash.
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


class _PlainUnpickler(pickle.Unpickler):  # noqa: S301 - it builds only plain data
    """Refuses classes and objects, in addition to the scan of opcodes."""

    def find_class(self, module: str, name: str) -> NoReturn:
        raise UnsafePickleError(f"Expected plain data, but the pickle asks for {module}.{name}.")

    def persistent_load(self, pid: object) -> NoReturn:
        raise UnsafePickleError(f"Expected plain data, but the pickle asks for the persistent object {pid!r}.")


def load_plain_pickle(path: str | os.PathLike[str]) -> Any:
    """Load a pickle that holds only plain data.

    All opcodes are read first. The pickle is loaded only if all of them are harmless.

    Raises:
        UnsafePickleError: if it names a class, a function or an object. None of it was run.
        TableFileError: if it is truncated or not a pickle.
    """
    source = Path(path)
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
    for count, (opcode, argument, position) in enumerate(pickletools.genops(data)):
        if opcode.name not in _PLAIN:
            what = opcode.name if argument is None else f"{opcode.name} {short_repr(argument)}"
            raise UnsafePickleError(
                f"Refused {source}: at byte {position} the pickle holds {what}, "
                f"and only numbers, text, lists and dicts are read. Nothing of the file was run."
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
