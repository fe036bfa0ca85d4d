"""Reads an ONNX file without the values of its large weights. No reader needs them, so they are skipped.

Of values that are all the same 4 bytes, such as zeros, these 4 bytes are kept: `latency_nas.graph.onnx.literals` needs
to know that they are.

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
_TYPE, _VALUES = 2, frozenset({4, 5, 7, 9, 10, 11})  # fields of a tensor; values have a field for each type of element
_UNIT = 4  # bytes
_FP32 = 1  # number of the type fp32
_MIN_BYTES, _MAX_BYTES = 4 * MAX_FLOATS, 8 * MAX_ELEMENTS  # limits for values that are kept, of fp32 and of all types
_VARINT, _EIGHT_BYTES, _SIZED, _FOUR_BYTES = 0, 1, 2, 5  # protobuf's encodings of a field

_Data = bytes | mmap.mmap


def read_without_weights(path: Path) -> bytes:
    """The content of an ONNX file without large weights, as in `without_weights`.

    Raises:
        OSError: if the file cannot be read.
    """
    with path.open("rb") as file:
        if not path.stat().st_size:  # an empty file cannot be mapped
            return b""
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return without_weights(data)


def without_weights(data: _Data) -> bytes:
    """The same model without the values of large initializers. Data that is not a model is returned unchanged.

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
    kept = start  # the bytes between two large initializers are copied at once
    for number, first, body, last in _fields(data, start, end, _MIN_BYTES):
        if number == _INITIALIZER and body and last - body > _MIN_BYTES:
            yield data[kept:first]
            yield from _sized(_INITIALIZER, list(_tensor(data, body, last)))
            kept = last
    yield data[kept:end]


def _tensor(data: _Data, start: int, end: int) -> Iterator[bytes]:
    max_bytes = _MAX_BYTES
    for number, first, body, last in _fields(data, start, end):
        if number == _TYPE and not body and data[last - 1] == _FP32:
            max_bytes = _MIN_BYTES
        if number not in _VALUES or not body or last - body <= max_bytes:
            yield data[first:last]
        elif _are_equal(data, body, last):
            yield from _sized(number, [data[body : body + _UNIT]])


def _are_equal(data: _Data, start: int, end: int) -> bool:
    """Whether a field consists of the same 4 bytes. Weights differ in the first few, so the rest is rarely read."""
    unit, n = data[start : start + _UNIT], (end - start) // _UNIT
    few = data[start : start + _UNIT * min(n, 16)]
    return few == unit * (len(few) // _UNIT) and data[start:end] == unit * n


def _fields(data: _Data, start: int, end: int, above: int = 0) -> Iterator[tuple[int, int, int, int]]:
    """Number, start, start of the content (0 if the field has no length), and end of each field of so many bytes."""
    at = start
    while at < end:
        first, body = at, 0
        tag, at = data[at], at + 1
        if tag >= 128:
            tag, at = _varint(data, first)
        kind = tag & 7
        if kind == _SIZED:
            size = data[at]
            if size < 128:
                body = at + 1
            elif (high := data[at + 1]) < 128:  # most sizes have one byte or two
                size, body = size & 127 | high << 7, at + 2
            else:
                size, body = _varint(data, at)
            at = body + size
        elif kind == _VARINT:
            at = _varint(data, at)[1]
        elif kind in (_EIGHT_BYTES, _FOUR_BYTES):
            at += 8 if kind == _EIGHT_BYTES else 4
        else:
            raise ValueError(f"no field is written in the way {kind}")
        if at > end:
            raise ValueError("a field ends after what holds it")
        if at - first > above:
            yield tag >> 3, first, body, at


def _varint(data: _Data, at: int) -> tuple[int, int]:
    """An integer in bytes of seven bits, lowest first, and the position after it."""
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


def _sized(number: int, parts: list[bytes]) -> list[bytes]:
    """The parts of a field with its number and length. They are joined only once, by the caller."""
    size, length = sum(map(len, parts)), bytearray()
    while size > 127:
        length.append(size & 127 | 128)
        size >>= 7
    return [bytes([number << 3 | _SIZED, *length, size]), *parts]
