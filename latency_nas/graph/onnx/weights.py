"""An ONNX file without the values of its large weights, which no reader needs: they are stepped over, not read.

References:
    ONNX, ``onnx/onnx.proto``, and protobuf's encoding, https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

from latency_nas.graph.onnx.constants import MAX_ELEMENTS, MAX_FLOATS

__all__ = ["read_without_weights", "without_weights"]

_GRAPH, _INITIALIZER = 7, 5  # fields of a model, and of a graph
_TYPE, _VALUES = 2, frozenset({4, 5, 7, 9, 10, 11})  # fields of a tensor, its values each of another type of element
_FP32, _MIN_BYTES, _MAX_BYTES = 1, 4 * MAX_FLOATS, 8 * MAX_ELEMENTS  # that type's number; of values that are kept
_VARINT, _EIGHT_BYTES, _SIZED, _FOUR_BYTES = 0, 1, 2, 5  # how protobuf writes a field

_Data = bytes | mmap.mmap


def read_without_weights(path: Path) -> bytes:
    """The content of an ONNX file, as `without_weights` gives it.

    Raises:
        OSError: if it cannot be read.
    """
    with path.open("rb") as file:
        if not path.stat().st_size:  # which cannot be mapped
            return b""
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return without_weights(data)


def without_weights(data: _Data) -> bytes:
    """The same model, less the values of all initializers that are too many; what is no such model, as it is.

    Example:
        >>> without_weights(b"not a model")
        b'not a model'
    """
    try:
        return b"".join(_model(data))
    except (IndexError, ValueError):
        return data[:]


def _model(data: _Data) -> Iterator[bytes]:
    for number, first, body, last in _fields(data, 0, len(data)):
        if number == _GRAPH and body:
            yield from _sized(_GRAPH, list(_graph(data, body, last)))
        else:
            yield data[first:last]


def _graph(data: _Data, start: int, end: int) -> Iterator[bytes]:
    kept = start  # what lies between two large initializers is copied as one
    for number, first, body, last in _fields(data, start, end):
        if number == _INITIALIZER and body and last - body > _MIN_BYTES:
            yield data[kept:first]
            yield from _sized(_INITIALIZER, list(_tensor(data, body, last)))
            kept = last
    yield data[kept:end]


def _tensor(data: _Data, start: int, end: int) -> Iterator[bytes]:
    most = _MAX_BYTES
    for number, first, body, last in _fields(data, start, end):
        if number == _TYPE and not body and data[last - 1] == _FP32:
            most = _MIN_BYTES
        if number not in _VALUES or not body or last - body <= most:
            yield data[first:last]


def _fields(data: _Data, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Number, beginning, beginning of the content where its length is stated (else 0), and end of each field."""
    at = start
    while at < end:
        first, body = at, 0
        tag, at = (data[at], at + 1) if data[at] < 128 else _varint(data, at)
        kind = tag & 7
        if kind == _SIZED:
            size, body = (data[at], at + 1) if data[at] < 128 else _varint(data, at)
            at = body + size
        elif kind == _VARINT:
            at = _varint(data, at)[1]
        elif kind in (_EIGHT_BYTES, _FOUR_BYTES):
            at += 8 if kind == _EIGHT_BYTES else 4
        else:
            raise ValueError(f"no field is written in the way {kind}")
        if at > end:
            raise ValueError("a field ends after what holds it")
        yield tag >> 3, first, body, at


def _varint(data: _Data, at: int) -> tuple[int, int]:
    """An integer of seven bits a byte, the least first, and where it ends."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("an integer of more than 64 bits")


def _sized(number: int, pieces: list[bytes]) -> list[bytes]:
    """A field of that number with its length, in pieces, so that all are put together once."""
    size, length = sum(map(len, pieces)), bytearray()
    while size > 127:
        length.append(size & 127 | 128)
        size >>= 7
    return [bytes([number << 3 | _SIZED, *length, size]), *pieces]
