"""`RemoteRunner`: starts the device side through a transport, and again when the connection drops."""

from __future__ import annotations

import base64
import contextlib
import logging
import shlex
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any, TypeVar

from latency_nas.engine import Engine, get_engine
from latency_nas.errors import MeasureError, RunnerLostError
from latency_nas.measure.device.boot import BOOT, boot_line
from latency_nas.measure.device.runner import IDENTITY, RepetitionOptions, Runner, send_request
from latency_nas.measure.device.transport import Transport

__all__ = ["RemoteRunner"]

_T = TypeVar("_T")

logger = logging.getLogger(__name__)


class RemoteRunner(Runner):
    """Python with an engine on a device. Files are sent inside the requests; the device deletes them at the end.

    Args:
        transport: Way to the device.
        engine: Engine that runs the networks, or its name; the registry's default for None.
        python: Command on the device that starts a Python with the engine, with its arguments.
        n_attempts: Number of attempts of a request before the device counts as lost.
        wait_s: Seconds between two attempts.
        timeout_s: Seconds within which an answer must come; a device that hangs counts as lost.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        engine: Engine | str | None = None,
        python: str = "python3",
        n_attempts: int = 5,
        wait_s: float = 3.0,
        timeout_s: float = 600.0,
    ) -> None:
        self.transport, self._engine, self._python = transport, get_engine(engine), python
        self._n_attempts, self._wait_s, self._timeout_s = n_attempts, wait_s, timeout_s
        self._process: subprocess.Popen[str] | None = None
        self._errors: IO[str] | None = None
        self._hello: Mapping[str, Any] = {}
        self._sent: dict[Path, str] = {}  # file here -> its path on the device, of those that are there now

    def hello(self) -> Mapping[str, Any]:
        """What the device is.

        Raises:
            MeasureError: if it has no such Python, or this Python lacks the engine.
            RunnerLostError: if it cannot be reached.
        """
        self._with_retries(self._connect, "")
        return {**self._hello, "at": self.transport.name}

    def repeat(
        self, file: Path, yardstick: Path, options: RepetitionOptions, *, describe: bool, min_ms: float = 0.0
    ) -> Mapping[str, Any]:
        """The raw samples of one repetition. If the connection drops, the repetition is made again on a new one.

        Raises:
            MeasureError: if the network cannot be opened or run, or crashes the engine twice.
            RunnerLostError: if the device does not come back.
        """
        request = {"do": "repeat", **asdict(options), "describe": describe, "min_ms": min_ms}

        def attempt() -> dict[str, Any]:
            self._connect()
            return self._send({**request, "yardstick": self._put(yardstick), "file": self._put(file)})

        return self._with_retries(attempt, file.stem)

    def close(self) -> None:
        """End the device side."""
        process, self._process = self._process, None
        self._sent.clear()
        if process is not None:
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with contextlib.suppress(BrokenPipeError):
                        pipe.close()
            try:
                process.wait(timeout=self._wait_s)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if self._errors is not None:
            self._errors.close()
            self._errors = None

    def _with_retries(self, attempt: Callable[[], _T], network: str) -> _T:
        """The answer of the first attempt that gets one; `network` names what may have crashed the engine."""
        crashes = 0
        for number in range(1, self._n_attempts + 1):
            try:
                return attempt()
            except RunnerLostError as error:
                status, lost = self._end_of_process(), error
            if status in (126, 127):
                raise MeasureError(
                    f"Expected `{self._python}` to run on {self.transport.name}, but it does not: {lost}. Install "
                    f"Python 3.8 or newer with {self._engine.title} there ({self._engine.install}), or say how it is "
                    f"started, as --python '/opt/venv/bin/python'."
                ) from lost
            crashed = bool(network) and (status < 0 or 128 < status < 255)
            crashes += crashed
            if crashes == 2:
                raise MeasureError(f"{self._engine.title} crashed on {network}: {lost}") from lost
            if number < self._n_attempts and not crashed:
                logger.warning("%s; attempt %d of %d follows.", lost, number + 1, self._n_attempts)
                time.sleep(self._wait_s)
        raise RunnerLostError(
            f"{lost}. Nothing more was heard in {self._n_attempts} attempts. What was measured is kept: see to the "
            f"device, and run the same command again to go on."
        ) from lost

    def _end_of_process(self) -> int:
        process = self._process
        self.close()
        return 0 if process is None else process.returncode

    def _connect(self) -> None:
        """Start the device side unless it runs, and check that it is still the same device."""
        if self._process is not None:
            return
        command, pipe = self.transport.command([*shlex.split(self._python), "-c", BOOT]), subprocess.PIPE
        self._errors = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115 - `close` does
        try:
            self._process = subprocess.Popen(  # noqa: S603 - the user's own command
                command, stdin=pipe, stdout=pipe, stderr=self._errors, text=True
            )
        except FileNotFoundError as error:
            raise MeasureError(
                f"Reaching {self.transport.name} needs `{command[0]}`, but it is not installed here."
            ) from error
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(boot_line(self._engine))  # type: ignore[union-attr]
        try:
            hello = self._send({"do": "hello"})
        except RunnerLostError:
            raise
        except MeasureError as error:
            self.close()
            raise MeasureError(f"{self.transport.name}: {error}") from error
        for name in IDENTITY:
            if self._hello and hello[name] != self._hello[name]:
                self.close()
                raise MeasureError(
                    f"Expected {self.transport.name} to be the device that it was, with {name} {self._hello[name]}, "
                    f"but now it is {hello[name]}."
                )
        self._hello = hello

    def _put(self, file: Path) -> str:
        """The path of a file on the device, sent unless it is there; files that are gone here are deleted there."""
        if file not in self._sent:
            gone = [path for path in self._sent if not path.exists()]
            request = {"do": "put", "name": file.name, "data": base64.b64encode(file.read_bytes()).decode()}
            try:
                answer = self._send({**request, "forget": [self._sent.pop(path) for path in gone]})
            except RunnerLostError:
                raise
            except MeasureError as error:  # probably a full disk there, which is not the network's fault
                raise RunnerLostError(f"{self.transport.name} cannot keep {file.name} ({error})") from error
            self._sent[file] = answer["file"]
        return self._sent[file]

    def _send(self, request: Mapping[str, Any]) -> dict[str, Any]:
        if self._process is None:
            raise RunnerLostError(f"{self.transport.name} is closed")
        timer = threading.Timer(self._timeout_s, self._process.kill)
        timer.start()
        try:
            return send_request(self._process, request)
        except RunnerLostError as error:
            raise RunnerLostError(f"{self.transport.name} was lost ({self._how_it_ended()})") from error
        finally:
            timer.cancel()

    def _how_it_ended(self) -> str:
        if self._process is None or self._errors is None:
            return "closed"
        self._errors.seek(0)
        lines = self._errors.read().strip().splitlines()
        return f"exit status {self._process.wait()}" + (f", saying: {lines[-1]}" if lines else "")
