"""What the engines' own benchmark programs print, as numbers.

References:
    MNN's ``tools/cpp/MNNV2Basic.cpp`` and ``tools/cpp/Profiler.cpp`` (of ``timeProfile.out``); Paddle-Lite's
    ``lite/api/tools/benchmark/benchmark.cc``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from latency_nas.errors import MeasureError

__all__ = ["PROGRAMS", "ProgramTimes", "parse_benchmark_bin", "parse_mnn_basic", "parse_time_profile"]

_NUMBER = r"([-+.\deE]+)"
_BASIC_OP = re.compile(rf"^\s*(\S.*?) \t\[(\w+)\] run \d+ average cost {_NUMBER} ms", re.MULTILINE)
_BASIC_WHOLE = re.compile(rf"^Avg= {_NUMBER} ms,(?: OpSum = {_NUMBER} ms)? min= ", re.MULTILINE)
_PROFILE_TABLE = re.compile(r"^Node Name\s+Op Type\s+Avg\(ms\).*\n((?:.*\t.*\n)*)", re.MULTILINE)
_PROFILE_WHOLE = re.compile(rf"^total time : {_NUMBER} ms", re.MULTILINE)
_LITE_TIMES = re.compile(r"Time\(unit: ms\):\n((?:\w+\s*= .*\n?)*)")
_LITE_TIME = re.compile(rf"^(\w+)\s*= {_NUMBER}", re.MULTILINE)
_LITE_MEMORY = re.compile(rf"Memory Usage\(unit: MB\):\n.*\npeak\s*= {_NUMBER}")
_MEMORY = re.compile(rf"memory use {_NUMBER} MB")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramTimes:
    """What a program says of one network, the mean over its runs.

    Args:
        whole_ms: a run. Of ``timeProfile.out`` it is the sum of the ops.
        ops_ms: each op, by its name; empty where the program does not time them.
        memory_mb: the session's, where the program says it.
    """

    whole_ms: float
    ops_ms: dict[str, float]
    memory_mb: float | None = None

    def __post_init__(self) -> None:
        for name, value in (("the network", self.whole_ms), *self.ops_ms.items()):
            if not 0 <= value < float("inf"):
                raise MeasureError(f"Expected the time of {name} to be a finite number >= 0, but got {value}.")
        if not self.whole_ms:
            raise MeasureError("Expected a network to take time, but got 0 ms: it did not run.")


def parse_mnn_basic(text: str) -> ProgramTimes:
    """The output of ``MNNV2Basic.out``.

    Raises:
        MeasureError: if it holds no times, as where the model could not be opened.
    """
    whole = _last(_BASIC_WHOLE, text, "MNNV2Basic.out")
    memory = _MEMORY.search(text)
    return ProgramTimes(
        whole_ms=float(whole[1]),
        ops_ms={name: float(cost) for name, _, cost in _BASIC_OP.findall(text)},
        memory_mb=float(memory[1]) if memory else None,
    )


def parse_time_profile(text: str) -> ProgramTimes:
    """The output of ``timeProfile.out``.

    Raises:
        MeasureError: if it holds no times, as where the model could not be opened.
    """
    whole, table = _last(_PROFILE_WHOLE, text, "timeProfile.out"), _last(_PROFILE_TABLE, text, "timeProfile.out")
    rows = [[cell.rstrip() for cell in line.split("\t")] for line in table[1].splitlines()]
    return ProgramTimes(whole_ms=float(whole[1]), ops_ms={row[0]: float(row[2]) for row in rows})


def parse_benchmark_bin(text: str) -> ProgramTimes:
    """The output of ``benchmark_bin``.

    Raises:
        MeasureError: if it holds no times.
    """
    times = dict(_LITE_TIME.findall(_last(_LITE_TIMES, text, "benchmark_bin")[1]))
    if "avg" not in times:
        raise MeasureError(_nothing("benchmark_bin", text))
    memory = _LITE_MEMORY.search(text)
    return ProgramTimes(whole_ms=float(times["avg"]), ops_ms={}, memory_mb=float(memory[1]) if memory else None)


PROGRAMS: dict[str, Callable[[str], ProgramTimes]] = {
    "MNNV2Basic.out": parse_mnn_basic,
    "timeProfile.out": parse_time_profile,
    "benchmark_bin": parse_benchmark_bin,
}


def _last(pattern: re.Pattern[str], text: str, program: str) -> re.Match[str]:
    found = list(pattern.finditer(text))
    if not found:
        raise MeasureError(_nothing(program, text))
    return found[-1]


def _nothing(program: str, text: str) -> str:
    said = text.strip().splitlines() or ["nothing"]
    return f"Expected the times that {program} prints, but its output ends in {said[-1]!r}."
