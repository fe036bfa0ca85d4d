"""Reads FlatBuffers, with every position checked against the file's size.

A table starts with the distance back to its list of field positions (the *vtable*), whose first two numbers are the
sizes of the list and of the table. A field that is left out has the default of the schema. Texts, vectors and other
tables lie elsewhere, at a distance that the field states.

References:
    The section "Internals" of the documentation of FlatBuffers, https://flatbuffers.dev/internals/.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from mmap import mmap

from latency_nas.errors import GraphError

__all__ = ["FlatFile", "Table"]

_UINT = struct.Struct("<I")
_INT = struct.Struct("<i")
_USHORT = struct.Struct("<H")


@dataclass(slots=True)
class FlatFile:
    """A file in memory.

    Args:
        data: Content.
        name: Name for messages.

    The number of bytes that are read in all is bounded, since a file whose parts overlap could give far more data than
    it holds.
    """

    data: bytes | mmap
    name: str
    left: int = field(init=False)

    def __post_init__(self) -> None:
        self.left = 4 * len(self.data) + 4096

    def broken(self, reason: str) -> GraphError:
        """The error of a damaged file."""
        return GraphError(f"Expected {self.name} to be a whole .mnn file, but {reason}.")

    def spend(self, n_bytes: int) -> None:
        """Count bytes that are read."""
        self.left -= n_bytes
        if self.left < 0:
            raise self.broken("parts of it overlap")

    def take(self, kind: struct.Struct, position: int) -> int | float:
        """The number at a position."""
        self.spend(kind.size)
        if not 0 <= position <= len(self.data) - kind.size:
            raise self.broken("it refers to data outside of it")
        value: int | float = kind.unpack_from(self.data, position)[0]
        return value

    def size(self, kind: struct.Struct, position: int) -> int:
        """The integer at a position."""
        return int(self.take(kind, position))

    def block(self, position: int, item_size: int) -> tuple[int, int]:
        """The start and the number of items of a vector, which must lie within the file."""
        n_items = self.size(_UINT, position)
        if n_items * item_size > len(self.data) - position - 4:
            raise self.broken("it refers to data outside of it")
        return position + 4, n_items

    def numbers(self, position: int, code: str) -> tuple[int, ...]:
        """The numbers of a vector; `code` is that of `struct` for one."""
        start, n_items = self.block(position, struct.calcsize(f"<{code}"))
        numbers = struct.Struct(f"<{n_items}{code}")
        self.spend(numbers.size)
        return numbers.unpack_from(self.data, start)

    def text(self, position: int) -> str:
        """The text at a position."""
        start, n_bytes = self.block(position, 1)
        self.spend(n_bytes)
        return bytes(self.data[start : start + n_bytes]).decode("utf-8", "replace")

    def root(self) -> Table:
        """The table that holds all others."""
        return Table(self, self.size(_UINT, 0))


class Table:
    """A table of a file.

    Args:
        file: File.
        position: Position of the table.
    """

    __slots__ = ("_file", "_positions", "position")

    def __init__(self, file: FlatFile, position: int) -> None:
        vtable = position - file.size(_INT, position)
        n_bytes, size = file.size(_USHORT, vtable), file.size(_USHORT, vtable + 2)
        if n_bytes < 4 or n_bytes % 2 or size < 4 or not 0 <= position <= len(file.data) - size:
            raise file.broken("the list of fields of a table is damaged")
        if vtable + n_bytes > len(file.data):
            raise file.broken("it refers to data outside of it")
        file.spend(n_bytes)
        fields = struct.unpack_from(f"<{n_bytes // 2 - 2}H", file.data, vtable + 4)
        if fields and max(fields) >= size:
            raise file.broken("a field lies outside of its table")
        self._file, self.position = file, position
        self._positions = fields

    def _at(self, field: int) -> int:
        """The position of a field; 0 where it is left out."""
        offset = self._positions[field] if field < len(self._positions) else 0
        return self.position + offset if offset else 0

    def _target(self, field: int) -> int:
        """The position that a field refers to; 0 where it is left out."""
        place = self._at(field)
        return place + self._file.size(_UINT, place) if place else 0

    def number(self, field: int, code: str, default: float) -> float:
        """A number; `code` is that of `struct`."""
        place = self._at(field)
        return self._file.take(struct.Struct(f"<{code}"), place) if place else default

    def text(self, field: int) -> str:
        """A text; empty where it is left out."""
        place = self._target(field)
        return self._file.text(place) if place else ""

    def table(self, field: int) -> Table | None:
        """Another table; None where it is left out."""
        place = self._target(field)
        return Table(self._file, place) if place else None

    def numbers(self, field: int, code: str) -> tuple[int, ...]:
        """A vector of numbers; empty where it is left out."""
        place = self._target(field)
        return self._file.numbers(place, code) if place else ()

    def n_items(self, field: int, item_size: int) -> int:
        """The length of a vector, whose items are not read."""
        place = self._target(field)
        return self._file.block(place, item_size)[1] if place else 0

    def _targets(self, field: int) -> list[int]:
        place = self._target(field)
        if not place:
            return []
        start, _ = self._file.block(place, 4)
        return [start + 4 * number + offset for number, offset in enumerate(self._file.numbers(place, "I"))]

    def tables(self, field: int) -> list[Table]:
        """A vector of tables; empty where it is left out."""
        return [Table(self._file, place) for place in self._targets(field)]

    def texts(self, field: int) -> list[str]:
        """A vector of texts; empty where it is left out."""
        return [self._file.text(place) for place in self._targets(field)]
