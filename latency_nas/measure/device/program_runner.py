"""`ProgramRunner`: MNN's own benchmark programs, built by the user, as what times the networks of a session.

For devices that have no Python, such as a phone behind adb. Paddle-Lite's ``benchmark_bin`` times whole networks alone:
`time_lite`.
"""

from __future__ import annotations

import contextlib
import posixpath
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from latency_nas.engine.mnn.device_side import Network
from latency_nas.engine.mnn.mnn_engine import runner_errors
from latency_nas.errors import MeasureError, RunnerLostError
from latency_nas.measure.device.program_text import PROGRAMS, ProgramTimes
from latency_nas.measure.device.runner import VisitOptions
from latency_nas.measure.device.transport import Prefix, Transport, run_client

__all__ = ["ProgramRunner", "time_lite"]

_LOOPS = 5
# MNN's numbers of a precision: BackendConfig::PrecisionMode
_PRECISIONS = {"fp32": 1, "fp16": 2}


class ProgramRunner:
    """``MNNV2Basic.out`` or ``timeProfile.out`` on a device.

    The programs tell no single runs: a sample of a network is the mean over `_LOOPS` of them. Nor do they tell the
    order of ops: MNN on this machine says it, and every op's name is held against the program's.
    ``MNNV2Basic.out`` writes the network's last output into ``output.txt`` beside itself.

    Args:
        transport: the way to the device.
        program: its path there.
        folder: on the device, for networks.
    """

    def __init__(self, transport: Transport, program: str, *, folder: str = "/data/local/tmp") -> None:
        name = posixpath.basename(program)
        if name not in ("MNNV2Basic.out", "timeProfile.out"):
            raise MeasureError(
                f"Expected a program that is called MNNV2Basic.out or timeProfile.out, but got {program!r}."
            )
        self.transport, self._program, self._name, self._folder = transport, program, name, folder
        self._pushed: set[Path] = set()

    def hello(self) -> Mapping[str, Any]:
        """What the device is; of the engine's version the programs say nothing.

        Raises:
            RunnerLostError: if it cannot be reached.
        """
        machine = self._run("uname", "-m").strip()
        model = self._run("sh", "-c", "getprop ro.product.model 2>/dev/null || true").strip()
        emulator = isinstance(self.transport, Prefix) and "qemu" in self.transport.words[0]
        return {
            "at": self.transport.name,
            "machine": machine,
            "processor": model or machine,
            "emulated": emulator,
            "engine": "MNN",
            "engine_version": "",
            "samples": f"each the mean over {_LOOPS} runs of {self._name}",
        }

    def visit(self, file: Path, yardstick: Path, options: VisitOptions, *, describe: bool) -> Mapping[str, Any]:
        """The samples of one visit.

        Raises:
            MeasureError: if the program says no times, or of other ops than MNN runs here.
            RunnerLostError: if the device cannot be reached, or the program crashes.
        """
        del describe  # the order of ops is needed every time
        with runner_errors():
            ops = Network(str(file)).executed()
        before = self._time(yardstick, options, options.n_yardstick)
        times = [self._time(file, options, _LOOPS) for _ in range(options.n_runs)]
        after = self._time(yardstick, options, options.n_yardstick)
        names = [op[0] for op in ops]
        if sorted(names) != sorted(times[0].ops_ms):
            odd = sorted(set(names) ^ set(times[0].ops_ms))
            raise MeasureError(
                f"Expected {self._name} to run the ops of {file.stem} that MNN runs here, but these are not in both: "
                f"{', '.join(odd[:5])}."
            )
        return {
            "yardstick_before_ms": [before.whole_ms],
            "yardstick_after_ms": [after.whole_ms],
            "whole_ms": [sample.whole_ms for sample in times],
            "ops_ms": [[sample.ops_ms[name] for name in names] for sample in times],
            "ops": ops,
            "memory_mb": times[0].memory_mb,
        }

    def _time(self, file: Path, options: VisitOptions, n_runs: int) -> ProgramTimes:
        target = posixpath.join(self._folder, file.name)
        if file not in self._pushed:
            self.transport.push(file, target)
            self._pushed.add(file)
        how = [str(options.threads), str(_PRECISIONS[options.precision])]
        if self._name == "MNNV2Basic.out":
            arguments = [str(n_runs), "0", "0", *how]  # dump nothing; on the CPU
        else:
            with runner_errors():
                shape = "x".join(map(str, Network(str(file)).input_shape))
            arguments = [str(n_runs), "0", shape, *how]
        return PROGRAMS[self._name](self._run(self._program, target, *arguments))

    def _run(self, *argv: str) -> str:
        return run_client(self.transport.name, self.transport.command(argv))

    def close(self) -> None:
        """Remove the networks from the device."""
        with contextlib.suppress(RunnerLostError):
            for file in self._pushed:
                self._run("rm", "-f", posixpath.join(self._folder, file.name))
        self._pushed.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def time_lite(
    transport: Transport,
    program: str,
    model: Path,
    input_shape: tuple[int, ...],
    *,
    threads: int = 1,
    n_runs: int = 30,
    n_warmup: int = 5,
    folder: str = "/data/local/tmp",
) -> ProgramTimes:
    """Time a network that ``opt`` has optimised (``.nb``) by Paddle-Lite's ``benchmark_bin`` on a device.

    Args:
        transport: the way to the device.
        program: the path of ``benchmark_bin`` there.
        model: the ``.nb`` file, here.
        input_shape: of its input.
        threads: of the engine.
        n_runs: timed runs, of which the mean is given.
        n_warmup: untimed runs before them.
        folder: on the device, for the model.

    Raises:
        MeasureError: if the program says no times.
        RunnerLostError: if the device cannot be reached, or the program crashes.
    """
    target = posixpath.join(folder, model.name)
    transport.push(model, target)
    flags = {
        "optimized_model_file": target,
        "input_shape": ",".join(map(str, input_shape)),
        "threads": threads,
        "repeats": n_runs,
        "warmup": n_warmup,
    }
    command = transport.command([program, *(f"--{name}={value}" for name, value in flags.items())])
    return PROGRAMS["benchmark_bin"](run_client(transport.name, command))
