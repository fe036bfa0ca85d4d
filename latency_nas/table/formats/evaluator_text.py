"""Imports the text tables of PaddleSlim's ``TableLatencyEvaluator``.

A file has a header of three fields, then a line for each op: its parameters between commas, a tab, and its latency.

References:
    PaddleSlim 2.6.0, ``paddleslim/analysis/latency.py`` and ``docs/zh_cn/api_cn/static/nas/table_latency.md``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from latency_nas.errors import KernelError
from latency_nas.kernel import Kernel, Shape
from latency_nas.table.datasheet import Datasheet
from latency_nas.table.formats.content import head_lines
from latency_nas.table.formats.format import ImportReport
from latency_nas.table.formats.text_rows import known, text_lines, text_table, window_out
from latency_nas.table.formats.unit import ms_per_unit
from latency_nas.table.latency_table import LatencyTable

__all__ = ["import_evaluator_text", "recognises_evaluator_text"]

_ELTWISE = {"1": "mul", "2": "add", "3": "maximum"}
_UNARY = ("relu", "prelu", "sigmoid", "relu6", "elu", "leaky_relu", "tanh", "swish", "hard_swish", "hard_sigmoid")


def _conv(fields: Sequence[str]) -> Kernel:
    """Read a convolution. Sizes that differ by axis are appended to its fields without names, so these are refused."""
    bias, relu, n, c_in, height, width, c_out, group, kernel, pad, stride, dilation = map(int, fields[:12])
    if len(fields) > 12:
        raise KernelError("sizes that differ by axis are appended without saying which")
    attrs: dict[str, Any] = {"act": "relu"} if relu else {}
    size = [window_out(extent, kernel, pad, stride, dilation=dilation) for extent in (height, width)]
    return Kernel.of(
        "conv2d", [(n, c_in, height, width)], [(n, c_out, *size)], kernel=(kernel,) * 2, pad=(pad,) * 4,
        stride=(stride,) * 2, dilation=(dilation,) * 2, group=group, bias=bias, **attrs,
    )  # fmt: skip


def _pool(fields: Sequence[str]) -> Kernel:
    is_global, n, channels, height, width, kernel, pad, stride, ceil, kind = map(int, fields[:10])
    if len(fields) > 10:
        raise KernelError("sizes that differ by axis are appended without saying which")
    attrs: dict[str, Any] = {"type": "max" if kind == 1 else "avg"}
    source = (n, channels, height, width)
    if is_global:
        attrs |= {"global": 1, "kernel": (height, width), "pad": (0,) * 4, "stride": (1, 1)}
        return Kernel.of("pool2d", [source], [(n, channels, 1, 1)], **attrs)
    size = [window_out(extent, kernel, pad, stride, ceil=bool(ceil)) for extent in (height, width)]
    attrs |= {"kernel": (kernel,) * 2, "pad": (pad,) * 4, "stride": (stride,) * 2, **({"ceil": 1} if ceil else {})}
    return Kernel.of("pool2d", [source], [(n, channels, *size)], **attrs)


def _eltwise(fields: Sequence[str]) -> Kernel:
    """Read the operation and one operand's shape. The other operand is assumed to have the same shape."""
    if len(fields) < 5:
        raise KernelError("which operation it is is not stated")
    shape = _shape(fields[1:])
    return Kernel.of(_ELTWISE[fields[0]], [shape, shape], [shape])


def _norm(fields: Sequence[str]) -> Kernel:
    shape = _shape(fields[1:])
    attrs = {} if fields[0] == "None" else {"act": fields[0]}
    return Kernel.of("batch_norm", [shape], [shape], **attrs)


def _softmax(fields: Sequence[str]) -> Kernel:
    shape = _shape(fields[1:])
    return Kernel.of("softmax", [shape], [shape], axis=int(fields[0]) % len(shape))


def _shape(fields: Sequence[str]) -> Shape:
    return tuple(map(int, fields))


def _unary(op: str) -> Callable[[Sequence[str]], Kernel]:
    return lambda fields: Kernel.of(op, [_shape(fields)], [_shape(fields)])


_READ: dict[str, Callable[[Sequence[str]], Kernel]] = {
    "conv": _conv,
    "conv2d": _conv,  # in the documents; the code writes conv
    "pooling": _pool,
    "eltwise": _eltwise,
    "batch_norm": _norm,
    "softmax": _softmax,
    **{op: _unary(op) for op in _UNARY},
}


def recognises_evaluator_text(head: bytes, _: Path) -> bool:
    """Whether the first or second line is a row of an op. Only a header may come before the rows."""
    return any(map(_is_row, head_lines(head)[:2]))


def _is_row(line: str) -> bool:
    op, *fields = re.split(r"[^\w.+-]+", line.strip())
    numbers = [field for field in fields if re.fullmatch(r"-?[\d.]+(e[+-]?\d+)?", field)]
    return op in _READ and len(numbers) >= 3 and set(fields) <= {*numbers, "None", *_UNARY}


def import_evaluator_text(
    path: str | os.PathLike[str],
    *,
    unit: Literal["ms", "us"] | None = None,
    delimiter: str = ",",
    threads: int | None = None,
) -> tuple[LatencyTable, ImportReport]:
    """Import a table of PaddleSlim's ``TableLatencyEvaluator``.

    Args:
        path: Text file. Its first line has engine, device and date between tabs or, as in the documents, device, engine
            and date between commas. The first line may also be a row of names or of an op.
        unit: Unit of the latencies, ``"ms"`` or ``"us"``. It is required, since the file does not state it. That of
            PaddleDetection is ``"us"``.
        delimiter: Text between an op's parameters.
        threads: Number of threads, where it is known.

    Returns:
        The table, marked as imported, and a report on its lines.

    Raises:
        TableFileError: if no line can be used, or the unit is not given.
    """
    source = Path(path)
    to_ms = ms_per_unit(source, unit)
    lines = text_lines(source)
    first = re.split(rf"[\t,{re.escape(delimiter)}]", lines[0]) if lines else []
    engine, device = "Paddle-Lite", f"not stated ({source.name})"
    notes = "The outputs are computed from the parameters, with what is padded on both sides alike."
    if first and first[0] not in _READ:
        if len(first) == 3:
            engine, device = first[:2] if "\t" in lines[0] else first[1::-1]
            notes += f" The file states {first[2]} as its date."
        del lines[0]
    sheet = Datasheet(
        device=device, engine=engine, method="imported", threads=threads, notes=notes,
        sources=(f"PaddleSlim TableLatencyEvaluator, {source.name}",),
    )  # fmt: skip

    def rows() -> Iterator[tuple[str, Callable[[], Kernel], str]]:
        for line in lines:
            params, _, latency = line.rpartition("\t" if "\t" in line else delimiter)
            op, *fields = (part.strip() for part in params.split(delimiter))
            yield params, lambda op=op, fields=fields: known(_READ, op)(fields), latency  # type: ignore[misc]

    table, report = text_table(source, rows(), sheet, to_ms)
    return _without_constant_flags(table), report


def _without_constant_flags(table: LatencyTable) -> LatencyTable:
    """Mark bias and activation as unrecorded if no convolution has either: then the flags were never set."""
    convs = [kernel for kernel in table if kernel.op == "conv2d"]
    if not convs or any(kernel.attributes["bias"] or "act" in kernel.attributes for kernel in convs):
        return table
    entries = {kernel.without(("bias",)) if kernel.op == "conv2d" else kernel: row for kernel, row in table.items()}
    sheet = replace(table.datasheet, unrecorded=("conv2d.act", "conv2d.bias"))
    return LatencyTable.of(entries, sheet, name=table.name)
