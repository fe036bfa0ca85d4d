"""MNN's device side: a network in a session, or as a module if it has loops or branches.

It needs only MNN and the standard library of Python 3.8 or newer.
"""

from __future__ import annotations

import array
import contextlib
import ctypes
import importlib.util
import itertools
import math
import random
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable, Mapping, Sequence  # noqa: UP035 - Python 3.8

from latency_nas.engine.mnn.module_side import Module, has_bodies
from latency_nas.engine.serving import RunnerError, errors_in, no_garbage_collection, printed

__all__ = ["POWER_MODES", "PRECISIONS", "Network", "about", "opened"]

# Our name of a precision -> MNN's. MNN's "low" is fp16 on chips that have it and fp32 on others, and MNN does not say
# which it used. So fp16 is accepted only where MNN's own list of the chip's features has it.
# int8 is a property of the network: its quantised ops run in int8, the others in fp32.
PRECISIONS = {"fp32": "high", "fp16": "low", "int8": "high"}
POWER_MODES = ("normal", "high", "low")  # MNN's names for the cores of a big.LITTLE chip that its threads prefer
_CODES = {
    1: "out of memory", 2: "an op is not supported", 3: "the sizes of an op cannot be computed",
    4: "an op cannot be prepared", 5: "a value is invalid",
}  # fmt: skip
_N_DRAWN = 4099  # random numbers, repeated; a prime, so that the period differs from that of any layout

_loaded: dict[str, Any] = {}


def _mnn() -> Any:
    """The module `MNN`. Its banner lists the chip's features and is read on the first import."""
    if "mnn" not in _loaded:
        seen: list[str] = []
        try:
            with printed(seen):
                import MNN
        except ImportError as error:
            raise RunnerError(
                f"Expected MNN to be installed for {sys.executable}, but it is not ({error}): pip install MNN"
            ) from error
        _loaded.update(mnn=MNN, features=_features(seen[0]))
    return _loaded["mnn"]


def _features(banner: str) -> dict[str, int]:
    """Parse ``The device supports: i8sdot:0, fp16:0, i8mm: 0``; empty where MNN prints no such line."""
    return {name: int(has) for name, has in re.findall(r"(\w+): ?([01])\b", banner)}


def _features_of_chip() -> dict[str, int]:
    """The chip's features. A new interpreter prints the banner again if this process imported MNN before."""
    _mnn()
    if not _loaded["features"]:
        command = [sys.executable, "-c", "import MNN"]
        with contextlib.suppress(OSError):  # an emulator may be unable to start processes
            done = subprocess.run(command, stdout=subprocess.PIPE, check=False)  # noqa: S603 - this interpreter itself
            _loaded["features"] = _features(done.stdout.decode("utf-8", "replace"))
    return dict(_loaded["features"])


def about() -> dict[str, Any]:
    """The engine, its version, and the features that MNN reports for the chip (``{"fp16": 0, "i8sdot": 0}``)."""
    return {"engine": "MNN", "engine_version": str(_mnn().version()), "features": _features_of_chip()}


def _config(threads: int, precision: str, power_mode: str) -> dict[str, Any]:
    """The settings as MNN takes them, checked."""
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
    if precision == "fp16" and not _features_of_chip().get("fp16"):
        raise RunnerError(
            "Expected a chip with fp16 arithmetic for `precision` fp16, but MNN says that this one has none: "
            "it would compute in fp32 and not say so. Measure with fp32."
        )
    return {"backend": "CPU", "numThread": threads, "precision": PRECISIONS[precision], "power": power_mode}


def opened(path: str, threads: int = 1, precision: str = "fp32", power_mode: str = "normal") -> Network | Module:
    """A network, ready to run. MNN runs no loops and branches in a session."""
    if not has_bodies(path):
        return Network(path, threads, precision, power_mode)
    _mnn()
    return Module(path, _config(threads, precision, power_mode))


class Network:
    """A network in one MNN session, ready to run.

    Args:
        path: Path of the ``.mnn`` file.
        threads: Number of threads of the session.
        precision: Precision of the arithmetic, one of `PRECISIONS`.
        power_mode: Cores to prefer, one of `POWER_MODES`.
        seed: Seed of the random input.
        shapes: Sizes of inputs that differ from the file's, by name.
    """

    def __init__(
        self,
        path: str,
        threads: int = 1,
        precision: str = "fp32",
        power_mode: str = "normal",
        seed: int = 0,
        shapes: Mapping[str, Sequence[int]] | None = None,
    ) -> None:
        mnn, config = _mnn(), _config(threads, precision, power_mode)
        self._path = path
        self._printed: list[str] = []
        with printed(self._printed):
            try:
                if not Path(path).stat().st_size:
                    raise OSError("it is empty")
                self._interpreter = mnn.Interpreter(path)
            except Exception as error:  # MNN raises nothing more specific
                raise RunnerError(
                    f"MNN {mnn.version()} could not open {path}: it is missing, truncated or no MNN model."
                ) from error
            self._interpreter.setSessionMode(0)  # ops can be timed in this mode; it is as fast as the default
            self._session = self._interpreter.createSession(config)
            if shapes:
                self._resize(shapes)
        draw = random.Random(seed)  # noqa: S311 - activations
        tensors = self._interpreter.getSessionInputAll(self._session).values()
        plain = precision == "fp32" and all(t.getDimensionType() == mnn.Tensor_DimensionType_Caffe for t in tensors)
        if not plain and importlib.util.find_spec("numpy") is None:
            raise RunnerError(
                f"Expected numpy to be installed for {sys.executable}, since {path} is run in fp16 or its inputs "
                f"are not laid out plainly, but it is not: pip install numpy"
            )
        self._inputs = [_filler(mnn, tensor, draw) for tensor in tensors]
        if precision == "int8" and not any("INT8" in op[1] for op in self.executed()):
            raise RunnerError(
                f"Expected a quantised network for `precision` int8, but MNN runs no int8 op of "
                f"{Path(path).resolve()}: quantise it with MNN's own mnnquant first, or measure with fp32."
            )

    def _resize(self, shapes: Mapping[str, Sequence[int]]) -> None:
        inputs = self._interpreter.getSessionInputAll(self._session)
        for name, shape in shapes.items():
            self._interpreter.resizeTensor(inputs[name], tuple(shape))
        self._interpreter.resizeSession(self._session)

    @property
    def input_shape(self) -> list[int]:
        """Shape of the first input."""
        return list(self._interpreter.getSessionInput(self._session).getShape())

    @property
    def input_addresses(self) -> list[int]:
        """Addresses of the inputs, as `tensors` names them."""
        return [_address(tensor) for tensor in self._interpreter.getSessionInputAll(self._session).values()]

    @property
    def memory_mb(self) -> float:
        """Peak memory of the session for weights and activations, as MNN counts it."""
        return float(self._interpreter.getSessionInfo(self._session, 0))

    def _fill(self) -> None:
        """Write the inputs. Each run needs them again, since a session reuses their memory."""
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
        self._check(self._interpreter.runSessionWithCallBackInfo(self._session, before, after))
        return ops

    def tensors(self) -> list[dict[str, Any]]:
        """Every op of one run, in order: ``name``, ``type``, and the tensors that it ``reads`` and ``writes``.

        A tensor is ``[shape, whether it holds floats, address]``. The last op that wrote to an address made the tensor
        that is read there; constants and inputs are written by no op.
        """
        floats = _mnn().Halide_Type_Float
        ops: list[dict[str, Any]] = []

        def described(tensors: Any) -> list[list[Any]]:
            return [[list(t.getShape()), t.getDataType() == floats, _address(t)] for t in tensors]

        def before(tensors: Any, info: Any) -> bool:
            ops.append({"name": info.getName(), "type": info.getType(), "reads": described(tensors)})
            return True

        def after(tensors: Any, _: Any) -> bool:
            ops[-1]["writes"] = described(tensors)
            return True

        self._fill()
        self._check(self._interpreter.runSessionWithCallBackInfo(self._session, before, after))
        return ops

    def _check(self, code: int) -> None:
        """Refuse a failed run: MNN opens networks whose sizes it cannot compute, and then "runs" them in no time."""
        if code:
            meaning = f" ({_CODES[code]})" if code in _CODES else ""
            said = errors_in(self._printed)
            raise RunnerError(
                f"MNN {_mnn().version()} could not run {Path(self._path).name}: its error code is {code}{meaning}"
                f"{f', and it prints: {said}' if said else ''}."
            )

    def run_ms(self, n_runs: int) -> list[float]:
        """Times of whole runs in milliseconds, without copies to and from the host."""
        times = []
        with no_garbage_collection():
            for _ in range(n_runs):
                self._fill()
                start = time.perf_counter_ns()
                code = self._interpreter.runSession(self._session)
                times.append((time.perf_counter_ns() - start) / 1e6)
                self._check(code)
        return times

    def profile_ms(self, n_runs: int) -> list[list[float]]:
        """Times of each op in each run in milliseconds, with the callbacks, of shape ``(n_runs, n_ops)``."""
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
        with no_garbage_collection():
            for _ in range(n_runs):
                self._fill()
                del starts[:], ends[:]
                self._interpreter.runSessionWithCallBackInfo(self._session, before, after)
                runs.append([(end - start) / 1e6 for start, end in zip(starts, ends)])  # noqa: B905 - Python 3.8
        return runs


def _filler(mnn: Any, tensor: Any, draw: random.Random) -> Callable[[], Any]:
    """A function that fills an input with normally distributed floats, or with zeros if it holds integers."""
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
    """The address of a session's tensor. Without numpy, any ``MNN.Tensor(...)`` of MNN 3.6 crashes."""
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    return int(pointer(tensor.getHost(), None))
