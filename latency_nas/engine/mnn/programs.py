"""MNN's own benchmark programs: their command lines and outputs.

References:
    MNN's ``tools/cpp/MNNV2Basic.cpp`` and ``tools/cpp/Profiler.cpp`` (of ``timeProfile.out``).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from latency_nas.engine.engine import Program
from latency_nas.engine.op_times import OpTimes, last_match

__all__ = ["PROGRAMS", "parse_mnn_basic", "parse_time_profile"]

_NUMBER = r"([-+.\deE]+)"
_BASIC_OP = re.compile(rf"^\s*(\S.*?) \t\[(\w+)\] run \d+ average cost {_NUMBER} ms", re.MULTILINE)
_BASIC_WHOLE = re.compile(rf"^Avg= {_NUMBER} ms,(?: OpSum = {_NUMBER} ms)? min= ", re.MULTILINE)
_PROFILE_TABLE = re.compile(r"^Node Name\s+Op Type\s+Avg\(ms\).*\n((?:.*\t.*\n)*)", re.MULTILINE)
_PROFILE_WHOLE = re.compile(rf"^total time : {_NUMBER} ms", re.MULTILINE)
_MEMORY = re.compile(rf"memory use {_NUMBER} MB")
_PRECISIONS = {"fp32": "1", "fp16": "2"}  # MNN's numbers: BackendConfig::PrecisionMode


def parse_mnn_basic(text: str) -> OpTimes:
    """Parse the output of ``MNNV2Basic.out``.

    Raises:
        MeasureError: if it has no times, for example because the model could not be opened.
    """
    whole = last_match(_BASIC_WHOLE, text, "MNNV2Basic.out")
    memory = _MEMORY.search(text)
    return OpTimes(
        whole_ms=float(whole[1]),
        ops_ms={name: float(cost) for name, _, cost in _BASIC_OP.findall(text)},
        memory_mb=float(memory[1]) if memory else None,
    )


def parse_time_profile(text: str) -> OpTimes:
    """Parse the output of ``timeProfile.out``.

    Raises:
        MeasureError: if it has no times, for example because the model could not be opened.
    """
    whole, table = (
        last_match(_PROFILE_WHOLE, text, "timeProfile.out"),
        last_match(_PROFILE_TABLE, text, "timeProfile.out"),
    )
    rows = [[cell.rstrip() for cell in line.split("\t")] for line in table[1].splitlines()]
    return OpTimes(whole_ms=float(whole[1]), ops_ms={row[0]: float(row[2]) for row in rows})


def _basic(model: str, n_runs: int, n_warmup: int, shape: Sequence[int], threads: int, precision: str) -> list[str]:
    del n_warmup, shape
    return [model, str(n_runs), "0", "0", str(threads), _PRECISIONS[precision]]  # no dumps; on the CPU


def _profile(model: str, n_runs: int, n_warmup: int, shape: Sequence[int], threads: int, precision: str) -> list[str]:
    del n_warmup
    return [model, str(n_runs), "0", "x".join(map(str, shape)), str(threads), _PRECISIONS[precision]]


PROGRAMS = {
    "MNNV2Basic.out": Program(arguments=_basic, read=parse_mnn_basic),
    "timeProfile.out": Program(arguments=_profile, read=parse_time_profile),
}
