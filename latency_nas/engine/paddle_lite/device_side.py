"""The side of the meter that runs inside the Python that has Paddle-Lite: one file, paddlelite and numpy alone.

Started as a program it serves: a request a line on standard input, an answer a line on standard output, both JSON, for
Python 3.8 or newer.

``{"do": "hello"}`` is answered by ``engine``, ``engine_version`` and ``processor``. ``{"do": "visit", ...}`` (the
rest is in `visit`) is answered by raw samples in milliseconds, as `device_runner` gives them. What cannot be done is
answered by ``{"error": text}``, and serving goes on; where Paddle-Lite aborts, the process ends.
"""

from __future__ import annotations

import gc
import json
import os
import platform
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any, Sequence  # noqa: UP035 - Python 3.8

__all__ = ["main", "visit"]

_yardsticks: dict[str, Program] = {}


class Program:
    """A program opened for this processor. On x86 Paddle-Lite uses one thread, whatever it is asked for."""

    def __init__(self, path: str, input_shapes: Sequence[Sequence[int]]) -> None:
        import numpy as np
        import paddlelite.lite as lite

        weights = Path(path).with_suffix(".pdiparams")
        if Path(path).suffix != ".pdmodel" or not Path(path).is_file() or not weights.is_file():
            raise ValueError(f"Expected a .pdmodel with its .pdiparams beside it, but got {path}.")
        config = lite.CxxConfig()
        config.set_model_file(path)
        config.set_param_file(str(weights))
        places = [(lite.TargetType.X86, lite.PrecisionType.FP32), (lite.TargetType.Host, lite.PrecisionType.FP32)]
        config.set_valid_places([lite.Place(target, precision) for target, precision in places])
        self._path = path
        self._predictor = lite.create_paddle_predictor(config)
        random = np.random.default_rng(0)
        self._inputs = [random.random(shape, dtype=np.float32) for shape in input_shapes]

    def run_ms(self, n_runs: int, least_ms: float = 0.0) -> list[float]:
        """Milliseconds of whole runs; copies to and from the host are not in them.

        A program that is made for another processor "runs" in no time, without an error: that is refused.
        """
        times = []
        gc.disable()
        try:
            for _ in range(n_runs):
                for index, array in enumerate(self._inputs):  # a run may have written into their memory
                    self._predictor.get_input(index).from_numpy(array)
                start = time.perf_counter_ns()
                self._predictor.run()
                times.append((time.perf_counter_ns() - start) / 1e6)
        finally:
            gc.enable()
        if times and not min(times) > least_ms:
            raise ValueError(
                f"Expected {Path(self._path).name} to take more than {least_ms:.6f} ms, as its multiply-accumulates do "
                f"on any processor, but Paddle-Lite took less: it is made for another processor, or did not run."
            )
        return times

    def outputs(self) -> list[Any]:
        """What the last run gave; copied, since a tensor's array is a view into memory that goes with the predictor."""
        names = self._predictor.get_output_names()
        return [self._predictor.get_output(index).numpy().copy() for index in range(len(names))]


def visit(
    file: str,
    input_shapes: Sequence[Sequence[int]],
    yardstick: str,
    yardstick_shapes: Sequence[Sequence[int]],
    n_warmup: int = 2,
    n_runs: int = 6,
    n_yardstick: int = 7,
    least_ms: float = 0.0,
) -> dict[str, Any]:
    """The raw samples of one visit: the yardstick, the program opened afresh, and the yardstick again.

    Args:
        file: a ``.pdmodel``, its ``.pdiparams`` beside it.
        input_shapes: of its inputs, which are floats.
        yardstick: another, which stays open.
        yardstick_shapes: of its inputs.
        n_warmup: untimed runs.
        n_runs: timed runs.
        n_yardstick: runs of the yardstick before, and as many after.
        least_ms: what no processor can run the program in.

    Raises:
        ValueError: if a file is missing, or a run takes an impossible time.
    """
    if yardstick not in _yardsticks:
        _yardsticks[yardstick] = Program(yardstick, yardstick_shapes)
        _yardsticks[yardstick].run_ms(10 * n_yardstick)  # caches and clocks warm up
    program = Program(file, input_shapes)
    program.run_ms(n_warmup)
    before = _yardsticks[yardstick].run_ms(n_yardstick)
    whole = program.run_ms(n_runs, least_ms)
    after = _yardsticks[yardstick].run_ms(n_yardstick)
    return {
        "yardstick_before_ms": before,
        "yardstick_after_ms": after,
        "whole_ms": whole,
        "ops_ms": [],
        "memory_mb": None,
        "output_shapes": [list(output.shape) for output in program.outputs()],
    }


def _processor() -> str:
    """Its name as the system gives it, or the architecture."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    do = request.pop("do", None)
    try:
        if do == "hello":
            version = metadata.version("paddlelite")
            return {"engine": "Paddle-Lite", "engine_version": version, "processor": _processor()}
        if do == "visit":
            return visit(**request)
        raise ValueError(f"Expected a request to be hello or visit, but got {do!r}.")
    except Exception as error:
        return {"error": str(error) or type(error).__name__}


def main() -> None:
    """Serve. What Paddle-Lite logs from C++ on standard output and error goes nowhere."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    sink = os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, 1)
    os.dup2(sink, 2)
    for line in sys.stdin:
        answers.write(json.dumps(_answer(json.loads(line))) + "\n")


if __name__ == "__main__":
    main()
