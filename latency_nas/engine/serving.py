"""The device side of every engine: serves requests, describes the device, and times networks beside the yardstick.

It needs only the standard library of Python 3.8 or newer. It runs on this machine or is sent to a board. An engine adds
a file of its own, `Engine.device_side`, with two names:

``about()`` returns ``engine``, ``engine_version`` and, where the engine reports them, ``features`` of the chip.

``Network(path, threads, precision, power_mode)`` is an opened network. ``run_ms(n)`` returns the times of whole runs in
milliseconds. ``profile_ms(n)`` returns a list of the ops' times for each run, or None where the engine does not time
ops. ``executed()`` returns ``[name, type, shapes read, shapes written]`` of each op of a run, or None where the engine
does not report them. ``input_shape`` is that of the first input, or None. ``memory_mb`` may be None.

A third name is optional: ``opened``, a function of the same arguments that chooses among several such classes.

Started as a program, it serves requests: a line on standard input for each, and a line on standard output for each
answer, both in JSON.

``{"do": "hello"}`` is answered by a description of the device: ``runner`` (the version of this protocol), ``python``,
``system``, ``machine``, ``processor``, ``cores``, ``governor``, ``emulated``, and the fields of ``about``.

``{"do": "put", "name": "network.mnn", "data": ...}`` keeps a file, sent as base64, until this process ends. The answer
is ``{"file": its path}``.

``{"do": "repeat", "file": "network.mnn", ...}`` is answered by raw samples in milliseconds; the other fields are the
arguments of `repeat`. ``{"do": "describe", "file": ..., ...}`` is answered by the ops that the engine runs. A request
that fails is answered by ``{"error": text}``, and serving continues.
"""

from __future__ import annotations

import base64
import contextlib
import ctypes
import gc
import json
import os
import platform
import re
import sys
import tempfile
from pathlib import Path
from typing import Any, Callable, Iterator, Sequence  # noqa: UP035 - Python 3.8

__all__ = [
    "RunnerError", "describe", "errors_in", "hello", "main", "no_garbage_collection", "printed", "put", "repeat",
]  # fmt: skip

VERSION = 1
_IMPOSSIBLE_MS = 1e-4  # no network runs in less

_ERROR = re.compile("error|not support", re.IGNORECASE)

_kept: dict[str, Any] = {}


class RunnerError(RuntimeError):
    """A network could not be opened or run, or the device lacks what a request needs."""


@contextlib.contextmanager
def printed(seen: list[str]) -> Iterator[None]:
    """Append everything that C++ prints on standard output inside the block to `seen`, and print none of it."""
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


def errors_in(seen: Sequence[str]) -> str:
    """The lines of what an engine printed that tell of an error, without marks at their starts; nothing if none do.

    Example:
        >>> errors_in(["12 layers", "[04:53:57] :220: These Op Not Support: Foo "])
        'These Op Not Support: Foo'
    """
    lines = "\n".join(seen).splitlines()
    told = [re.sub(r"^(\[[\d:]+\] :\d+: )?\s*", "", line).rstrip(". ") for line in lines if _ERROR.search(line)]
    return "; ".join(dict.fromkeys(told))


@contextlib.contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Collect no garbage inside the block, since a collection would be part of a time."""
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
    """The machine number in a program's ELF header; empty where it cannot be read."""
    try:
        with Path(program).open("rb") as file:
            return file.read(20)[18:]
    except OSError:
        return b""


def _emulated() -> bool:
    """Whether the program that the kernel runs in this process has another architecture, as under QEMU.

    An emulator fakes ``/proc/self/exe``, but not the path through the task. A machine that is emulated as a whole, with
    a kernel of its own, cannot be detected from inside.
    """
    kernels, own = _architecture(f"/proc/self/task/{os.getpid()}/exe"), _architecture(sys.executable)
    return bool(kernels and own and kernels != own)


def _processor() -> str:
    """The chip's name, from the first place that has it."""
    places = (("/proc/cpuinfo", "model name"), ("/proc/device-tree/model", ""), ("/proc/cpuinfo", "Hardware"))
    return next(filter(None, (_first_line(*place) for place in places)), platform.machine())


def hello(engine: Any) -> dict[str, Any]:
    """Describe this device."""
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
        name: Name of the file.
        data: Content of the file as base64.
        forget: Paths from answers to earlier calls, to be removed first.

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


def _opened(engine: Any, *settings: Any) -> Any:
    return getattr(engine, "opened", engine.Network)(*settings)


def describe(
    engine: Any, file: str, threads: int = 1, precision: str = "fp32", power_mode: str = "normal"
) -> dict[str, Any]:
    """Describe the ops that the engine runs for a network.

    Returns:
        ``ops``: ``[name, type, shapes read, shapes written]`` of each op, or None; ``input_shape``: of the first
        input, or None.
    """
    network = _opened(engine, file, threads, precision, power_mode)
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
        engine: Module of the engine's device side.
        file: Path of the network.
        yardstick: Path of the yardstick network. It is opened once and kept.
        threads: Number of threads of the engine.
        precision: Precision of the engine's arithmetic.
        power_mode: Cores that the engine's threads prefer.
        n_warmup: Number of untimed runs.
        n_runs: Number of timed runs: op by op with `profile`, otherwise whole.
        n_yardstick: Number of runs of the yardstick before the network, and again after it.
        profile: Whether each op is timed as well. If the engine times no ops, the whole run counts as one op.
        describe: Whether the answer has `ops`.
        n_whole: Number of timed whole runs among those op by op; 0 for `n_runs`.
        min_ms: Time that no processor can stay below. A shorter run means that the network did not run.

    Returns:
        ``yardstick_before_ms``, ``yardstick_after_ms``, ``whole_ms``: lists; ``ops_ms``: a list for each run; ``ops``:
        ``[name, type, shapes read, shapes written]`` of each op, or None; ``memory_mb``.
    """
    options = (threads, "fp32" if precision == "int8" else precision, power_mode)  # the yardstick is not quantised
    standard = _yardsticks.get((yardstick, *options))
    if standard is None:
        _yardsticks.clear()
        standard = _yardsticks[(yardstick, *options)] = engine.Network(yardstick, *options)
        standard.run_ms(10 * n_yardstick)  # warms up caches and clocks
    network = _opened(engine, file, threads, precision, power_mode)
    ops = network.executed() if describe else None
    network.run_ms(n_warmup - (ops is not None))  # describing the ops took one run
    before = standard.run_ms(n_yardstick)
    whole: list[float] = []
    by_op: list[list[float]] = []
    times_ops = profile and network.profile_ms(0) is not None
    n_whole = n_whole if times_ops and n_whole else n_runs
    for number in range(max(n_runs, n_whole)):  # alternating, so that drift affects both kinds of runs alike
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
    except Exception as error:  # any error must reach the other side
        return {"error": f"{type(error).__name__}: {error}"}


def main(engine: Any) -> None:
    """Serve requests until standard input ends; `engine` is the module of the engine's device side."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # an engine's own output must not be read as an answer
    for line in iter(sys.stdin.readline, ""):
        answers.write(json.dumps(_answer(engine, line)) + "\n")
        answers.flush()
