"""The device side: times MNN networks and gives back raw samples. One file: the standard library and MNN, nothing else.

Runs on this machine and, copied there, on any board with Python 3.8 or newer and ``pip install MNN``. Started as a
program it serves: a request a line on standard input, an answer a line on standard output, both JSON.

``{"do": "hello"}`` is answered by what the device is: ``runner`` (the version of this protocol), ``python``,
``system``, ``machine``, ``processor``, ``cores``, ``governor``, ``emulated``, ``engine``, ``engine_version`` and
``features``, what MNN itself says that the chip has (``{"fp16": 0, "i8sdot": 0}``).

``{"do": "put", "name": "network.mnn", "data": ...}`` keeps a file that comes as base64 for as long as this process
lives, and is answered by ``{"file": its path}``.

``{"do": "visit", "file": "network.mnn", ...}`` (the rest is in `visit`) is answered by raw samples in milliseconds.
What cannot be done is answered by ``{"error": text}``, and serving goes on.
"""

from __future__ import annotations

import array
import base64
import contextlib
import ctypes
import gc
import importlib.util
import itertools
import json
import math
import os
import platform
import random
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, Iterator, Sequence  # noqa: UP035 - Python 3.8

__all__ = ["POWER_MODES", "PRECISIONS", "Network", "RunnerError", "hello", "main", "put", "visit"]

VERSION = 1
# MNN's name of a precision, by ours. Its "low" is fp16 on chips that have it and fp32 on others, and it does not say
# which: fp16 is granted only where MNN's own list of the chip's features has it.
# int8 is a property of the network: its quantised ops run as such, the others in fp32.
PRECISIONS = {"fp32": "high", "fp16": "low", "int8": "high"}
POWER_MODES = ("normal", "high", "low")  # as MNN names them: which cores of a big.LITTLE chip its threads prefer
_IMPOSSIBLE_MS = 1e-4
_N_DRAWN = 4099  # random numbers, used again and again: a prime, so that no layout's period meets theirs

_loaded: dict[str, Any] = {}


class RunnerError(RuntimeError):
    """A network could not be opened or run, or the device cannot do what is asked."""


@contextlib.contextmanager
def _printed(seen: list[str]) -> Iterator[None]:
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


def _mnn() -> Any:
    """The engine; its banner is read once for the chip's features."""
    if "mnn" not in _loaded:
        seen: list[str] = []
        try:
            with _printed(seen):
                import MNN
        except ImportError as error:
            raise RunnerError(
                f"Expected MNN to be installed for {sys.executable}, but it is not ({error}): pip install MNN"
            ) from error
        _loaded.update(mnn=MNN, features=_features(seen[0]))
    return _loaded["mnn"]


def _features(banner: str) -> dict[str, int]:
    """What ``The device supports: i8sdot:0, fp16:0, i8mm: 0`` says; empty where MNN says nothing."""
    return {name: int(has) for name, has in re.findall(r"(\w+): ?([01])\b", banner)}


def _features_of_chip() -> dict[str, int]:
    """The banner as a fresh interpreter prints it: this process may have met it before it could be read."""
    _mnn()
    if not _loaded["features"]:
        command = [sys.executable, "-c", "import MNN"]
        with contextlib.suppress(OSError):  # under an emulator that starts nothing
            done = subprocess.run(command, stdout=subprocess.PIPE, check=False)  # noqa: S603 - this interpreter itself
            _loaded["features"] = _features(done.stdout.decode("utf-8", "replace"))
    return dict(_loaded["features"])


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


def hello() -> dict[str, Any]:
    """What this device is."""
    mnn = _mnn()
    return {
        "runner": VERSION,
        "python": platform.python_version(),
        "system": platform.system(),
        "machine": platform.machine(),
        "processor": _processor(),
        "cores": os.cpu_count() or 1,
        "governor": _first_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "emulated": _emulated(),
        "engine": "MNN",
        "engine_version": str(mnn.version()),
        "features": _features_of_chip(),
    }


def put(name: str, data: str, forget: Sequence[str] = ()) -> dict[str, str]:
    """Keep a file until this process ends.

    Args:
        name: of the file.
        data: its bytes as base64.
        forget: paths that earlier calls answered with, to be removed first.

    Returns:
        ``file``: its path.
    """
    if "folder" not in _loaded:
        _loaded["folder"] = tempfile.TemporaryDirectory(prefix="latency-nas-")
    for path in forget:
        Path(path).unlink()
    target = Path(_loaded["folder"].name, Path(name).name)
    target.write_bytes(base64.b64decode(data))
    return {"file": str(target)}


class Network:
    """A network in one MNN session, ready to run.

    Args:
        path: the ``.mnn`` file.
        threads: of the session.
        precision: one of `PRECISIONS`.
        power_mode: one of `POWER_MODES`.
        seed: of the random input.
    """

    def __init__(
        self, path: str, threads: int = 1, precision: str = "fp32", power_mode: str = "normal", seed: int = 0
    ) -> None:
        if precision not in PRECISIONS:
            raise RunnerError(
                "Expected `precision` to be one of {}, but got {!r}.".format(", ".join(PRECISIONS), precision)
            )
        if power_mode not in POWER_MODES:
            raise RunnerError(
                "Expected `power_mode` to be one of {}, but got {!r}.".format(", ".join(POWER_MODES), power_mode)
            )
        if threads < 1:
            raise RunnerError(f"Expected `threads` to be a positive integer, but got {threads}.")
        mnn = _mnn()
        if precision == "fp16" and not _features_of_chip().get("fp16"):
            raise RunnerError(
                "Expected a chip with fp16 arithmetic for `precision` fp16, but MNN says that this one has none: "
                "it would compute in fp32 and not say so. Measure with fp32."
            )
        config = {"backend": "CPU", "numThread": threads, "precision": PRECISIONS[precision], "power": power_mode}
        with _printed([]):
            try:
                if not Path(path).stat().st_size:
                    raise OSError("it is empty")
                self._interpreter = mnn.Interpreter(path)
            except Exception as error:  # MNN raises nothing more specific
                raise RunnerError(
                    f"MNN {mnn.version()} could not open {path}: it is missing, truncated or no MNN model."
                ) from error
            self._interpreter.setSessionMode(0)  # the mode in which ops can be timed; as fast as the default
            self._session = self._interpreter.createSession(config)
        draw = random.Random(seed)  # noqa: S311 - activations
        tensors = self._interpreter.getSessionInputAll(self._session).values()
        plain = precision == "fp32" and all(t.getDimensionType() == mnn.Tensor_DimensionType_Caffe for t in tensors)
        if not plain and importlib.util.find_spec("numpy") is None:
            raise RunnerError(
                f"Expected numpy to be installed for {sys.executable}, since {path} is run in fp16 or its inputs "
                f"are not laid out plainly, but it is not: pip install numpy"
            )
        self._inputs = [_filler(mnn, tensor, draw) for tensor in tensors]

    @property
    def input_shape(self) -> list[int]:
        """Of the first input."""
        return list(self._interpreter.getSessionInput(self._session).getShape())

    @property
    def memory_mb(self) -> float:
        """Memory of the session, weights and activations at their peak, as MNN counts it."""
        return float(self._interpreter.getSessionInfo(self._session, 0))

    def _fill(self) -> None:
        """A session computes in its input's memory, so that each run needs the input again."""
        for fill in self._inputs:
            fill()

    def executed(self) -> list[tuple[str, str, list[list[int]], list[list[int]]]]:
        """Name, type, shapes read and shapes written of every op of one run, in order."""
        reads: list[list[list[int]]] = []
        ops = []

        def before(tensors: Any, _: Any) -> bool:
            reads.append([list(tensor.getShape()) for tensor in tensors])
            return True

        def after(tensors: Any, info: Any) -> bool:
            ops.append((info.getName(), info.getType(), reads[-1], [list(tensor.getShape()) for tensor in tensors]))
            return True

        self._fill()
        self._interpreter.runSessionWithCallBackInfo(self._session, before, after)
        return ops

    def run_ms(self, n_runs: int) -> list[float]:
        """Milliseconds of whole runs; copies to and from the host are not in them."""
        times = []
        with _no_garbage_collection():
            for _ in range(n_runs):
                self._fill()
                start = time.perf_counter_ns()
                self._interpreter.runSession(self._session)
                times.append((time.perf_counter_ns() - start) / 1e6)
        if times and min(times) < _IMPOSSIBLE_MS:
            raise RunnerError(f"MNN ran a network in {min(times)} ms, which is impossible: it did not run.")
        return times

    def profile_ms(self, n_runs: int) -> list[list[float]]:
        """Milliseconds of each op in each run, calling back included, of shape ``(n_runs, n_ops)``."""
        now = time.perf_counter_ns
        starts: list[int] = []
        ends: list[int] = []

        def before(_tensors: Any, _info: Any) -> bool:
            starts.append(now())
            return True

        def after(_tensors: Any, _info: Any) -> bool:
            ends.append(now())
            return True

        runs = []
        with _no_garbage_collection():
            for _ in range(n_runs):
                self._fill()
                del starts[:], ends[:]
                self._interpreter.runSessionWithCallBackInfo(self._session, before, after)
                runs.append([(end - start) / 1e6 for start, end in zip(starts, ends)])  # noqa: B905 - Python 3.8
        return runs


def _filler(mnn: Any, tensor: Any, draw: random.Random) -> Callable[[], Any]:
    """What fills an input with normally distributed numbers, or with zeros where it is not of floats."""
    shape, kind = tuple(tensor.getShape()), tensor.getDataType()
    size, floats = math.prod(shape), kind == mnn.Halide_Type_Float
    few = [draw.gauss(0.0, 1.0) if floats else 0 for _ in range(min(size, _N_DRAWN))]
    code = "f" if floats else "q" if kind == mnn.Halide_Type_Int64 else "i"
    try:
        import numpy as np
    except ImportError:
        values = array.array(code, itertools.islice(itertools.cycle(few), size))
        return lambda: ctypes.memmove(_address(tensor), values.buffer_info()[0], size * values.itemsize)
    host = mnn.Tensor(shape, kind, np.resize(np.array(few, code), shape), mnn.Tensor_DimensionType_Caffe)
    return lambda: tensor.copyFrom(host)


def _address(tensor: Any) -> int:
    """Where a session's tensor lies: any ``MNN.Tensor(...)`` of MNN 3.6 is a crash where numpy is not installed."""
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    return int(pointer(tensor.getHost(), None))


@contextlib.contextmanager
def _no_garbage_collection() -> Iterator[None]:
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


_yardsticks: dict[tuple[Any, ...], Network] = {}


def visit(
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
) -> dict[str, Any]:
    """Open a network afresh and time it between two runs of the yardstick.

    Args:
        file: the network.
        yardstick: the yardstick network, opened once and kept.
        threads: of the engine.
        precision: of its arithmetic.
        power_mode: the cores that its threads prefer.
        n_warmup: untimed runs.
        n_runs: timed runs, op by op with `profile`, and else whole.
        n_yardstick: runs of the yardstick before, and as many after.
        profile: whether each op is timed as well.
        describe: whether the ops are told.
        n_whole: timed whole runs among those op by op; 0 for as many.

    Returns:
        ``yardstick_before_ms``, ``yardstick_after_ms``, ``whole_ms``: lists; ``ops_ms``: a list for each run; ``ops``:
        ``[name, type, shapes read, shapes written]`` of each op, or None; ``memory_mb``.
    """
    options = (threads, "fp32" if precision == "int8" else precision, power_mode)
    standard = _yardsticks.get((yardstick, *options))
    if standard is None:
        _yardsticks.clear()
        standard = _yardsticks[(yardstick, *options)] = Network(yardstick, *options)
        standard.run_ms(10 * n_yardstick)  # caches and clocks warm up
    network = Network(file, *options)
    ops = network.executed() if describe or precision == "int8" else None
    if ops is not None and precision == "int8" and not any("INT8" in op[1] for op in ops):
        raise RunnerError(
            f"Expected a quantised network for `precision` int8, but MNN runs no int8 op of {file}: "
            f"quantise it with MNN's own mnnquant first, or measure with fp32."
        )
    network.run_ms(n_warmup - (ops is not None))  # whoever told its ops has run once
    before = standard.run_ms(n_yardstick)
    whole: list[float] = []
    by_op: list[list[float]] = []
    n_whole = n_whole if profile and n_whole else n_runs
    for number in range(max(n_runs, n_whole)):
        whole += network.run_ms(int(number < n_whole))
        by_op += network.profile_ms(int(profile and number < n_runs))
    return {
        "yardstick_before_ms": before,
        "yardstick_after_ms": standard.run_ms(n_yardstick),
        "whole_ms": whole,
        "ops_ms": by_op,
        "ops": ops if describe else None,
        "memory_mb": network.memory_mb,
    }


_DO: dict[str, Callable[..., dict[str, Any]]] = {"hello": hello, "put": put, "visit": visit}


def _answer(line: str) -> dict[str, Any]:
    try:
        request = json.loads(line)
        return _DO[request.pop("do")](**request)
    except RunnerError as error:
        return {"error": str(error)}
    except Exception as error:  # whatever it is, the other side must hear of it
        return {"error": f"{type(error).__name__}: {error}"}


def main() -> None:
    """Serve until standard input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever MNN prints later is no answer
    for line in iter(sys.stdin.readline, ""):
        answers.write(json.dumps(_answer(line)) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
