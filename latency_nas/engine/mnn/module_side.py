"""MNN's modules on a device: they run networks with loops or branches, which a session does not.

It needs only MNN and the standard library of Python 3.8 or newer.
"""

from __future__ import annotations

import math
import mmap
import random
import struct
import time
from pathlib import Path
from typing import Any, Mapping, Sequence  # noqa: UP035 - Python 3.8

from latency_nas.engine.serving import RunnerError, no_garbage_collection, printed

__all__ = ["Module", "has_bodies"]

_OUTPUTS, _BODIES = 4, 10  # number of a field in the root table of a file
_N_DRAWN = 4099  # random numbers, repeated


def _vector(data: Any, number: int) -> tuple[int, int]:
    """Position of the first element of a vector in a file's root table, and its length; (0, 0) if it is absent."""
    root = struct.unpack_from("<I", data, 0)[0]
    fields = root - struct.unpack_from("<i", data, root)[0]
    slot = 4 + 2 * number
    offset = struct.unpack_from("<H", data, fields + slot)[0] if struct.unpack_from("<H", data, fields)[0] > slot else 0
    if not offset:
        return 0, 0
    start = root + offset + struct.unpack_from("<I", data, root + offset)[0]
    return start + 4, struct.unpack_from("<I", data, start)[0]


def has_bodies(path: str) -> bool:
    """Whether a ``.mnn`` file holds the bodies of loops or branches; False for a file that is none or is damaged."""
    try:
        with Path(path).open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _vector(data, _BODIES)[1] > 0
    except (OSError, ValueError, struct.error):
        return False


def _output_names(path: str) -> list[str]:
    names = []
    with Path(path).open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        first, count = _vector(data, _OUTPUTS)
        for at in range(first, first + 4 * count, 4):
            start = at + struct.unpack_from("<I", data, at)[0]
            names.append(data[start + 4 : start + 4 + struct.unpack_from("<I", data, start)[0]].decode())
    return names


class Module:
    """A network as one of MNN's modules, ready to run. It is timed whole; a call alone takes two microseconds.

    Weights are arranged when it is opened, as they are in a session.

    Args:
        path: Path of the ``.mnn`` file.
        config: Threads, precision and power mode, as a session takes them.
        seed: Seed of the random input.
    """

    memory_mb = None

    def __init__(self, path: str, config: Mapping[str, Any], seed: int = 0) -> None:
        import MNN.expr

        self._name = Path(path).name
        draw = random.Random(seed)  # noqa: S311 - activations
        with printed([]):
            try:
                variables = MNN.expr.load_as_dict(path)
                inputs = {name: each for name, each in variables.items() if each.op_type == "Input"}
                self._module = _opened(path, list(inputs), _output_names(path), config)
            except Exception as error:  # MNN raises nothing more specific
                raise RunnerError(f"MNN could not open {path}: it is truncated or no MNN model.") from error
            self._inputs = [_placeholder(MNN.expr, variable) for variable in inputs.values()]
            self._values = [_values(MNN.expr, variable, draw) for variable in self._inputs]

    @property
    def input_shape(self) -> list[int]:
        """Shape of the first input."""
        return list(self._inputs[0].shape)

    def executed(self) -> None:
        """None: a module does not report its ops."""

    def profile_ms(self, n_runs: int) -> None:
        """None: a module does not time its ops."""

    def run_ms(self, n_runs: int) -> list[float]:
        """Times of whole runs in milliseconds, without copies to and from the host."""
        times = []
        with no_garbage_collection():
            for _ in range(n_runs):
                for variable, values in zip(self._inputs, self._values):  # noqa: B905 - Python 3.8
                    variable.write(values)
                times.append(_timed_ms(self._module, self._inputs, self._name))
        return times


def _timed_ms(module: Any, inputs: Sequence[Any], name: str) -> float:
    start = time.perf_counter_ns()
    outputs = module.onForward(inputs)
    for output in outputs:
        _ = output.ptr  # waits until the output is computed
    taken_ms = (time.perf_counter_ns() - start) / 1e6
    if not outputs or not all(math.prod(output.shape) for output in outputs):
        raise RunnerError(f"MNN could not run {name}: it computed no output.")
    return taken_ms


def _opened(path: str, inputs: Sequence[str], outputs: Sequence[str], config: Mapping[str, Any]) -> Any:
    """The module. Its settings need a runtime of its own: without one, MNN takes four threads whatever is asked for."""
    import MNN.nn

    runtime = MNN.nn.create_runtime_manager((dict(config),))
    return MNN.nn.load_module_from_file(path, inputs, outputs, runtime_manager=runtime, rearrange=True)


def _placeholder(expr: Any, variable: Any) -> Any:
    return expr.placeholder(list(variable.shape), variable.data_format, variable.dtype)


def _values(expr: Any, variable: Any, draw: random.Random) -> list[float]:
    """Normally distributed floats for an input, or zeros if it holds integers."""
    size, floats = int(math.prod(variable.shape)), bool(variable.dtype == expr.float)
    few = [draw.gauss(0.0, 1.0) if floats else 0 for _ in range(min(size, _N_DRAWN))]
    return (few * -(-size // len(few)))[:size]
