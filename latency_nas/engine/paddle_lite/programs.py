"""Paddle-Lite's own benchmark program: its command line and output.

References:
    Paddle-Lite's ``lite/api/tools/benchmark/benchmark.cc``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from latency_nas.engine.engine import Program
from latency_nas.engine.op_times import OpTimes, last_match, no_times

__all__ = ["PROGRAMS", "parse_benchmark_bin"]

_NUMBER = r"([-+.\deE]+)"
_TIMES = re.compile(r"Time\(unit: ms\):\n((?:\w+\s*= .*\n?)*)")
_TIME = re.compile(rf"^(\w+)\s*= {_NUMBER}", re.MULTILINE)
_MEMORY = re.compile(rf"Memory Usage\(unit: MB\):\n.*\npeak\s*= {_NUMBER}")


def parse_benchmark_bin(text: str) -> OpTimes:
    """Parse the output of ``benchmark_bin``.

    Raises:
        MeasureError: if it has no times.
    """
    times = dict(_TIME.findall(last_match(_TIMES, text, "benchmark_bin")[1]))
    if "avg" not in times:
        raise no_times("benchmark_bin", text)
    memory = _MEMORY.search(text)
    return OpTimes(whole_ms=float(times["avg"]), ops_ms={}, memory_mb=float(memory[1]) if memory else None)


def _benchmark(model: str, n_runs: int, n_warmup: int, shape: Sequence[int], threads: int, precision: str) -> list[str]:
    del precision  # fixed in the optimised file
    flags = {
        "optimized_model_file": model,
        "input_shape": ",".join(map(str, shape)),
        "threads": threads,
        "repeats": n_runs,
        "warmup": n_warmup,
    }
    return [f"--{name}={value}" for name, value in flags.items()]


PROGRAMS = {"benchmark_bin": Program(arguments=_benchmark, read=parse_benchmark_bin, times_ops=False)}
