"""`ProgramRunner`: times the networks of a session by an engine's own benchmark program, which the user has built.

For devices that have no Python, such as a phone behind adb. A session needs a program that times ops; one that times
only whole networks is run by `time_network`.
"""

from __future__ import annotations

import contextlib
import posixpath
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from latency_nas.engine import Engine, OpTimes, get_engine
from latency_nas.errors import MeasureError, RunnerLostError
from latency_nas.measure.device.runner import LocalRunner, RepetitionOptions, Runner
from latency_nas.measure.device.transport import Prefix, Transport, run_client

__all__ = ["ProgramRunner", "time_network"]

_LOOPS = 5


class ProgramRunner(Runner):
    """One of `Engine.programs` on a device.

    The programs do not print single runs: a sample of a network is the mean over `_LOOPS` runs. Nor do they print the
    order of ops: the engine on this machine gives it, and the names of the ops must be the same in both.

    Args:
        transport: Way to the device.
        program: Path of the program on the device.
        engine: Engine that the program is of, or its name; the registry's default for None.
        folder: Folder on the device for the networks.
    """

    def __init__(
        self, transport: Transport, program: str, *, engine: Engine | str | None = None, folder: str = "/data/local/tmp"
    ) -> None:
        self._engine, name = get_engine(engine), posixpath.basename(program)
        known = [name for name, found in self._engine.programs.items() if found.times_ops]
        if name not in known:
            raise MeasureError(
                f"Expected a program that is called {' or '.join(known) or f'as none of {self._engine.title} is'}, "
                f"but got {program!r}."
            )
        self.transport, self._program, self._name, self._folder = transport, program, name, folder
        self._local = LocalRunner(self._engine)
        self._pushed: set[Path] = set()
        self._described: dict[Path, Mapping[str, Any]] = {}

    def hello(self) -> Mapping[str, Any]:
        """What the device is. The engine's version stays empty, since the programs do not print it.

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
            "engine": self._engine.title,
            "engine_version": "",
            "samples": f"each the mean over {_LOOPS} runs of {self._name}",
        }

    def repeat(
        self, file: Path, yardstick: Path, options: RepetitionOptions, *, describe: bool, min_ms: float = 0.0
    ) -> Mapping[str, Any]:
        """The samples of one repetition.

        Raises:
            MeasureError: if the program prints no times, or runs other ops than the engine on this machine.
            RunnerLostError: if the device cannot be reached, or the program crashes.
        """
        del describe, min_ms  # the order of ops is needed every time; the programs fail if a network did not run
        ops = self._describe(file)["ops"]
        before = self._time(yardstick, options, options.n_yardstick)
        times = [self._time(file, options, _LOOPS) for _ in range(options.n_runs)]
        after = self._time(yardstick, options, options.n_yardstick)
        names = [op[0] for op in ops]
        if sorted(names) != sorted(times[0].ops_ms):
            unmatched = sorted(set(names) ^ set(times[0].ops_ms))
            raise MeasureError(
                f"Expected {self._name} to run the ops of {file.stem} that {self._engine.title} runs here, but these "
                f"are not in both: {', '.join(unmatched[:5])}."
            )
        return {
            "yardstick_before_ms": [before.whole_ms],
            "yardstick_after_ms": [after.whole_ms],
            "whole_ms": [sample.whole_ms for sample in times],
            "ops_ms": [[sample.ops_ms[name] for name in names] for sample in times],
            "ops": ops,
            "memory_mb": times[0].memory_mb,
        }

    def _time(self, file: Path, options: RepetitionOptions, n_runs: int) -> OpTimes:
        target = posixpath.join(self._folder, file.name)
        if file not in self._pushed:
            self.transport.push(file, target)
            self._pushed.add(file)
        program, shape = self._engine.programs[self._name], self._describe(file)["input_shape"]
        arguments = program.arguments(target, n_runs, 0, shape, options.threads, options.precision)
        return program.read(self._run(self._program, *arguments))

    def _describe(self, file: Path) -> Mapping[str, Any]:
        """What the engine on this machine runs for a file; found once."""
        if file not in self._described:
            self._described[file] = self._local.describe(file)
        return self._described[file]

    def _run(self, *argv: str) -> str:
        return run_client(self.transport.name, self.transport.command(argv))

    def close(self) -> None:
        """Remove the networks from the device."""
        self._local.close()
        with contextlib.suppress(RunnerLostError):
            for file in self._pushed:
                self._run("rm", "-f", posixpath.join(self._folder, file.name))
        self._pushed.clear()


def time_network(
    transport: Transport,
    program: str,
    model: Path,
    input_shape: tuple[int, ...],
    *,
    engine: Engine | str | None = None,
    threads: int = 1,
    precision: str = "fp32",
    n_runs: int = 30,
    n_warmup: int = 5,
    folder: str = "/data/local/tmp",
) -> OpTimes:
    """Time a network by one of the engine's own programs on a device.

    Args:
        transport: Way to the device.
        program: Path of the program on the device.
        model: File that the program takes, on this machine.
        input_shape: Shape of the network's input.
        engine: Engine that the program is of, or its name; the registry's default for None.
        threads: Number of threads of the engine.
        precision: Precision of the arithmetic.
        n_runs: Number of timed runs, whose mean is returned.
        n_warmup: Number of untimed runs before them, where the program takes it.
        folder: Folder on the device for the model.

    Raises:
        MeasureError: if the engine has no such program, or the program prints no times.
        RunnerLostError: if the device cannot be reached, or the program crashes.
    """
    found, name = get_engine(engine), posixpath.basename(program)
    if name not in found.programs:
        known = ", ".join(found.programs) or "none"
        raise MeasureError(f"Expected a program of {found.title} ({known}), but got {program!r}.")
    target = posixpath.join(folder, model.name)
    transport.push(model, target)
    arguments = found.programs[name].arguments(target, n_runs, n_warmup, input_shape, threads, precision)
    return found.programs[name].read(run_client(transport.name, transport.command([program, *arguments])))
