"""Imports ``latency_lookup_table.txt``, the output of Paddle-Lite's own benchmark of operators.

A file has a row of names and a row of the device's values, then a row of names and the rows of ops, all between tabs.

References:
    Paddle-Lite, ``lite/tests/benchmark/README.md``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from latency_nas.errors import KernelError, TableError, TableFileError
from latency_nas.kernel import Kernel, Shape
from latency_nas.table.datasheet import Datasheet
from latency_nas.table.formats.content import head_lines
from latency_nas.table.formats.format import ImportReport
from latency_nas.table.formats.paddleslim.importer import POWER_MODES
from latency_nas.table.formats.text_rows import known, text_lines, text_table, window_out
from latency_nas.table.latency_table import LatencyTable

__all__ = ["import_lite_text", "recognises_lite_text"]

# types of arithmetic; a kernel does not record whether an int8 convolution writes floats or int8
_DTYPES = {"float": "fp32", "int8_float": "int8"}
_CONV_ACTS = {"0": "", "1": "relu", "2": "relu6", "4": "leaky_relu"}
_ACTS = ("relu", "relu6", "leaky_relu", "tanh", "swish", "exp", "abs", "hard_swish", "reciprocal")
_COLUMNS = ("op_name", "input_dims", "output_dims", "param_info")

Fields = Mapping[str, str]


def _window(
    source: Shape, fields: Fields, *, dilation: int = 1, ceil: bool = False
) -> tuple[list[int], dict[str, Any]]:
    """The spatial output sizes and the window's attributes of a convolution or pooling."""
    kernel = tuple(map(int, fields["kernel"].split("x")))
    pad, stride = int(fields["pad"]), int(fields["stride"])
    size = [
        window_out(extent, width, pad, stride, dilation=dilation, ceil=ceil)
        for extent, width in zip(source[2:], kernel, strict=True)
    ]
    return size, {"kernel": kernel, "pad": (pad,) * 4, "stride": (stride,) * 2}


def _conv(source: Shape, fields: Fields) -> Kernel:
    """Read a convolution. Its output's sizes are computed, since the file states too large ones where pad is 0."""
    dilation, act = int(fields["dilation"]), _CONV_ACTS[fields["flag_act"]]
    size, attrs = _window(source, fields, dilation=dilation)
    if act:
        attrs["act"] = act
    return Kernel.of(
        "conv2d", [source], [(source[0], int(fields["ch_out"]), *size)], dtype=_dtype(fields),
        dilation=(dilation,) * 2, group=int(fields["group"]), bias=int(fields["flag_bias"]), **attrs,
    )  # fmt: skip


def _pool(source: Shape, fields: Fields) -> Kernel:
    kind = fields["pooling_type"]
    if fields["flag_global"] == "1":
        attrs: dict[str, Any] = {"global": 1, "kernel": source[2:], "pad": (0,) * 4, "stride": (1, 1)}
        return Kernel.of("pool2d", [source], [(*source[:2], 1, 1)], type=kind, **attrs)
    ceil = fields["ceil_mode"] == "1"
    size, attrs = _window(source, fields, ceil=ceil)
    if ceil:
        attrs["ceil"] = 1
    return Kernel.of("pool2d", [source], [(*source[:2], *size)], type=kind, **attrs)


def _fc(source: Shape, fields: Fields) -> Kernel:
    c_in, c_out = map(int, fields["param_dim"].split("x"))
    if source[-1] != c_in:
        raise KernelError(f"its weight of {c_in} rows does not fit its input")
    return Kernel.of("linear", [source], [(*source[:-1], c_out)], bias=int(fields["flag_bias"]))


def _activation(source: Shape, fields: Fields) -> Kernel:
    act = fields["act_type"]
    if act not in _ACTS:
        raise KernelError(f"the activation {act!r} is not known")
    return Kernel.of(act, [source], [source])


def _dtype(fields: Fields) -> str:
    if fields["dtype"] not in _DTYPES:
        raise KernelError(f"the type of arithmetic {fields['dtype']!r} has no kernel of its own")
    return _DTYPES[fields["dtype"]]


_READ: dict[str, Callable[[Shape, Fields], Kernel]] = {
    "conv": _conv,
    "pooling": _pool,
    "fc": _fc,
    "activation": _activation,
    "batchnorm": lambda source, _: Kernel.of("batch_norm", [source], [source]),
}


def recognises_lite_text(head: bytes, _: Path) -> bool:
    """Whether a line is the row of names before the ops."""
    return any(line.split("\t")[0].strip() == _COLUMNS[0] for line in head_lines(head))


def import_lite_text(path: str | os.PathLike[str]) -> tuple[LatencyTable, ImportReport]:
    """Import a ``latency_lookup_table.txt`` of Paddle-Lite's benchmark of operators.

    Args:
        path: Text file.

    Returns:
        The table of the average latencies, marked as imported, and a report on its rows.

    Raises:
        TableFileError: if the file is of another format, or no row can be used.
    """
    source = Path(path)
    lines = [[part.strip() for part in line.split("\t") if part.strip()] for line in text_lines(source)]
    start = next((number for number, parts in enumerate(lines) if parts[0] == _COLUMNS[0]), None)
    if start is None or len(lines) < 2:
        raise TableFileError(f"Expected a row that begins with {', '.join(_COLUMNS)} in {source}, but there is none.")

    def rows() -> Iterator[tuple[str, Callable[[], Kernel], str]]:
        for parts in lines[start + 1 :]:
            yield "\t".join(parts[:4]), lambda parts=parts: _kernel(parts), parts[-1]  # type: ignore[misc]

    return text_table(source, rows(), _datasheet(source, lines[:start]), 1.0)


def _kernel(parts: list[str]) -> Kernel:
    if len(parts) != 7:
        raise KernelError(f"it has {len(parts)} fields, and not 7")
    op, dims, _, params, *_ = parts
    shape = tuple(map(int, re.findall(r"-?\d+", dims)))
    fields = dict(re.findall(r"(\w+)=([^\s,()]+)", params))
    return known(_READ, op)(shape, fields)


def _datasheet(source: Path, header: list[list[str]]) -> Datasheet:
    """Read the two rows before the ops. The first may have blanks for tabs, so the second is read by position."""
    device, notes = f"not stated ({source.name})", ""
    threads, power_mode = None, ""
    if len(header) == 2 and len(header[1]) >= 4:
        device, _, n_threads, power, *cores = header[1]
        if not n_threads.isdecimal() or not power.isdecimal():
            raise TableFileError(f"Expected threads and power mode in {source}, but got {n_threads!r} and {power!r}.")
        threads = int(n_threads)
        power_mode = POWER_MODES[int(power)] if int(power) < len(POWER_MODES) else ""
        notes = f"Cores: {', '.join(cores)}." if cores else ""
    try:
        return Datasheet(
            device=device, engine="Paddle-Lite", method="imported", threads=threads, power_mode=power_mode,
            statistic="mean", sources=(f"Paddle-Lite's benchmark of operators, {source.name}",), notes=notes,
        )  # fmt: skip
    except TableError as error:
        raise TableFileError(f"Expected {source} to state how it was measured: {error}") from error
