"""`Runner`: times networks for a session, on this machine or on other devices.

A runner takes an engine's file and options, and returns raw samples. `LocalRunner` runs the engine's device side in a
process of its own on this machine, so that a crash of the engine is an error of one network.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from latency_nas.engine import Engine, get_engine
from latency_nas.errors import MeasureError, RunnerLostError
from latency_nas.measure.device.boot import BOOT, boot_line
from latency_nas.measure.repetition import N_WARMUP, N_YARDSTICK

__all__ = [
    "IDENTITY",
    "LocalRunner",
    "RepetitionOptions",
    "RepetitionRequest",
    "Runner",
    "given_or_local",
    "send_request",
]

IDENTITY = (
    "machine",
    "processor",
    "emulated",
    "engine",
    "engine_version",
)  # fields of a hello that are the same throughout a session


@dataclass(frozen=True, slots=True, kw_only=True)
class RepetitionOptions:
    """How a network is timed in one repetition.

    Args:
        threads: Number of threads of the engine.
        precision: Precision of the arithmetic, one of `Engine.precisions`.
        power_mode: Cores that the engine's threads prefer, one of `Engine.power_modes`.
        n_warmup: Number of untimed runs.
        n_runs: Number of timed runs: op by op with `profile`, and whole without.
        n_yardstick: Number of runs of the yardstick before the network, and again after it.
        profile: Whether each op is timed as well.
        n_whole: Number of timed whole runs among those op by op; they show the cost of the callbacks.

    Raises:
        MeasureError: if a field is out of range.
    """

    threads: int = 1
    precision: str = "fp32"
    power_mode: str = "normal"
    n_warmup: int = N_WARMUP
    n_runs: int = 6
    n_yardstick: int = N_YARDSTICK
    profile: bool = True
    n_whole: int = 2

    def __post_init__(self) -> None:
        for name, minimum in (("threads", 1), ("n_warmup", 0), ("n_runs", 1), ("n_yardstick", 1), ("n_whole", 1)):
            if getattr(self, name) < minimum:
                kind = "a positive integer" if minimum else "an integer >= 0"
                raise MeasureError(f"Expected `{name}` to be {kind}, but got {getattr(self, name)}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class RepetitionRequest:
    """A repetition to be made.

    Args:
        file: File of the network, as `Runner.repeat` takes it, and so are the others.
        yardstick: File of the yardstick.
        options: How the network is timed.
        describe: Whether the answer also says which ops the engine runs.
        min_ms: Time that the network cannot be faster than.
    """

    file: Path
    yardstick: Path
    options: RepetitionOptions
    describe: bool
    min_ms: float = 0.0


class Runner(ABC):
    """Times networks on a device, or on several devices of one kind.

    Its answers are those of `latency_nas.engine.serving`. A runner of one device defines `hello` and `repeat`; one of
    several overrides `repeat_all`, which then keeps all of them busy.
    """

    @abstractmethod
    def hello(self) -> Mapping[str, Any]:
        """What the device is."""

    @abstractmethod
    def repeat(
        self, file: Path, yardstick: Path, options: RepetitionOptions, *, describe: bool, min_ms: float = 0.0
    ) -> Mapping[str, Any]:
        """The raw samples of one repetition of a network.

        Args:
            file: File of the network on this machine, as the engine takes it.
            yardstick: File of the yardstick.
            options: How the network is timed.
            describe: Whether the answer also says which ops the engine runs.
            min_ms: Time that the network cannot be faster than: less is an error.

        Raises:
            MeasureError: if the network is at fault.
            RunnerLostError: if the device is lost: the repetition can be requested again later.
        """

    def repeat_all(
        self, requests: Iterable[RepetitionRequest]
    ) -> Iterator[tuple[RepetitionRequest, Mapping[str, Any]]]:
        """Each request with its raw samples, or with ``{"error": text}`` where the network is at fault.

        One device makes them one after the other; several return them in the order in which they are done.

        Raises:
            RunnerLostError: if no device is left: the remaining repetitions can be requested again later.
        """
        for request in requests:
            how = {"describe": request.describe, "min_ms": request.min_ms}
            try:
                raw = self.repeat(request.file, request.yardstick, request.options, **how)  # type: ignore[arg-type]
            except RunnerLostError:
                raise
            except MeasureError as error:
                raw = {"error": str(error)}
            yield request, raw

    @abstractmethod
    def close(self) -> None:
        """Let go of the device."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def send_request(process: subprocess.Popen[str], request: Mapping[str, Any]) -> dict[str, Any]:
    """Send a request to a device side that is serving, and wait for its answer.

    Raises:
        MeasureError: if the answer is an error.
        RunnerLostError: if there is no answer.
    """
    if process.stdin is None or process.stdout is None:
        raise RunnerLostError("Expected the device side to be started with pipes.")
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(json.dumps(request) + "\n")
        process.stdin.flush()
    line = "\n"
    while line.endswith("\n") and not line.startswith("{"):  # a login shell may print something first
        line = process.stdout.readline()
    if not line.endswith("\n"):
        raise RunnerLostError(f"The device side ended (exit status {process.wait()}) before it answered.")
    answer: dict[str, Any] = json.loads(line)
    if "error" in answer:
        raise MeasureError(answer["error"])
    return answer


class LocalRunner(Runner):
    """This machine: a process of its own, started when it is first needed, and again after a crash.

    Args:
        engine: Engine that runs the networks, or its name; the registry's default for None.
        python: Interpreter that has the engine; by default the one that the engine names.
    """

    def __init__(self, engine: Engine | str | None = None, *, python: str = "") -> None:
        self._engine, self._python = get_engine(engine), python
        self._process: subprocess.Popen[str] | None = None

    def hello(self) -> Mapping[str, Any]:
        """What this machine is."""
        return self._send({"do": "hello"})

    def repeat(
        self, file: Path, yardstick: Path, options: RepetitionOptions, *, describe: bool, min_ms: float = 0.0
    ) -> Mapping[str, Any]:
        """The raw samples of one repetition.

        Raises:
            MeasureError: if the network cannot be opened or run, or crashes the engine.
        """
        how = {"file": str(file), "yardstick": str(yardstick), "describe": describe, "min_ms": min_ms}
        return self._send_for_network(file, {"do": "repeat", **how, **asdict(options)})

    def describe(
        self, file: Path, *, threads: int = 1, precision: str = "fp32", power_mode: str = "normal"
    ) -> Mapping[str, Any]:
        """What the engine runs for a network: its ``ops``, and the ``input_shape`` of its first input.

        Raises:
            MeasureError: as `repeat`.
        """
        how = {"threads": threads, "precision": precision, "power_mode": power_mode}
        return self._send_for_network(file, {"do": "describe", "file": str(file), **how})

    def _send_for_network(self, file: Path, request: Mapping[str, Any]) -> dict[str, Any]:
        try:
            return self._send(request)
        except RunnerLostError as error:  # a local crash is the network's fault: the next network gets a new process
            raise MeasureError(f"{self._engine.title} crashed on {file.stem}: {error}") from error

    def _send(self, request: Mapping[str, Any]) -> dict[str, Any]:
        if self._process is None:
            pipe, python = subprocess.PIPE, self._python or self._engine.python()
            self._process = subprocess.Popen(  # noqa: S603 - our own program
                [python, "-c", BOOT], stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True
            )
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.write(boot_line(self._engine))  # type: ignore[union-attr]
        try:
            return send_request(self._process, request)
        except RunnerLostError:
            self.close()
            raise

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    with contextlib.suppress(BrokenPipeError):
                        pipe.close()
            self._process.wait()
            self._process = None


def given_or_local(runner: Runner | None, engine: Engine | str) -> AbstractContextManager[Runner]:
    """The runner that was given, which stays open; or else a `LocalRunner`, which is closed at the end."""
    return LocalRunner(engine) if runner is None else contextlib.nullcontext(runner)
