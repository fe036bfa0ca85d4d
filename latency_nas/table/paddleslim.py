"""Imports the latency tables of PaddleSlim's TableLatencyPredictor: pickles of Paddle-Lite op keys and milliseconds.

A key is an op type and ``name=value`` fields. The importer is tolerant where the same op is spelt in several ways
(batch -1, ``axis``, doubled blanks, a stray bracket) and says of each key that it could not use why.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, prod
from pathlib import Path
from typing import Any

import numpy as np

from latency_nas.errors import KernelError, TableError, TableFileError, shown
from latency_nas.kernel import Kernel, Shape, n_flops, n_macs
from latency_nas.table.datasheet import Datasheet
from latency_nas.table.latency_table import Entry, LatencyTable
from latency_nas.table.plain_pickle import load_plain_pickle

__all__ = ["ImportReport", "import_paddleslim", "parse_paddleslim_key"]

_FIELD = re.compile(r"(\w+)=\s*((?:\([^()]*\))+|\[[^\[\]]*\]|[^\s()]+)\)?")
_SHAPE = re.compile(r"\(([^()]*)\)")
_FILE_NAME = re.compile(
    r"(?P<hw>.+?)_threads_(?P<threads>\d+)_power_mode_(?P<power>\d+)(?:_batchsize_(?P<batch>\d+))?\.pkl"
)
_DTYPES = {"8": "int8", "16": "fp16"}
_POWER_MODES = ("HIGH", "LOW", "FULL", "NO_BIND", "RAND_HIGH", "RAND_LOW")  # Paddle-Lite's enum, in its order

_IMPOSSIBLE = 10.0  # times the rate that 95 % of a table's convolutions and multiplications stay below

# A convolution's key names neither its activation nor its bias, a pool's not its rounding, a softmax's not its axis.
_UNRECORDED = ("conv2d.act", "conv2d.bias", "pool2d.ceil", "softmax.axis")
_NOTES = "Paddings that differ by side stand in the source as one number and are taken as equal."


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportReport:
    """What became of a foreign table's keys.

    Args:
        n_keys: keys in the file.
        n_used: keys that a row of the table rests on.
        merged: for each row made of several keys, its kernel and those keys; its latency is that of the first key
            with a stated batch.
        skipped: for each key that could not be used, why.
    """

    n_keys: int
    n_used: int
    merged: dict[str, tuple[str, ...]]
    skipped: dict[str, str]

    def __str__(self) -> str:
        lines = [f"{self.n_used} of {self.n_keys} keys used; {len(self.merged)} kernels stood under several keys."]
        return "\n".join(lines + [f"not used: {key!r}: {reason}" for key, reason in self.skipped.items()])


class _Fields:
    """The fields of one key, with accessors that know the types."""

    def __init__(self, text: str) -> None:
        self.raw = dict(_FIELD.findall(text))
        if rest := _FIELD.sub("", text).strip(" )"):
            raise KernelError(f"the part {rest!r} is not understood")

    def shapes(self, name: str) -> list[Shape]:
        found = _SHAPE.findall(self.text(name))
        shapes = [tuple(int(size) for size in text.replace(" ", "").split(",") if size) for text in found]
        return [(1, *shape[1:]) if shape[:1] == (-1,) else shape for shape in shapes]  # measured with one image

    def shape(self, name: str) -> Shape:
        shapes = self.shapes(name)
        if len(shapes) != 1 or not shapes[0]:
            raise KernelError(f"the shape of `{name}` is not stated")
        return shapes[0]

    def number(self, name: str) -> int:
        return int(self.text(name))

    def numbers(self, name: str) -> tuple[int, ...]:
        return tuple(map(int, re.findall(r"-?\d+", self.text(name))))

    def text(self, name: str) -> str:
        if name not in self.raw:
            raise KernelError(f"the field `{name}` is missing")
        return str(self.raw[name])

    @property
    def dtype(self) -> str:
        if self.raw.get("quant", "None") == "None":
            return "fp32"
        bits = self.text("bit_length")
        if bits not in _DTYPES:
            raise KernelError(f"the bit length {bits!r} is not known")
        return _DTYPES[bits]

    def axis(self, rank: int) -> int:
        """`axis`, counted from the front."""
        axis = self.number("axis")
        if not -rank <= axis < rank:
            raise KernelError(f"the axis {axis} does not fit {rank} dimensions")
        return axis % rank


def _conv(fields: _Fields) -> Kernel:
    weight, pad = fields.shape("weight"), fields.number("pad")
    return Kernel.of(
        "conv2d", [fields.shape("in")], [fields.shape("out")], dtype=fields.dtype, kernel=weight[2:], pad=(pad,) * 4,
        stride=(fields.number("stride"),) * 2, dilation=(fields.number("dilation"),) * 2, group=fields.number("group"),
    )  # fmt: skip


def _pool(fields: _Fields) -> Kernel:
    source, pad = fields.shape("in"), fields.number("pad")
    attrs: dict[str, Any] = {
        "type": fields.text("type"),
        "kernel": tuple(map(int, fields.text("kernel").split("x"))),
        "stride": (fields.number("stride"),) * 2,
        "pad": (pad,) * 4,
    }
    if fields.number("flag_global"):
        attrs |= {"kernel": source[2:], "stride": (1, 1), "pad": (0,) * 4, "global": 1}
    return Kernel.of("pool2d", [source], [fields.shape("out")], **attrs)


def _unary(op: str) -> Callable[[_Fields], Kernel]:
    return lambda fields: Kernel.of(op, [fields.shape("in")], [fields.shape("out")])


def _binary(op: str, **attrs: str) -> Callable[[_Fields], Kernel]:
    """`axis` says where the smaller operand's dimensions stand in the larger; written into its shape, it is gone."""

    def read(fields: _Fields) -> Kernel:
        x, y = fields.shape("X"), fields.shape("Y")
        axis = fields.axis(len(x)) if fields.number("axis") >= 0 else len(x) - len(y)
        aligned = y + (1,) * (len(x) - axis - len(y)) if len(y) < len(x) else y
        return Kernel.of(op, [x, aligned], [fields.shape("out")], **attrs)

    return read


def _matmul(fields: _Fields) -> Kernel:
    return Kernel.of("matmul", [fields.shape("X"), fields.shape("Y")], [fields.shape("out")], dtype=fields.dtype)


def _concat(fields: _Fields) -> Kernel:
    out = fields.shape("out")
    return Kernel.of("concat", fields.shapes("in"), [out], axis=fields.axis(len(out)))


def _split(fields: _Fields) -> Kernel:
    source, sections = fields.shape("in"), fields.numbers("sections")
    axis = fields.axis(len(source))
    if sum(sections) != source[axis]:
        raise KernelError("the sections do not add up to the input")
    outputs = [(*source[:axis], size, *source[axis + 1 :]) for size in sections]
    return Kernel.of("split", [source], outputs, axis=axis)


def _shuffle(fields: _Fields) -> Kernel:
    return Kernel.of("shuffle_channel", [fields.shape("in")], [fields.shape("out")], group=fields.number("group"))


def _reshape(fields: _Fields) -> Kernel:
    source, target = fields.shape("in"), fields.shape("out")
    if prod(source) != prod(target):
        raise KernelError("the sizes of its input and output differ")
    return Kernel.of("reshape", [source], [target])


def _slice(fields: _Fields) -> Kernel:
    """Where it cuts is not in the key, so that no output shape can be given."""
    return Kernel.of("paddle.slice", [fields.shape("in")], [], axes=fields.numbers("axes"))


# op type -> reader of its fields; types that have no counterpart of the same cost keep Paddle's name
_READ: dict[str, Callable[[_Fields], Kernel]] = {
    "conv2d": _conv,
    "depthwise_conv2d": _conv,
    "pool2d": _pool,
    **{
        op: _unary(op)
        for op in ("hard_swish", "hard_sigmoid", "swish", "sigmoid", "relu", "leaky_relu", "tanh", "gelu", "softmax")
    },
    **{op: _unary(op) for op in ("clip", "batch_norm", "layer_norm")},
    **{op: _unary(f"paddle.{op}") for op in ("scale", "shape", "floor", "sqrt")},
    "elementwise_add": _binary("add"),
    "elementwise_sub": _binary("sub"),
    "elementwise_mul": _binary("mul"),
    "elementwise_div": _binary("div"),
    # the key names no activation; on ARM, opt fuses none but relu
    "fusion_elementwise_add_activation": _binary("add", act="relu"),
    "matmul": _matmul,
    "matmul_v2": _matmul,
    "concat": _concat,
    "split": _split,
    "shuffle_channel": _shuffle,
    "reshape2": _reshape,
    "squeeze2": _reshape,
    "unsqueeze2": _reshape,
    "flatten_contiguous_range": _reshape,
    "slice": _slice,
    "dropout": lambda fields: Kernel.of("paddle.dropout", [fields.shape("in")], [fields.shape("in")]),
    **{op: lambda _, op=op: Kernel.of(f"paddle.{op}", [], []) for op in ("fill_constant", "range", "cast")},  # type: ignore[misc]
}


def parse_paddleslim_key(key: str) -> Kernel:
    """The kernel that a key of PaddleSlim's table names.

    Raises:
        KernelError: if the op type is not known, or a field is missing or leaves a size open.

    Example:
        >>> parse_paddleslim_key("swish in=(-1, 8, 1, 1) out=(-1, 8, 1, 1)").key
        'swish [1,8,1,1] -> [1,8,1,1] dtype=fp32'
    """
    op, _, rest = key.strip().partition(" ")
    if op not in _READ:
        raise KernelError(f"the op type {op!r} is not known")
    try:
        return _READ[op](_Fields(rest))
    except (ValueError, LookupError) as error:
        if isinstance(error, KernelError):
            raise
        raise KernelError(f"a field cannot be read ({error})") from error


def import_paddleslim(path: str | os.PathLike[str]) -> tuple[LatencyTable, ImportReport]:
    """Import a table of PaddleSlim's, ``{HW}_threads_{T}_power_mode_{P}.pkl``, without running anything of it.

    Device, threads and power mode are in the file's name alone; of a file with another name they stay unstated.

    Args:
        path: the pickle.

    Returns:
        The table, marked as imported, and what became of each key.

    Raises:
        UnsafePickleError: if the pickle holds more than plain data.
        TableFileError: if it is not a dict of text and positive numbers, or no key of it can be used.
    """
    source = Path(path)
    data = load_plain_pickle(source)
    if not isinstance(data, dict) or not all(isinstance(key, str) for key in data):
        raise TableFileError(
            f"Expected {source} to hold a dict of op keys and milliseconds, but got {type(data).__name__}."
        )
    keys: dict[Kernel, list[str]] = {}
    skipped: dict[str, str] = {}
    rows: dict[str, Entry] = {}
    for key, latency_ms in data.items():
        try:
            rows[key] = Entry(latency_ms=latency_ms)
            keys.setdefault(parse_paddleslim_key(key), []).append(key)
        except KernelError as error:
            skipped[key] = str(error)
        except TableError:
            skipped[key] = f"its latency is {shown(latency_ms)}"
    skipped |= _impossible(keys, rows)
    keys = {
        kernel: sound for kernel, names in keys.items() if (sound := [name for name in names if name not in skipped])
    }
    if not keys:
        raise TableFileError(f"Expected op keys of PaddleSlim in {source}, but none of {len(data)} can be used.")
    entries = {kernel: rows[min(names, key=lambda name: "(-1" in name)] for kernel, names in keys.items()}
    merged = {kernel.key: tuple(names) for kernel, names in keys.items() if len(names) > 1}
    report = ImportReport(n_keys=len(data), n_used=len(data) - len(skipped), merged=merged, skipped=skipped)
    try:
        datasheet = _datasheet(source.name)
    except TableError as error:
        raise TableFileError(f"Expected the name of {source} to state how it was measured: {error}") from error
    return LatencyTable.of(entries, datasheet, name=str(source)), report


def _impossible(keys: Mapping[Kernel, Sequence[str]], rows: Mapping[str, Entry]) -> dict[str, str]:
    """Keys that stand beside another op's time: their arithmetic would be far faster than all the rest of the table.

    PaddleSlim's builder takes times from a log by their order; in its own RK3288 table it slipped in some networks.
    """
    rates = {
        name: n_flops(kernel) / rows[name].latency_ms / 1e6
        for kernel, names in keys.items()
        if n_macs(kernel)
        for name in names
    }
    finite = [rate for rate in rates.values() if isfinite(rate)]
    bound = _IMPOSSIBLE * float(np.quantile(finite, 0.95)) if finite else 0.0
    return {
        name: f"{rows[name].latency_ms:.4g} ms for it would be {rate:.0f} GFLOP/s, which the device cannot reach"
        for name, rate in rates.items()
        if not rate <= bound
    }


def _datasheet(file_name: str) -> Datasheet:
    match = _FILE_NAME.fullmatch(file_name)
    power = int(match["power"]) if match else -1
    return Datasheet(
        device=match["hw"].upper() if match else f"not stated ({file_name})",
        engine="Paddle-Lite 2.11",  # the build behind PaddleSlim's keys
        method="imported",
        threads=int(match["threads"]) if match else None,
        power_mode=_POWER_MODES[power] if 0 <= power < len(_POWER_MODES) else "",
        batch=int(match["batch"] or 1) if match else 1,
        statistic="mean",
        sources=(f"PaddleSlim TableLatencyPredictor, {file_name}",),
        unrecorded=_UNRECORDED,
        notes=_NOTES,
    )
