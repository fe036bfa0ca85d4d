"""`RayRunner`: several devices of one kind, as nodes of a Ray cluster that have a custom resource.

A board joins by ``ray start --address=HEAD:6379 --num-cpus=1 --resources='{"pi4": 1}'``, with this library installed.
Each repetition of a network is a Ray task that needs one unit of the resource. Samples are written on the machine that
runs the session. If a board dies, Ray makes its unfinished repetitions again on another board.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from latency_nas.engine import Engine, get_engine
from latency_nas.errors import MeasureError, MissingExtraError, RunnerLostError
from latency_nas.measure.device.address import open_runner, parse_address
from latency_nas.measure.device.runner import IDENTITY, RepetitionOptions, RepetitionRequest, Runner

__all__ = ["RayRunner"]

_N_RETRIES = 10  # of one repetition, on the boards that are left
_POLL_S = 2.0

# arguments of `open_runner` -> the runner of this worker process, and the folder of its files
_open_runners: dict[tuple[str, str, str], tuple[Runner, tempfile.TemporaryDirectory[str]]] = {}


class RayRunner(Runner):
    """Boards of one kind. `repeat_all` gives each the next network as soon as it is free.

    Args:
        resource: Ray's custom resource, which the nodes that are such a board, or have one attached, were started with.
        device: Address by which such a node reaches its board, as `open_runner` takes it; the node itself by default.
        engine: Engine that runs the networks, or its name; the registry's default for None.
        python: Command that starts a Python with the engine there; see `open_runner`.
        address: Address of the Ray cluster; ``"auto"`` is the one that this machine belongs to.
        timeout_s: Seconds without any board after which a repetition fails.
    """

    def __init__(
        self,
        resource: str,
        *,
        device: str = "local",
        engine: Engine | str | None = None,
        python: str = "",
        address: str = "auto",
        timeout_s: float = 120.0,
    ) -> None:
        parse_address(device)
        self._resource, self._address, self._timeout_s = resource, address, timeout_s
        self._device = (device, get_engine(engine).name, python)
        self._hello: Mapping[str, Any] = {}
        self._yardsticks: dict[Path, Any] = {}

    def hello(self) -> Mapping[str, Any]:
        """What the boards are, as one of them reports.

        Raises:
            MissingExtraError: if Ray is not installed.
            MeasureError: if the board lacks the engine.
            RunnerLostError: if there is no such board.
        """
        if not self._hello:
            task = self._task(_hello).remote(*self._device)
            answer = self._answer(self._first_done([task]))
            if "error" in answer:
                raise MeasureError(f"A board with the resource {self._resource!r} cannot measure: {answer['error']}")
            self._hello = {**answer, "at": f"ray:{self._resource}"}
        return self._hello

    def repeat(
        self, file: Path, yardstick: Path, options: RepetitionOptions, *, describe: bool, min_ms: float = 0.0
    ) -> Mapping[str, Any]:
        """The raw samples of one repetition, made on any of the boards.

        Raises:
            MeasureError: if the network is at fault, or the board is of another kind than the others.
            RunnerLostError: if no board is left.
        """
        request = RepetitionRequest(file=file, yardstick=yardstick, options=options, describe=describe, min_ms=min_ms)
        ((_, raw),) = self.repeat_all([request])
        if "error" in raw:
            raise MeasureError(raw["error"])
        return raw

    def repeat_all(self, requests: Iterable[RepetitionRequest]) -> Iterator[tuple[RepetitionRequest, dict[str, Any]]]:
        """Each request with its raw samples, or with ``{"error": text}``, in the order in which boards answer.

        Raises:
            RunnerLostError: if no board is left.
            MeasureError: if a board is of another kind than the others.
        """
        remaining = iter(requests)
        running: dict[Any, RepetitionRequest] = {}
        while True:
            # one more than there are boards, so that none waits for its next network
            while len(running) <= self._n_boards() and (request := next(remaining, None)) is not None:
                running[self._start(request)] = request
            if not running:
                return
            task = self._first_done(list(running))
            yield running.pop(task), self._answer(task)

    def close(self) -> None:
        """Do nothing: the cluster is the user's."""

    def _start(self, request: RepetitionRequest) -> Any:
        if request.yardstick not in self._yardsticks:
            self._yardsticks[request.yardstick] = _ray().put(request.yardstick.read_bytes())
        file, yardstick = request.file, self._yardsticks[request.yardstick]
        files = (file.name, file.read_bytes(), request.yardstick.name, yardstick)
        how = {"options": asdict(request.options), "describe": request.describe, "min_ms": request.min_ms}
        return self._task(_repeat).remote(*self._device, *files, **how)

    def _task(self, function: Any) -> Any:
        ray = _ray()
        if not ray.is_initialized():
            ray.init(address=self._address, log_to_driver=False)
        return ray.remote(function).options(
            num_cpus=0, resources={self._resource: 1}, max_retries=_N_RETRIES, retry_exceptions=[RunnerLostError]
        )

    def _n_boards(self) -> int:
        return int(_ray().cluster_resources().get(self._resource, 0))

    def _first_done(self, tasks: list[Any]) -> Any:
        """The first task to end; waits as long as there is a board."""
        last_seen_s = time.monotonic()
        while True:
            ready, _ = _ray().wait(tasks, timeout=_POLL_S)
            if ready:
                return ready[0]
            if self._n_boards():
                last_seen_s = time.monotonic()
            elif time.monotonic() - last_seen_s > self._timeout_s:
                raise RunnerLostError(
                    f"Expected nodes with the resource {self._resource!r} in the Ray cluster, but for "
                    f"{self._timeout_s:.0f} s there has been none. What was measured is kept: start one by "
                    f"`ray start --address=HEAD:6379 --resources='{{\"{self._resource}\": 1}}'`, and run the same "
                    f"command again to go on."
                )

    def _answer(self, task: Any) -> dict[str, Any]:
        ray = _ray()
        try:
            answer: dict[str, Any] = ray.get(task)
        except ray.exceptions.RayError as error:
            raise RunnerLostError(
                f"A repetition failed on {_N_RETRIES + 1} boards, or its board was lost for good: {error}"
            ) from error
        return self._check_kind(answer)

    def _check_kind(self, answer: dict[str, Any]) -> dict[str, Any]:
        """A board's answer without the board's identity, which is checked.

        Raises:
            MeasureError: if the board is of another kind than the others.
        """
        if "error" in answer:
            return answer
        hello = answer.pop("hello")
        for name in IDENTITY if self._hello else ():
            if hello.get(name) != self._hello.get(name):
                raise MeasureError(
                    f"Expected every board with the resource {self._resource!r} to be of one kind, with {name} "
                    f"{self._hello.get(name)}, but one has {hello.get(name)}: give unlike boards resources of their "
                    f"own."
                )
        return answer or dict(hello)


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise MissingExtraError("Measuring on several devices needs Ray: pip install 'latency-nas[ray]'") from error
    return ray


# ---- functions that run on the boards' nodes ----


def _runner(device: str, engine: str, python: str) -> tuple[Runner, Path]:
    """This worker's runner, and its folder."""
    key = (device, engine, python)
    if key not in _open_runners:
        folder = tempfile.TemporaryDirectory(prefix="latency-nas-")
        _open_runners[key] = open_runner(device, engine, python=python), folder
    runner, folder = _open_runners[key]
    return runner, Path(folder.name)


def _hello(device: str, engine: str, python: str) -> dict[str, Any]:
    try:
        return {"hello": dict(_runner(device, engine, python)[0].hello())}
    except RunnerLostError:
        raise
    except MeasureError as error:
        return {"error": str(error)}


def _repeat(
    device: str,
    engine: str,
    python: str,
    name: str,
    network: bytes,
    yardstick_name: str,
    yardstick: bytes,
    *,
    options: dict[str, Any],
    describe: bool,
    min_ms: float,
) -> dict[str, Any]:
    runner, folder = _runner(device, engine, python)
    yardstick_file, file = folder / yardstick_name, folder / name
    if not yardstick_file.exists():
        yardstick_file.write_bytes(yardstick)
    file.write_bytes(network)
    try:
        raw = runner.repeat(file, yardstick_file, RepetitionOptions(**options), describe=describe, min_ms=min_ms)
        return {"hello": dict(runner.hello()), **raw}
    except RunnerLostError:
        raise
    except MeasureError as error:
        return {"error": str(error)}
    finally:
        file.unlink()
