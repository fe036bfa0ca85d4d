"""Foreign pickles, read without ever running anything of theirs."""

from __future__ import annotations

import io
import os
import pickle
import pickletools
from pathlib import Path
from typing import Any, NoReturn

from latency_nas.errors import TableFileError, UnsafePickleError, short_repr

__all__ = ["load_plain_pickle"]

# Opcodes that build plain data: None, booleans, numbers, text, bytes, lists and dicts. Everything that names a class,
# calls something, or sets an object's state is left out on purpose; and so are tuples and sets, which as keys of a dict
# can take for ever to hash.
_PLAIN = frozenset({
    "PROTO", "FRAME", "STOP", "MARK", "POP", "POP_MARK", "DUP", "NONE", "NEWTRUE", "NEWFALSE", "INT", "BININT",
    "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING", "BINSTRING",
    "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES",
    "BINBYTES8", "EMPTY_LIST", "LIST", "APPEND",
    "APPENDS", "EMPTY_DICT", "DICT", "SETITEM", "SETITEMS", "GET",
    "BINGET", "LONG_BINGET", "PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE",
})  # fmt: skip
_FRAME_BYTES = 9  # of the opcode and the length of its frame
_PUTS = frozenset({"PUT", "BINPUT", "LONG_BINPUT"})


class _PlainUnpickler(pickle.Unpickler):  # noqa: S301 - it builds plain data alone
    """A second lock behind the scan of opcodes."""

    def find_class(self, module: str, name: str) -> NoReturn:
        raise UnsafePickleError(f"Expected plain data, but the pickle asks for {module}.{name}.")

    def persistent_load(self, pid: object) -> NoReturn:
        raise UnsafePickleError(f"Expected plain data, but the pickle asks for the persistent object {pid!r}.")


def load_plain_pickle(path: str | os.PathLike[str]) -> Any:
    """Load a pickle that holds plain data alone.

    The opcodes are read first, as text; only a pickle made of harmless ones is then loaded.

    Raises:
        UnsafePickleError: if it names a class, a function or an object; nothing of it has run.
        TableFileError: if it is truncated or no pickle.
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
    """Read the opcodes as text, and refuse what is not plain data, or would be read in two ways."""
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
    begins.add((position or 0) + 1)  # behind the last opcode
    for end in frames_end:
        if end not in begins:
            raise TableFileError(
                f"Expected {source} to be a sound pickle, but a frame ends at byte {end}, in an opcode."
            )
