"""The device side of every engine: serves requests, times networks beside the yardstick, tells what the device is.

The standard library alone, from Python 3.8 on: it runs on this machine and, sent there, on any board. An engine adds a
file of its own, `Engine.device_side`, with two names:

``about()`` gives ``engine``, ``engine_version`` and, where the engine tells them, ``features`` of the chip.

``Network(path, threads, precision, power_mode)`` is a network that was opened; it has ``run_ms(n)``, a list of whole
runs in milliseconds; ``profile_ms(n)``, a list of the ops' times for each run, or None where the engine does not time
ops; ``executed()``, ``[name, type, shapes read, shapes written]`` of each op of a run, or None where it does not tell;
``input_shape`` of the first input, or None; and ``memory_mb``, or None.

Started as a program it serves: a request a line on standard input, an answer a line on standard output, both JSON.

``{"do": "hello"}`` is answered by what the device is: ``runner`` (the version of this protocol), ``python``,
``system``, ``machine``, ``processor``, ``cores``, ``governor``, ``emulated``, and what ``about`` gives.

``{"do": "put", "name": "network.mnn", "data": ...}`` keeps a file that comes as base64 for as long as this process
lives, and is answered by ``{"file": its path}``.

``{"do": "repeat", "file": "network.mnn", ...}`` (the rest is in `repeat`) is answered by raw samples in milliseconds,
``{"do": "describe", "file": ..., ...}`` by what the engine runs. What cannot be done is answered by
``{"error": text}``, and serving goes on.
"""

from __future__ import annotations

import base64
import contextlib
import ctypes
import gc
import json
import os
import platform
import sys
import tempfile
from pathlib import Path
from typing import Any, Callable, Iterator, Sequence  # noqa: UP035 - Python 3.8

__all__ = ["RunnerError", "describe", "hello", "main", "no_garbage_collection", "printed", "put", "repeat"]

VERSION = 1
_IMPOSSIBLE_MS = 1e-4

_kept: dict[str, Any] = {}


class RunnerError(RuntimeError):
    """A network could not be opened or run, or the device cannot do what is asked."""


@contextlib.contextmanager
def printed(seen: list[str]) -> Iterator[None]:
    """What C++ prints on standard output inside goes to `seen` and nowhere else."""
    sys.stdout.flush()
    libc = ctypes.CDLL(None)
    libc.fflush(None)
    saved = os.dup(1)
    with tempfile.TemporaryFile() as sink:
        os.dup2(sink.fileno(), 1)
        try:
            yield
        finally:
            libc.fflush(None)
            os.dup2(saved, 1)
            os.close(saved)
            sink.seek(0)
            seen.append(sink.read().decode("utf-8", "replace"))


@contextlib.contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Python collects no garbage inside."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _first_line(path: str, key: str = "") -> str:
    try:
        with Path(path).open() as lines:
            for line in lines:
                if line.startswith(key):
                    return line.split(":", 1)[-1].strip(" \t\n\0")
    except OSError:
        pass
    return ""


def _architecture(program: str) -> bytes:
    """The machine that a program's ELF header is for; empty where that cannot be read."""
    try:
        with Path(program).open("rb") as file:
            return file.read(20)[18:]
    except OSError:
        return b""


def _emulated() -> bool:
    """Whether a program of another architecture, such as QEMU, is what the kernel runs in this process.

    An emulator answers ``/proc/self/exe`` itself, but not by way of the task. A machine that is emulated as a whole,
    with a kernel of its own, cannot be told from inside.
    """
    kernels, own = _architecture(f"/proc/self/task/{os.getpid()}/exe"), _architecture(sys.executable)
    return bool(kernels and own and kernels != own)


def _processor() -> str:
    """The chip's name, from wherever this kernel tells it."""
    places = (("/proc/cpuinfo", "model name"), ("/proc/device-tree/model", ""), ("/proc/cpuinfo", "Hardware"))
    return next(filter(None, (_first_line(*place) for place in places)), platform.machine())


def hello(engine: Any) -> dict[str, Any]:
    """What this device is."""
    return {
        "runner": VERSION,
        "python": platform.python_version(),
        "system": platform.system(),
        "machine": platform.machine(),
        "processor": _processor(),
        "cores": os.cpu_count() or 1,
        "governor": _first_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "emulated": _emulated(),
        **engine.about(),
    }


def put(_: Any, name: str, data: str, forget: Sequence[str] = ()) -> dict[str, str]:
    """Keep a file until this process ends.

    Args:
        name: of the file.
        data: its bytes as base64.
        forget: paths that earlier calls answered with, to be removed first.

    Returns:
        ``file``: its path.
    """
    if "folder" not in _kept:
        _kept["folder"] = tempfile.TemporaryDirectory(prefix="latency-nas-")
    for path in forget:
        Path(path).unlink()
    target = Path(_kept["folder"].name, Path(name).name)
    target.write_bytes(base64.b64decode(data))
    return {"file": str(target)}


def describe(
    engine: Any, file: str, threads: int = 1, precision: str = "fp32", power_mode: str = "normal"
) -> dict[str, Any]:
    """What the engine makes of a network.

    Returns:
        ``ops``: ``[name, type, shapes read, shapes written]`` of each op, or None; ``input_shape``: of the first
        input, or None.
    """
    network = engine.Network(file, threads, precision, power_mode)
    return {"ops": network.executed(), "input_shape": network.input_shape}


_yardsticks: dict[tuple[Any, ...], Any] = {}


def repeat(
    engine: Any,
    file: str,
    yardstick: str,
    threads: int = 1,
    precision: str = "fp32",
    power_mode: str = "normal",
    n_warmup: int = 2,
    n_runs: int = 6,
    n_yardstick: int = 7,
    profile: bool = True,
    describe: bool = False,
    n_whole: int = 0,
    min_ms: float = 0.0,
) -> dict[str, Any]:
    """Open a network afresh and time it between two runs of the yardstick.

    Args:
        engine: the module of the engine's device side.
        file: the network.
        yardstick: the yardstick network, opened once and kept.
        threads: of the engine.
        precision: of its arithmetic.
        power_mode: the cores that its threads prefer.
        n_warmup: untimed runs.
        n_runs: timed runs, op by op with `profile`, and else whole.
        n_yardstick: runs of the yardstick before, and as many after.
        profile: whether each op is timed as well; by an engine that times no ops, the whole counts as one op.
        describe: whether the ops are told.
        n_whole: timed whole runs among those op by op; 0 for as many.
        min_ms: what no processor can run the network in: a run that took less did not run.

    Returns:
        ``yardstick_before_ms``, ``yardstick_after_ms``, ``whole_ms``: lists; ``ops_ms``: a list for each run; ``ops``:
        ``[name, type, shapes read, shapes written]`` of each op, or None; ``memory_mb``.
    """
    options = (threads, "fp32" if precision == "int8" else precision, power_mode)  # the yardstick is not quantised
    standard = _yardsticks.get((yardstick, *options))
    if standard is None:
        _yardsticks.clear()
        standard = _yardsticks[(yardstick, *options)] = engine.Network(yardstick, *options)
        standard.run_ms(10 * n_yardstick)  # caches and clocks warm up
    network = engine.Network(file, threads, precision, power_mode)
    ops = network.executed() if describe else None
    network.run_ms(n_warmup - (ops is not None))  # whoever told its ops has run once
    before = standard.run_ms(n_yardstick)
    whole: list[float] = []
    by_op: list[list[float]] = []
    times_ops = profile and network.profile_ms(0) is not None
    n_whole = n_whole if times_ops and n_whole else n_runs
    for number in range(max(n_runs, n_whole)):
        whole += network.run_ms(int(number < n_whole))
        by_op += network.profile_ms(int(number < n_runs)) if times_ops else []
    if profile and not times_ops:
        by_op = [[ms] for ms in whole]
    min_ms = max(min_ms, _IMPOSSIBLE_MS)
    if not min(whole) > min_ms:
        raise RunnerError(
            f"Expected {Path(file).name} to take more than {min_ms:.6f} ms, as its multiply-accumulates do on any "
            f"processor, but {engine.about()['engine']} took less: it is made for another processor, or did not run."
        )
    return {
        "yardstick_before_ms": before,
        "yardstick_after_ms": standard.run_ms(n_yardstick),
        "whole_ms": whole,
        "ops_ms": by_op,
        "ops": ops,
        "memory_mb": network.memory_mb,
    }


_DO: dict[str, Callable[..., dict[str, Any]]] = {"hello": hello, "put": put, "repeat": repeat, "describe": describe}


def _answer(engine: Any, line: str) -> dict[str, Any]:
    try:
        request = json.loads(line)
        return _DO[request.pop("do")](engine, **request)
    except RunnerError as error:
        return {"error": str(error)}
    except Exception as error:  # whatever it is, the other side must hear of it
        return {"error": f"{type(error).__name__}: {error}"}


def main(engine: Any) -> None:
    """Serve until standard input ends; `engine` is the module of its device side."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever an engine prints later is no answer
    for line in iter(sys.stdin.readline, ""):
        answers.write(json.dumps(_answer(engine, line)) + "\n")
        answers.flush()
